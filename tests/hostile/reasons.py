"""Why a stateless run sees nothing of the one before it, by channel: for the reader of docs/hostile-programs.md."""

_OWN_DIRECTORY = "a directory of its own for every run, removed at its end; no other run's can be listed"
_FRESH = "every run is a fork of a process that has run no code"
_ENDED = "everything that a run started has ended before the next one may use its slot"
_NO_SYSTEM_V = "the filter refuses the calls"
_READ_ONLY = "the image is read-only, and Landlock lets nothing write there"

WHY = {
    "working directory": _OWN_DIRECTORY,
    "HOME": _OWN_DIRECTORY,
    "TMPDIR": _OWN_DIRECTORY,
    "System V shared memory": _NO_SYSTEM_V,
    "System V semaphores": _NO_SYSTEM_V,
    "System V messages": _NO_SYSTEM_V,
    "POSIX message queue": _NO_SYSTEM_V,
    "abstract socket": f"{_ENDED}; Landlock keeps abstract sockets of runs apart even while both go on",
    "TCP listener": "the filter refuses internet sockets",
    "background process": _ENDED,
    "daemon": f"{_ENDED}, whatever session it chose",
    "thread": _FRESH,
    "exit function": _FRESH,
    "environment": _FRESH,
    "umask": _FRESH,
    "resource limits": f"{_FRESH}; limits of other processes cannot be set",
    "signal mask and handlers": _FRESH,
    "patched modules": _FRESH,
    "site-packages": _READ_ONLY,
    "bytecode caches": f"{_READ_ONLY}, and Python is told to write none",
    "import caches": _FRESH,
    "random numbers": f"{_FRESH}, and is seeded anew after the fork",
    "locale and time zone": _FRESH,
    "open descriptors": f"{_FRESH}, and everything but its own four is closed",
    "kernel keyring": "the filter refuses the calls",
    "cache of pip and of fonts": _OWN_DIRECTORY,
    "a file of the image, in the page cache": _READ_ONLY,
}
