"""`execpool`, also installed as `kubectl-execpool`: the commands, and nothing else.

It starts fast: no module of the control plane is imported here.
"""

import typer

import execpool
from execpool.cli.keys import key_create, root_key_create
from execpool.cli.run import run as run_file
from execpool.cli.status import status
from execpool.cli.up import down, images, up
from execpool.cli.workload import workload

app = typer.Typer(
    name="execpool", help="Execution pools for AI-written Python.", no_args_is_help=True, add_completion=False
)
key = typer.Typer(help="Execution keys: who may execute.", no_args_is_help=True)
root_key = typer.Typer(help="The root key: what claims of executors are derived from.", no_args_is_help=True)


def version() -> None:
    """Print the version."""
    print(execpool.__version__)


app.command("run")(run_file)
app.command("workload")(workload)
app.command("status")(status)
app.command("up")(up)
app.command("down")(down)
app.command("images")(images)
app.command("version")(version)
app.add_typer(key, name="key")
app.add_typer(root_key, name="root-key")
key.command("create")(key_create)
root_key.command("create")(root_key_create)


@key.callback()
def _key() -> None:
    """Execution keys: who may execute."""


@root_key.callback()
def _root_key() -> None:
    """The root key: what claims of executors are derived from."""


def run() -> None:
    """Entry point of the console scripts."""
    app()


if __name__ == "__main__":
    run()
