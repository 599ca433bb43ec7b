"""What a run may not ask of the kernel: a seccomp filter, built once as raw BPF and put on in every child.

Two purposes. *No network*: sockets of the internet families fail with ENETUNREACH ("Network is unreachable" reads best
in a program's traceback), others but AF_UNIX with EAFNOSUPPORT; a NetworkPolicy is the fence, this is the answer that a
program understands and it holds where no policy is enforced. *No reach*: system calls that look into or steer another
process, or hand data from one run to the next, are refused, even those that a container's default profile leaves open
(`prlimit` on the server's pid once broke it). Not covered here: signals and files of other processes (Landlock).

The program checks the architecture first, since numbers differ between them, then compares the number with each rule.
Pure until `Sandbox.enter`; tests run the program in a small interpreter as well as in the kernel.
"""

import ctypes
import errno
import platform
from dataclasses import dataclass
from struct import pack

_LD, _JEQ, _JGE, _RET = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data."""
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000

_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_X32_BIT = 0x40000000

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 36, 38
_MODE_FILTER = 2


class SandboxError(OSError):
    """The kernel did not accept the filter: no code may run."""


@dataclass(frozen=True)
class Machine:
    """Numbers of one architecture: (audit id, system calls by name, has an x32 twin)."""

    audit: int
    calls: dict[str, int]
    x32: bool


# Numbers from the kernel's syscall tables; aarch64 uses the generic one.
_X86_64 = Machine(
    audit=0xC000003E,
    x32=True,
    calls={
        "shmget": 29, "shmat": 30, "shmctl": 31, "socket": 41, "semget": 64, "semop": 65, "semctl": 66, "shmdt": 67,
        "msgget": 68, "msgsnd": 69, "msgrcv": 70, "msgctl": 71, "ptrace": 101, "setpriority": 141,
        "sched_setparam": 142, "sched_setscheduler": 144, "sched_setaffinity": 203, "semtimedop": 220, "mq_open": 240,
        "mq_unlink": 241, "mq_timedsend": 242, "mq_timedreceive": 243, "mq_notify": 244, "mq_getsetattr": 245,
        "add_key": 248, "request_key": 249, "keyctl": 250, "ioprio_set": 251, "inotify_init": 253,
        "inotify_add_watch": 254, "migrate_pages": 256, "unshare": 272, "move_pages": 279, "inotify_init1": 294,
        "perf_event_open": 298, "fanotify_init": 300, "prlimit64": 302, "setns": 308, "process_vm_readv": 310,
        "process_vm_writev": 311, "kcmp": 312, "sched_setattr": 314, "bpf": 321, "userfaultfd": 323,
        "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "pidfd_getfd": 438,
        "process_madvise": 440, "memfd_secret": 447,
    },
)  # fmt: skip
_AARCH64 = Machine(
    audit=0xC00000B7,
    x32=False,
    calls={
        "inotify_init1": 26, "inotify_add_watch": 27, "ioprio_set": 30, "unshare": 97, "ptrace": 117,
        "sched_setparam": 118, "sched_setscheduler": 119, "sched_setaffinity": 122, "setpriority": 140, "mq_open": 180,
        "mq_unlink": 181, "mq_timedsend": 182, "mq_timedreceive": 183, "mq_notify": 184, "mq_getsetattr": 185,
        "msgget": 186, "msgctl": 187, "msgrcv": 188, "msgsnd": 189, "semget": 190, "semctl": 191, "semtimedop": 192,
        "semop": 193, "shmget": 194, "shmctl": 195, "shmat": 196, "shmdt": 197, "socket": 198, "add_key": 217,
        "request_key": 218, "keyctl": 219, "migrate_pages": 238, "move_pages": 239, "perf_event_open": 241,
        "prlimit64": 261, "fanotify_init": 262, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271,
        "kcmp": 272, "sched_setattr": 274, "bpf": 280, "userfaultfd": 282, "io_uring_setup": 425,
        "io_uring_enter": 426, "io_uring_register": 427, "pidfd_getfd": 438, "process_madvise": 440,
        "memfd_secret": 447,
    },
)  # fmt: skip
MACHINES = {"x86_64": _X86_64, "aarch64": _AARCH64}

# (argument, the only value allowed) of calls that name a process: 0 is the caller itself.
_ONLY = {
    "prlimit64": ((0, 0),),
    "sched_setaffinity": ((0, 0),),
    "sched_setscheduler": ((0, 0),),
    "sched_setparam": ((0, 0),),
    "sched_setattr": ((0, 0),),
    "setpriority": ((0, 0), (1, 0)),  # PRIO_PROCESS: a group or a user would be others too
    "ioprio_set": ((0, 1), (1, 0)),  # IOPRIO_WHO_PROCESS
}
# Programs fall back when these do not exist; the others are refused aloud.
_ABSENT = frozenset({
    "inotify_init", "inotify_init1", "inotify_add_watch", "fanotify_init", "io_uring_setup", "io_uring_enter",
    "io_uring_register", "memfd_secret", "userfaultfd",
})  # fmt: skip


def _statement(code: int, k: int) -> bytes:
    return pack("HBBI", code, 0, 0, k)


def _unless(value: int, skip: int) -> bytes:
    """Continue with the next instruction when the accumulator equals `value`, else skip `skip`."""
    return pack("HBBI", _JEQ, 0, skip, value)


def _refuse(error: int) -> bytes:
    return _statement(_RET, _ERRNO | error)


def _argument(index: int) -> bytes:
    """Load the low half of an argument: the kernel takes int for all those compared here."""
    return _statement(_LD, _ARGUMENTS + 8 * index)


def _rule(name: str, *, internet: bool) -> list[bytes]:
    """Return what is done once the number is that of `name`; always ends with a return."""
    if name == "socket":
        families = (_AF_UNIX, _AF_INET, _AF_INET6) if internet else (_AF_UNIX,)
        body = [_argument(0)]
        for family in families:
            body += [_unless(family, 1), _statement(_RET, _ALLOW)]
        for family in set(_ONLY_INTERNET) - set(families):
            body += [_unless(family, 1), _refuse(errno.ENETUNREACH)]
        return [*body, _refuse(errno.EAFNOSUPPORT)]
    if name in _ONLY:
        body = []
        for index, value in _ONLY[name]:
            body += [_argument(index), pack("HBBI", _JEQ, 1, 0, value), _refuse(errno.EPERM)]
        return [*body, _statement(_RET, _ALLOW)]
    return [_refuse(errno.ENOSYS if name in _ABSENT else errno.EPERM)]


_ONLY_INTERNET = (_AF_INET, _AF_INET6)


def build(machine: Machine, *, internet: bool) -> bytes:
    """Return the BPF program for an architecture. Pure."""
    program = [_statement(_LD, _ARCH), pack("HBBI", _JEQ, 1, 0, machine.audit), _statement(_RET, _KILL)]
    program.append(_statement(_LD, _NUMBER))
    if machine.x32:
        program += [pack("HBBI", _JGE, 0, 1, _X32_BIT), _refuse(errno.ENOSYS)]
    for name, number in machine.calls.items():
        body = _rule(name, internet=internet)
        program += [_unless(number, len(body)), *body]
    return b"".join([*program, _statement(_RET, _ALLOW)])


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: object, third: int = 0) -> None:
    pointer = value if not isinstance(value, int) else ctypes.c_ulong(value)
    if _libc.prctl(option, pointer, ctypes.c_ulong(third), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        raise SandboxError(ctypes.get_errno(), f"prctl {option} was refused")


class Sandbox:
    """The filter, held in memory as the kernel wants it, so that entering it costs two system calls."""

    def __init__(self, *, internet: bool) -> None:
        machine = MACHINES.get(platform.machine())
        if machine is None:
            raise SandboxError(errno.ENOSYS, f"no filter for the architecture {platform.machine()}")
        program = build(machine, internet=internet)
        self._memory = ctypes.create_string_buffer(program, len(program))
        self._program = _Program(len(program) // 8, ctypes.addressof(self._memory))

    def enter(self) -> None:
        """Put the filter on this process for good, and on all that it will start.

        Raises:
            SandboxError: when the kernel refuses; the caller must not run code then.
        """
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(self._program))


def adopt_orphans() -> None:
    """Become the parent of every orphan below this process, so that none escapes the walk that ends them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(number: int) -> None:
    """Get this signal when the process that forked this one ends."""
    _prctl(_PR_SET_PDEATHSIG, number)


def set_dumpable(dumpable: bool) -> None:
    """Say whether processes of this user may look into this one through /proc and ptrace."""
    _prctl(_PR_SET_DUMPABLE, int(dumpable))
