"""What a run may not ask of the kernel: a seccomp filter, built once as raw BPF and put on in every child.

Two purposes. *No network*: sockets of the internet families fail with ENETUNREACH ("Network is unreachable" reads best
in a program's traceback), others but AF_UNIX with EAFNOSUPPORT; a NetworkPolicy is the fence, this is the answer that a
program understands and it holds where no policy is enforced. *No reach*: system calls that look into or steer another
process, or hand data from one run to the next, are refused, even those that a container's default profile leaves open
(`prlimit` on the server's pid once broke it). *No memory out of sight*: what is written to a memory file counts for no
limit of a process and in no process' size, so that the kernel, out of memory, ended a supervisor in the writer's place.
Libraries fall back to files in /dev/shm or in their scratch directory, which are bounded. Not covered here: signals and
files of other processes (Landlock).

The program checks the architecture first, since numbers differ between them, then compares the number with each rule.
Pure until `Filter.enter`; tests run the program in a small interpreter as well as in the kernel.
"""

import ctypes
import errno
import platform
from dataclasses import dataclass
from struct import pack

from execpool.executor.runner import sandbox

_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data."""
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000

_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_X32_BIT = 0x40000000
_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""

_MODE_FILTER = 2


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
        "process_madvise": 440, "memfd_create": 319, "memfd_secret": 447, "clone": 56, "clone3": 435, "syslog": 103,
        "pivot_root": 155, "chroot": 161, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168,
        "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "init_module": 175,
        "delete_module": 176, "quotactl": 179, "clock_settime": 227, "kexec_load": 246, "fanotify_mark": 301,
        "name_to_handle_at": 303, "open_by_handle_at": 304, "finit_module": 313, "kexec_file_load": 320,
        "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
        "mount_setattr": 442,
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
        "memfd_create": 279, "memfd_secret": 447, "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51,
        "quotactl": 60, "acct": 89,
        "kexec_load": 104, "init_module": 105, "delete_module": 106, "clock_settime": 112, "syslog": 116,
        "reboot": 142, "sethostname": 161, "setdomainname": 162, "settimeofday": 170, "clone": 220, "swapon": 224,
        "swapoff": 225, "fanotify_mark": 263, "name_to_handle_at": 264, "open_by_handle_at": 265,
        "finit_module": 273, "kexec_file_load": 294, "open_tree": 428, "move_mount": 429, "fsopen": 430,
        "fsconfig": 431, "fsmount": 432, "fspick": 433, "clone3": 435, "mount_setattr": 442,
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
# Programs fall back when these do not exist; the others are refused aloud. (The flags of clone3 are in memory, where a
# filter cannot look; the C library then uses clone, whose flags it can.)
_ABSENT = frozenset({
    "inotify_init", "inotify_init1", "inotify_add_watch", "fanotify_init", "io_uring_setup", "io_uring_enter",
    "io_uring_register", "memfd_create", "memfd_secret", "userfaultfd", "clone3", "fanotify_mark",
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
    if name == "clone":
        return [
            _argument(0),
            pack("HBBI", _JSET, 0, 1, _NEW_NAMESPACES),
            _refuse(errno.EPERM),
            _statement(_RET, _ALLOW),
        ]
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


class Filter:
    """The filter, held in memory as the kernel wants it, so that entering it costs two system calls."""

    def __init__(self, *, internet: bool) -> None:
        machine = MACHINES.get(platform.machine())
        if machine is None:
            raise sandbox.SandboxError(errno.ENOSYS, f"no filter for the architecture {platform.machine()}")
        program = build(machine, internet=internet)
        self._memory = ctypes.create_string_buffer(program, len(program))
        self._program = _Program(len(program) // 8, ctypes.addressof(self._memory))

    def enter(self) -> None:
        """Put the filter on this process for good, and on all that it will start.

        Raises:
            SandboxError: when the kernel refuses; the caller must not run code then.
        """
        sandbox.no_new_privileges()
        sandbox.prctl(sandbox.PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(self._program))
