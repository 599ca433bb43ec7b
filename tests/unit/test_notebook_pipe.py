"""An event leaves whole, whatever interrupts the one who writes it."""

import os
import signal
import threading
import time
from contextlib import contextmanager

import pytest

from execpool.executor.runner import display_pipe

LONG = b"x" * (1 << 20) + b"\n"


class ImpatienceError(Exception):
    """What a program's own time limit raises."""


@contextmanager
def pipe():
    take, give = os.pipe()
    try:
        yield take, give
    finally:
        os.close(take)
        os.close(give)


@contextmanager
def handled(number, error):
    def handler(*_):
        raise error

    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def read(take, size):
    got = b""
    while len(got) < size:
        got += os.read(take, 1 << 16)
    return got


def reading(take, size, got, after=0.0):
    def work():
        time.sleep(after)
        got.append(read(take, size))

    thread = threading.Thread(target=work)
    # A thread with signals blocked, so that they go to the main one, as in a program without threads.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGALRM})
    thread.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGALRM})
    return thread


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGALRM, ImpatienceError)])
def test_an_interrupt_waits_until_the_event_is_written(number, error):
    got: list[bytes] = []
    with pipe() as (take, give), handled(number, error):
        thread = reading(take, len(LONG), got, after=0.3)
        threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
        with pytest.raises(error):
            display_pipe.write(give, LONG)
        thread.join()
    assert got == [LONG]


def test_an_interrupt_that_another_thread_takes_waits_too():
    got: list[bytes] = []
    with pipe() as (take, give), handled(signal.SIGINT, KeyboardInterrupt):
        thread = reading(take, len(LONG), got, after=0.3)
        other = threading.Thread(target=time.sleep, args=(0.5,))
        other.start()
        threading.Timer(0.1, signal.pthread_kill, (other.ident, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            display_pipe.write(give, LONG)
        thread.join()
        other.join()
    assert got == [LONG]


def test_the_signals_of_a_program_are_as_before_after_it():
    with pipe() as (take, give):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        try:
            display_pipe.write(give, b"1\n")
            assert signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, ())
            assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        assert os.read(take, 9) == b"1\n"


def test_events_of_several_threads_do_not_mix():
    got: list[bytes] = []
    lines = [bytes([65 + number]) * 300_000 + b"\n" for number in range(6)]
    with pipe() as (take, give):
        reader = reading(take, sum(map(len, lines)), got)
        writers = [threading.Thread(target=display_pipe.write, args=(give, line)) for line in lines]
        for writer in writers:
            writer.start()
        for writer in (*writers, reader):
            writer.join()
    assert sorted(got[0].splitlines(keepends=True)) == lines


def test_a_descriptor_that_the_program_has_closed_is_no_error():
    take, give = os.pipe()
    os.close(take)
    os.close(give)
    display_pipe.write(give, b"1\n")
    with pipe() as (take, give):
        another = threading.Thread(target=display_pipe.write, args=(give, b"2\n"))
        another.start()
        another.join()
        assert os.read(take, 9) == b"2\n"


def test_a_child_that_was_forked_while_another_thread_writes_can_write():
    got: list[bytes] = []
    with pipe() as (take, give):
        writer = threading.Thread(target=display_pipe.write, args=(give, LONG))
        writer.start()
        time.sleep(0.05)  # it holds the turn and waits for a reader
        pid = os.fork()
        if pid == 0:
            signal.alarm(5)
            display_pipe.write(os.open(os.devnull, os.O_WRONLY), b"1\n")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        reader = reading(take, len(LONG), got)
        writer.join()
        reader.join()
    assert got == [LONG]
