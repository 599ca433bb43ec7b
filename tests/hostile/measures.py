"""`python -m tests.hostile.measures`: the same probes with all measures, then with one after the other left out; prints JSON.

Runs contained only (`contain`), by tests/component/test_executor_measures.py: without a measure, what a probe does would
reach this machine. A probe says what it came to in one line; what that must be is the test's to say.
"""

import asyncio
import json
import os
import platform
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from tests.component.executor_process import WITHOUT_THE_CAP, LocalExecutor, executor
from tests.hostile.contain import must_be_contained

CONDITIONS: dict[str, dict[str, str]] = {
    "all measures": {},
    "without seccomp": {"measures": "seccomp=False"},
    "without Landlock": {"measures": "landlock=False"},
    "without limits": {"measures": "limits=False"},
    "without Landlock, and dumpable": {"measures": "landlock=False, undumpable=False"},
    "without the end of the group": {"measures": "end_group=False"},
    "without the cap on output": {"server_program": WITHOUT_THE_CAP},
}
MEMORY_BYTES = 1 << 30

_ATTEMPT = """
import ctypes, errno, json, os, signal, socket, resource
libc = ctypes.CDLL(None, use_errno=True)
def attempt(action):
    try: action()
    except BaseException as error: return errno.errorcode.get(getattr(error, 'errno', None), type(error).__name__)
    return "ok"
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0: raise OSError(ctypes.get_errno(), "")
"""
_SHMGET, _MEMFD_SECRET, _MEMFD_CREATE = (29, 447, 319) if platform.machine() == "x86_64" else (194, 447, 279)
_HOLD = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)"
_DAEMON = (
    "import os, time\nif os.fork() == 0:\n  os.setsid()\n"
    "  if os.fork() == 0: os.execvp('sleep', ['sleep', '61.5'])\n  os._exit(0)\ntime.sleep(0.2)"
)
_FLOOD = "line = 'x' * (1 << 16)\nwhile True: print(line)"
_FLOOD_BYTES = 1 << 16
_ENOUGH = 16 * _FLOOD_BYTES
"""Of a stream without an end."""


async def networks(running: LocalExecutor) -> str:
    """Sockets that lead out of the pod."""
    families = ("AF_INET", "AF_INET6", "AF_NETLINK")
    return await _ask(running, *(f"lambda: socket.socket(socket.{name}, socket.SOCK_DGRAM)" for name in families))


async def calls(running: LocalExecutor) -> str:
    """System calls that reach other processes, or memory that nobody counts."""
    return await _ask(
        running,
        "lambda: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)",
        f"lambda: call({_SHMGET}, 0, 4096, 0o1600)",
        f"lambda: call({_MEMFD_SECRET}, 0)",
        f"lambda: call({_MEMFD_CREATE}, b'x', 0)",
    )


async def signals(running: LocalExecutor) -> str:
    """Signals to the supervisor, the zygote, the server and another run."""
    async with running.post(_HOLD) as beside:
        pids = ("os.getppid()", running.runner.process.pid, running.server.process.pid, await _pid(beside))
        return await _ask(running, *(f"lambda: os.kill({pid}, 0)" for pid in pids))


async def files(running: LocalExecutor) -> str:
    """Files of other runs, and of the platform."""
    work, state = str(running.work_dir), str(running.directory / "state")
    return await _ask(
        running,
        f"lambda: os.listdir({work!r})",
        f"lambda: open({work!r} + '/x', 'w').close()",
        f"lambda: open({state!r} + '/claimed', 'a').close()",
        f"lambda: os.listdir({str(running.socket_dir)!r})",
    )


async def memory(running: LocalExecutor) -> str:
    """More memory than the container has for one run."""
    return await _ask(running, f"lambda: bytearray({2 * MEMORY_BYTES})")


async def descriptors(running: LocalExecutor) -> str:
    """Open files."""
    return await _ask(running, "lambda: [os.open('/dev/null', os.O_RDONLY) for _ in range(1500)]")


async def looks(running: LocalExecutor) -> str:
    """Memory, environment and directory of another run."""
    async with running.post(_HOLD) as beside:
        pid = await _pid(beside)
        names = ("environ", "maps", "auxv")
        return await _ask(
            running,
            *(f"lambda: open('/proc/{pid}/{name}', 'rb').read(64)" for name in names),
            f"lambda: os.readlink('/proc/{pid}/cwd')",
        )


async def daemons(running: LocalExecutor) -> str:
    """A process that leaves its parents and its session."""
    await running.execute(_DAEMON)
    await asyncio.sleep(0.5)
    found = _sleepers()
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    return f"{len(found)} left"


async def output(running: LocalExecutor) -> str:
    """A flood on stdout."""
    size, last = 0, b""
    async with running.post(_FLOOD, output_bytes=_FLOOD_BYTES, timeout_seconds=3) as answer:
        async for chunk in answer.content.iter_any():
            size, last = size + len(chunk), (last + chunk)[-1000:]
            if size > _ENOUGH:
                return "goes on"
    return str(json.loads(last.splitlines()[-1])["reason"])


Probe = Callable[[LocalExecutor], Awaitable[str]]
PROBES: dict[str, Probe] = {
    "networks": networks,
    "calls": calls,
    "signals": signals,
    "files": files,
    "memory": memory,
    "descriptors": descriptors,
    "looks": looks,
    "daemons": daemons,
    "output": output,
}


async def observe(condition: str) -> dict[str, str]:
    """Return what each probe comes to under a condition."""
    must_be_contained()
    async with executor(slots=2, memory_bytes=MEMORY_BYTES, **CONDITIONS[condition]) as running:  # type: ignore[arg-type]
        await running.claim()
        return {name: await probe(running) for name, probe in PROBES.items()}


def _sleepers() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found += [int(path.parent.name)] if path.read_bytes() == b"sleep\x0061.5\x00" else []
    return found


async def _ask(running: LocalExecutor, *attempts: str) -> str:
    """Return what attempts of a program came to."""
    code = f"{_ATTEMPT}\nprint(' '.join([attempt(each) for each in [{', '.join(attempts)}]]))"
    async with asyncio.timeout(10):
        while True:
            async with running.post(code) as answer:
                lines = (await answer.text()).splitlines()
                if answer.status == 200:
                    return "".join(
                        event["text"] for event in map(json.loads, lines) if event["type"] == "stdout"
                    ).strip()
            await asyncio.sleep(0.05)  # the run beside, of the last probe, is being ended


async def _pid(beside: object) -> int:
    """Return what a run beside said first."""
    content = beside.content  # type: ignore[attr-defined]
    await content.readline()
    return int(json.loads(await content.readline())["text"])


def main() -> int:
    """Observe under every condition."""
    print(json.dumps({condition: asyncio.run(observe(condition)) for condition in CONDITIONS}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
