"""What a Monty worker may ask of the kernel: almost nothing. This is the filter; `worker` adds Landlock and limits.

Monty needs 40 system calls, so its filter is an allow-list, where that of a Python run must be a list of refusals. No
socket of any family, no new process (only threads), no file but those that the program loader reads, nothing written,
no signal out of its own domain. `execve` must stay, since it comes after the filter; Landlock leaves it two programs,
Monty's own and the loader.
"""

import ctypes
import errno
import platform
from dataclasses import dataclass
from struct import pack

from execpool.executor.runner import sandbox

_LD, _JEQ, _JSET, _RET = 0x20, 0x15, 0x45, 0x06
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_CLONE_THREAD = 0x00010000


@dataclass(frozen=True)
class Machine:
    """Numbers of one architecture."""

    audit: int
    allowed: tuple[int, ...]
    of_self: tuple[int, ...]
    """Allowed when the first argument is 0: the caller itself."""
    clone: int
    clone3: int = 435
    """Refused as absent, so that the C library falls back to `clone`, whose flags a filter can see."""


# read write close fstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn ioctl pread64 readv
# writev access sched_yield mremap madvise nanosleep getpid execve exit uname fcntl readlink gettimeofday getrusage
# sigaltstack prctl arch_prctl gettid futex set_tid_address restart_syscall clock_gettime clock_nanosleep exit_group
# tgkill openat newfstatat readlinkat faccessat ppoll set_robust_list getrandom statx rseq faccessat2
_X86_64 = Machine(
    audit=0xC000003E,
    allowed=(
        0, 1, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19, 20, 21, 24, 25, 28, 35, 39, 59, 60, 63, 72, 89, 96, 98,
        131, 157, 158, 186, 202, 218, 219, 228, 230, 231, 234, 257, 262, 267, 269, 271, 273, 318, 332, 334, 439,
    ),
    of_self=(204, 302),
    clone=56,
)  # fmt: skip
_AARCH64 = Machine(
    audit=0xC00000B7,
    allowed=(
        25, 29, 48, 56, 57, 62, 63, 64, 65, 66, 67, 73, 78, 79, 80, 93, 94, 96, 98, 99, 101, 113, 115, 124, 128, 131,
        132, 134, 135, 139, 160, 165, 167, 169, 172, 178, 214, 215, 216, 221, 222, 226, 233, 278, 291, 293, 439,
    ),
    of_self=(123, 261),
    clone=220,
)  # fmt: skip
MACHINES = {"x86_64": _X86_64, "aarch64": _AARCH64}

_MODE_FILTER = 2


def build(machine: Machine) -> bytes:
    """Return the BPF program. Pure."""

    def statement(code: int, k: int) -> bytes:
        return pack("HBBI", code, 0, 0, k)

    def unless(value: int, skip: int) -> bytes:
        return pack("HBBI", _JEQ, 0, skip, value)

    program = [statement(_LD, _ARCH), pack("HBBI", _JEQ, 1, 0, machine.audit), statement(_RET, _KILL)]
    program.append(statement(_LD, _NUMBER))
    for number in machine.allowed:
        program += [unless(number, 1), statement(_RET, _ALLOW)]
    program += [unless(machine.clone3, 1), statement(_RET, _ERRNO | errno.ENOSYS)]
    program += [unless(machine.clone, 3), statement(_LD, _FIRST_ARGUMENT)]
    program += [pack("HBBI", _JSET, 0, 1, _CLONE_THREAD), statement(_RET, _ALLOW)]
    for number in machine.of_self:
        # After clone's argument was loaded the number is loaded again; the rule above fell through otherwise.
        program += [statement(_LD, _NUMBER), unless(number, 3), statement(_LD, _FIRST_ARGUMENT)]
        program += [unless(0, 1), statement(_RET, _ALLOW)]
    return b"".join([*program, statement(_RET, _ERRNO | errno.EPERM)])


def enter_filter() -> None:
    """Put the filter on this process for good.

    Raises:
        SandboxError: the kernel refuses, or the architecture is unknown.
    """

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    machine = MACHINES.get(platform.machine())
    if machine is None:
        raise sandbox.SandboxError(errno.ENOSYS, f"no filter for the architecture {platform.machine()}")
    text = build(machine)
    memory = ctypes.create_string_buffer(text, len(text))
    program = Program(len(text) // 8, ctypes.addressof(memory))
    sandbox.no_new_privileges()
    sandbox.prctl(sandbox.PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program))
