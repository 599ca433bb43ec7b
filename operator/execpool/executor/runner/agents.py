"""The agent's process: files and processes of a claim for the server, held as a run is, but for as long as the claim.

It is parent and subreaper of what it starts, and ends with its socket. Its memory, descriptors and files are limited as a
run's are; processor time is not, since it lives for hours. What it starts shares its signal domain, so a command may end
the agent and thereby itself and its like: the server then starts another one.
"""

import os
from typing import NoReturn

from execpool.executor import settings
from execpool.executor.runner import child, isolate, sandbox
from execpool.executor.runner.isolate import Tools

_SOCKET = 3


def run(descriptor: int, tools: Tools) -> NoReturn:
    """Become the agent; the caller has just forked."""
    status = child.BROKEN
    try:
        isolate.own_signals()
        isolate.begin(with_parent=False)
        sandbox.adopt_orphans()
        null = os.open(os.devnull, os.O_RDWR)
        isolate.keep((null, null, null, descriptor))
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
