"""The process that runs code: made safe, then parked; takes one request, or one after the other when it is a context.

    forked by a supervisor -> isolate -> touch what a first use would have to copy -> "ready" -> wait for a request
    Run       request -> run -> Done on the report pipe -> exit (giving back its memory takes longer than a short run);
              what has started processes says nothing and is over when the supervisor has ended them
    Context   request -> run -> Done on the report pipe -> wait for the next; ends when the server closes its end

Descriptors: 0 empty, 1 and 2 output, 3 the report; a context also keeps 4, where its requests come from. An error of ours
before the code ends the process with `BROKEN`, and the supervisor then parks no more.
"""

import json
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import orjson

from execpool.executor import frames, settings
from execpool.executor.runner import bash, clean, display_events, display_pipe, isolate, limits, sandbox
from execpool.executor.runner.isolate import Tools
from execpool.executor.runner.notebook_captured import Captured

BROKEN = 70
"""Exit status when this process could not be made safe; no code ran."""

_REPORT, _REQUEST, _READY = 3, 4, 5
_IDLE_SECONDS = 0.25
"""Parked for longer than this, a process also copies what the libraries write to: under load no time is spent on it."""


@dataclass(frozen=True)
class Ends:
    """The program's ends of what connects it to the server, and where it says that it is parked."""

    stdout: int
    stderr: int
    report: int
    request: int
    ready: int


def run(tools: Tools, kind: frames.Kind, ends: Ends, directory: Path) -> NoReturn:
    """Become a parked process, and then the program of a request."""
    isolate.begin()
    null = os.open(os.devnull, os.O_RDONLY)
    isolate.keep((null, ends.stdout, ends.stderr, ends.report, ends.request, ends.ready))
    isolate.own_streams()
    in_context = kind is frames.Kind.CONTEXT
    home = tools.home if in_context else directory
    scratch = tools.scratch[0] if in_context and tools.scratch else directory
    os.chdir(home)
    fonts = directory.with_name(directory.name + clean.FONTS_SUFFIX)
    settings.replace_environment(isolate.environment(tools, home, scratch, fonts))
    sandbox.adopt_orphans()
    isolate.enter(tools, [home, directory, fonts])
    requests = socket.socket(fileno=_REQUEST)
    _rehearse(tools)
    os.write(_READY, b"r")
    os.close(_READY)
    if tools.touches_deeply and not in_context and not select.select([requests], (), (), _IDLE_SECONDS)[0]:
        tools.notebook.touch(_pretend, deeply=True)
    if in_context:
        _serve(tools, requests)
    _run_once(tools, requests)


def _rehearse(tools: Tools) -> None:
    """Do once what a request will do: what this writes to in memory is copied from the parent now, not when it counts."""
    request = frames.decode_request(frames.encode_request(frames.Request("1 + 1")))
    with settings.changed_environment(request.env):
        limits.apply_cpu(tools.limits, request.timeout_seconds, once=False)
        tools.notebook.touch(_pretend)
    _flush()
    _done(request.nonce, True, _cpu_seconds())


def _run_once(tools: Tools, requests: socket.socket) -> NoReturn:
    request = _next(requests)
    requests.close()
    if request is None:
        os._exit(0)
    settings.add_to_environment(request.env)
    limits.apply_cpu(tools.limits, request.timeout_seconds, once=True)
    if request.language == "bash":
        bash.become(request.code)
    evaluated = tools.notebook.evaluate(request.code, _emit, believe_exit=True)
    well = tools.notebook.leave(_emit).well and evaluated.well
    _flush()
    if _has_no_descendants():
        _write(_done(request.nonce, well, 0.0))
    os._exit(0 if well else 1)


def _serve(tools: Tools, requests: socket.socket) -> NoReturn:
    """Be a context: state stays from request to request."""
    interrupts, well, reports = _Interrupts(), False, _Reports()
    shell = bash.Session(reports.emit)
    while (request := _next(requests)) is not None:
        before = _cpu_seconds()
        limits.apply_cpu(tools.limits, request.timeout_seconds, once=False)
        if request.setup:
            well = _set_up(request)
        else:
            in_bash = request.language == "bash"
            with settings.changed_environment(request.env), interrupts.taken(by_code=not in_bash):
                well = (
                    shell.execute(request.code) if in_bash else tools.notebook.evaluate(request.code, reports.emit).well
                )
            well = well and not interrupts.seen
        _flush()
        reports.finish(_done(request.nonce, well, before))
    os._exit(0)


class _Reports:
    """What a context reports: a cell's result or error leaves with Done, so that the server is woken once for both."""

    def __init__(self) -> None:
        self._held: bytes | None = None

    def emit(self, event: display_events.Event) -> None:
        """Report something, after all that was reported before."""
        self._release()
        line = _line(event)
        if event["type"] == "error" or event.get("is_main_result"):
            self._held = line
        else:
            _write(line)

    def finish(self, done: bytes) -> None:
        """Report that the request is over."""
        held, self._held = self._held, None
        _write(done if held is None else held + b"\n" + done)

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            _write(held)


class _Interrupts:
    """SIGINT raises KeyboardInterrupt while Python code runs and is ignored otherwise, whenever it comes."""

    def __init__(self) -> None:
        self._by_code = False
        self.seen = False
        """True when the code was left by an interrupt that it did not take itself."""

    @contextmanager
    def taken(self, *, by_code: bool) -> Iterator[None]:
        """Take interrupts; a shell gets its own, as a member of this process group."""
        self.seen, self._by_code = False, by_code
        signal.signal(signal.SIGINT, self._take)
        try:
            yield
        except KeyboardInterrupt:
            self.seen = True
        finally:
            self._by_code = False

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        if self._by_code:
            raise KeyboardInterrupt


def _set_up(request: frames.Request) -> bool:
    settings.add_to_environment(request.env)
    try:
        if request.cwd:
            os.chdir(request.cwd)
    except OSError as error:
        _emit({"type": "error", "name": type(error).__name__, "value": f"cwd: {error.strerror}", "traceback": ""})
        return False
    return True


def _next(requests: socket.socket) -> frames.Request | None:
    """Wait for a request; None when the server has closed its end."""
    try:
        packet, descriptors, _, _ = socket.recv_fds(requests, frames.MAX_INLINE_BYTES, 1)
    except OSError:
        return None
    for descriptor in descriptors:
        with os.fdopen(descriptor, "rb") as file:
            packet = os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
    return frames.decode_request(packet) if packet else None


def _has_no_descendants() -> bool:
    """True when nothing that was started here is left: orphans among it would be children of this process."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return False
    return True


def _done(nonce: str, well: bool, cpu_before: float) -> bytes:
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    done = frames.Done(nonce, well, _cpu_seconds() - cpu_before, most * 1024)
    return _line(vars(done))


def _cpu_seconds() -> float:
    """Return the processor time of this process and of those that it has waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def _emit(event: display_events.Event) -> None:
    _write(_line(event))


def _pretend(event: display_events.Event) -> None:
    """Do all of reporting but the writing."""
    _line(event)


def _line(event: display_events.Event) -> bytes:
    """Return an event as JSON. Lone surrogates, which text of a program may hold, are none to a strict reader."""
    try:
        return orjson.dumps(event)
    except orjson.JSONEncodeError:
        return json.dumps(event, ensure_ascii=False).encode("utf-8", "replace")


def _write(line: bytes) -> None:
    display_pipe.write(_REPORT, line + b"\n")


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with Captured():
            stream.flush()
