"""Writes one event to the report pipe, whole or not at all, whatever interrupts the program.

A handler of a signal may raise (KeyboardInterrupt, a time limit of the program's own), and a write of which a part has
left would then stay a part. So signals wait while an event is written: all of it goes in one `write`, which a pipe in
blocking mode takes whole unless a signal comes, and none comes to this thread. Handlers run before it or after it.
Threads of a program take turns, since a pipe does not keep long writes apart.
"""

import ctypes
import os
import signal
import threading
from contextlib import suppress

_TURN = threading.RLock()
"""Re-entrant: a handler that displays something may run between the end of a write and the release of this."""

# By libc, since Python's own makes sets of enums on each call: 2 microseconds instead of 50.
_mask = ctypes.CDLL(None).pthread_sigmask
_Mask = ctypes.c_ulong * (128 // ctypes.sizeof(ctypes.c_ulong))
"""glibc's `sigset_t`, of which the kernel uses the first 64 bits."""
_ALL = _Mask()
ctypes.CDLL(None).sigfillset(_ALL)


def write(descriptor: int, line: bytes) -> None:
    """Write a line; a program that closed the descriptor has chosen to report nothing."""
    before = _Mask()
    _mask(signal.SIG_BLOCK, None, before)
    try:
        _mask(signal.SIG_BLOCK, _ALL, None)
        with _TURN, suppress(OSError):
            _write_all(descriptor, memoryview(line))
    finally:
        _mask(signal.SIG_SETMASK, before, None)


def _write_all(descriptor: int, rest: memoryview) -> None:
    while rest:  # once, unless the program has changed the descriptor to one that takes parts
        rest = rest[os.write(descriptor, rest) :]


def _renew() -> None:
    """A child of a program has one thread, and the turn of another is never given back in it."""
    global _TURN  # noqa: PLW0603 - belongs to the process
    _TURN = threading.RLock()


os.register_at_fork(after_in_child=_renew)
