"""Parts of the kernel that no program of a notebook needs: only the calls, which must be refused."""

from tests.hostile.model import WELL, Program

KIND = "kernel surface"

_CALL = """
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == 'x86_64'
def call(what, x86_number, other_number, *arguments):
    number = x86_number if x86 else other_number
    got = libc.syscall(number, *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    error = ctypes.get_errno()
    print(what, got, os.strerror(error) if got < 0 else '')
    if got >= 0: escaped(what, got)
    return got, error
def refused(what, x86_number, other_number, *arguments):
    # The call must be refused as such, not for its arguments: EFAULT or EINVAL would mean that it got through.
    got, error = call(what, x86_number, other_number, *arguments)
    if error not in (1, 13, 38): escaped(what + ' was looked at', error)
buffer = ctypes.create_string_buffer(4096)
"""

PROGRAMS = (
    Program("io_uring", KIND, _CALL + "refused('setup', 425, 425, 8, buffer)\nrefused('enter', 426, 426, 0, 0, 0, 0, None, 0)\nrefused('register', 427, 427, 0, 0, None, 0)", WELL),
    Program("userfaultfd", KIND, _CALL + "refused('userfaultfd', 323, 282, 1)\nattempt('device', open, '/dev/userfaultfd')", WELL),
    Program("bpf", KIND, _CALL + "for command in (0, 5, 18): refused(f'bpf {command}', 321, 280, command, buffer, 120)", WELL),
    Program("perf_event_open", KIND, _CALL + "refused('perf', 298, 241, buffer, 0, -1, -1, 0)", WELL),
    Program("keys", KIND, _CALL + "refused('add_key', 248, 217, b'user', b'x', b'secret', 6, -3)\nrefused('request_key', 249, 218, b'user', b'x', None, -3)\nrefused('keyctl', 250, 219, 0, -3, 0)", WELL),
    Program("user namespace", KIND, _CALL + "for flag in (0x10000000, 0x20000000, 0x40000000, 0x20000, 0x4000000, 0x8000000, 0x2000000):\n    refused(f'unshare {flag:x}', 272, 97, flag)", WELL),
    Program("clone into new namespaces", KIND, _CALL + "for flag in (0x10000000, 0x20000000, 0x40000000):\n    got, error = call(f'clone {flag:x}', 56, 220, flag | 17, 0, 0, 0, 0)\n    if got == 0: os._exit(0)\nargs = ctypes.create_string_buffer((0x10000000).to_bytes(8, 'little') + bytes(56) , 64)\nrefused('clone3', 435, 435, args, 64)", WELL),
    Program("joining namespaces", KIND, _CALL + "import glob\nfor path in glob.glob('/proc/*/ns/*')[:40]:\n    try: fd = os.open(path, os.O_RDONLY)\n    except OSError: continue\n    refused('setns ' + path, 308, 268, fd, 0)\n    os.close(fd)\nrefused('setns', 308, 268, 0, 0)", WELL),
    Program("tracing and its relatives", KIND, _CALL + "refused('ptrace', 101, 117, 16, os.getppid(), 0, 0)\nrefused('pidfd_getfd', 438, 438, 0, 0, 0)\nrefused('kcmp', 312, 272, os.getpid(), os.getppid(), 0, 0, 0)\nrefused('process_madvise', 440, 440, 0, None, 0, 0, 0)", WELL),
    Program("memory of other processes", KIND, _CALL + "pair = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)\nfor pid in (os.getppid(), 1, $SERVER_PID):\n    refused(f'readv {pid}', 310, 270, pid, pair, 1, pair, 1, 0)\n    refused(f'writev {pid}', 311, 271, pid, pair, 1, pair, 1, 0)", WELL),
    Program("files by handle", KIND, _CALL + "handle = ctypes.create_string_buffer(b'\\x80\\0\\0\\0' + bytes(140))\nrefused('open', 304, 265, -100, handle, 0)\nrefused('name', 303, 264, -100, b'/', handle, buffer, 0)", WELL),
    Program("splice into the kernel's cryptography", KIND, _CALL + "import socket\na = attempt('alg', socket.socket, 38, socket.SOCK_SEQPACKET)\nr, w = os.pipe()\nos.write(w, b'x' * 64)\nprint(os.splice(r, os.open('f', os.O_CREAT | os.O_WRONLY), 64))", WELL),
    Program("mounts by descriptor", KIND, _CALL + "refused('fsopen', 430, 430, b'tmpfs', 0)\nrefused('open_tree', 428, 428, -100, b'/', 1)\nrefused('move_mount', 429, 429, 0, b'', 0, b'', 0)\nrefused('pivot_root', 155, 41, b'.', b'.')", WELL),
    Program("modules, kexec, reboot, clock", KIND, _CALL + "refused('init_module', 175, 105, buffer, 8, b'')\nrefused('finit_module', 313, 273, 0, b'', 0)\nrefused('kexec_load', 246, 104, 0, 0, None, 0)\nrefused('reboot', 169, 142, 0, 0, 0, None)\nrefused('clock_settime', 227, 112, 0, buffer)\nrefused('sethostname', 170, 161, b'x', 1)\nrefused('syslog', 103, 116, 3, buffer, 8)", WELL),
    Program("shared memory of System V, message queues, notification", KIND, _CALL + "refused('shmget', 29, 194, 42, 4096, 0o1666)\nrefused('semget', 64, 190, 42, 1, 0o1666)\nrefused('msgget', 68, 186, 42, 0o1666)\nrefused('mq_open', 240, 180, b'x', 0o102, 0o666, None)\nrefused('inotify', 294, 26, 0)\nrefused('fanotify', 300, 262, 0, 0)\nrefused('memfd_create', 319, 279, b'x', 0)\nrefused('memfd_secret', 447, 447, 0)\nrefused('move_pages', 279, 239, os.getppid(), 0, None, None, None, 0)", WELL),
    Program("the 32-bit calls and x32", KIND, _CALL + "got = libc.syscall(ctypes.c_long(0x40000000 + 39))\nif x86 and got > 0: escaped('x32', got)", frozenset({"Succeeded", "Killed"})),
    Program("limits, priority and affinity of others", KIND, _CALL + "for pid in (os.getppid(), 1, $SERVER_PID):\n    refused(f'prlimit {pid}', 302, 261, pid, 7, None, buffer)\n    refused(f'affinity {pid}', 203, 122, pid, 8, buffer)\n    refused(f'scheduler {pid}', 144, 119, pid, 5, buffer)\nrefused('nice of all', 141, 140, 2, 0, 19)\nrefused('ioprio', 251, 30, 2, 0, 0)", WELL),
)  # fmt: skip
