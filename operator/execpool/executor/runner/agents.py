"""The agent of a claim and its keeper: files and processes for the server, held as a run is, for as long as the claim.

    forked by the zygote -> keeper: own signal domain, adopts orphans -> agent: limits, files, filter -> commands

The agent is parent of what it starts. Its memory, descriptors and files are limited as a run's are; processor time is not,
since it lives for hours. Commands share its signal domain, so one of them may end or stop the agent: they cannot reach the
keeper, which runs no code of anybody. When the agent has ended, for whatever reason, or the server has closed the socket,
the keeper ends everything, as a supervisor does for a run; only then does the server see the end of the socket.
"""

import os
import select
from typing import NoReturn

from execpool.executor import settings
from execpool.executor.runner import child, isolate, processes, sandbox, supervisor
from execpool.executor.runner.isolate import Tools

_SOCKET = 3


def run(descriptor: int, tools: Tools) -> NoReturn:
    """Become the keeper of an agent; the caller has just forked."""
    status = child.BROKEN
    try:
        outsider = os.getppid()
        isolate.own_signals()
        isolate.keep((0, 1, 2, descriptor))
        os.setsid()
        sandbox.adopt_orphans()
        if tools.has_domains:
            isolate.enter_domain(tools, outsider)
        pid = os.fork()
        if pid == 0:
            _be_agent(tools)
        _wait(pid)
        status = 0 if _end_all(tools, outsider) else supervisor.SURVIVORS
    finally:
        os._exit(status)


def _wait(agent: int) -> None:
    """Wait until the agent has ended or the server has closed its end; the agent alone reads."""
    pidfd = os.pidfd_open(agent)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(_SOCKET, 0)  # its hang-up is told all the same
    poll.poll()
    os.close(pidfd)


def _end_all(tools: Tools, outsider: int) -> bool:
    if tools.has_domains:
        return processes.end_domain(outsider, processes.Usage())
    return processes.end_descendants()


def _be_agent(tools: Tools) -> NoReturn:
    status = child.BROKEN
    try:
        isolate.begin()
        null = os.open(os.devnull, os.O_RDWR)
        isolate.keep((null, null, null, _SOCKET))
        os.chdir(tools.home)
        scratch = tools.scratch[0] if tools.scratch else tools.home
        settings.replace_environment(isolate.environment(tools, tools.home, scratch, scratch))
        isolate.enter(tools, [tools.home])
        _serve()
        status = 0
    finally:
        os._exit(status)


def _serve() -> None:
    # Imported here: no other process needs it.
    from execpool.executor.runner import agent

    agent.serve(_SOCKET)
