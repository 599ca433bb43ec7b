"""`execpool-executor server|runner`: the composition root of the two processes of an executor.

Each command imports its own half only: the runner must stay small and single-threaded before it forks, and the server
has no use for numpy. The commands take no options: everything comes from the environment (`settings`), so that a
command line, which any process of a pod may read, carries nothing.
"""

import argparse
import logging
import sys

from execpool.executor import logs, settings

log = logging.getLogger("execpool.executor")

BAD_SETTINGS = 2
"""Exit status when the environment does not describe an executor."""


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run the command named and return the process's exit status: 0 means that this executor has ended for good."""
    parser = argparse.ArgumentParser(prog="execpool-executor", description="One executor: an HTTP server and a runner.")
    parser.add_argument("command", choices=("server", "runner"), help="which of the two processes to be")
    command = parser.parse_args(arguments).command
    logs.configure(component=command)
    try:
        return _server() if command == "server" else _runner()
    except settings.SettingsError as error:
        log.error("bad settings", extra={"reason": str(error)})  # noqa: TRY400 - the sentence says it all
        return BAD_SETTINGS


def _server() -> int:
    from execpool.executor.server import serve

    return serve.run(settings.server_settings())


def _runner() -> int:
    options = settings.runner_settings()
    if options.runtime is settings.Runtime.MONTY:
        from execpool.executor.monty import runner

        runner.run(options)
    from execpool.executor.runner import zygote

    return zygote.run(options)


if __name__ == "__main__":
    run()
