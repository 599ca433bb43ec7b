"""`execpool dev`: its options. What they start is `execpool.dev`, which is imported when it is asked for."""

from pathlib import Path
from typing import Annotated

import typer

from execpool.cli.run import Output

DEFAULT_PORT = 8090


def dev(  # noqa: PLR0917 - typer passes them by name
    pool: Annotated[
        Path | None, typer.Argument(metavar="[POOL.yaml]", help="Pools, as for a cluster; a small one when left out.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", metavar="POOL.yaml", help="The same.")] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the gateway; 0 takes a free one.")
    ] = DEFAULT_PORT,
    host: Annotated[str, typer.Option(help="Loopback address of the gateway.")] = "127.0.0.1",
    program: Annotated[
        Path | None, typer.Option("--run", metavar="FILE.py", help="Run this, then end; its exit status as of `run`.")
    ] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="json: one object a line.")] = Output.TEXT,
    verbose: Annotated[bool, typer.Option("--verbose", help="Logs of all parts, on stderr.")] = False,
) -> None:
    """Serve a pool on this machine, without a cluster and without root, until Ctrl-C."""
    if pool is not None and file is not None:
        raise typer.BadParameter("the pool is named twice", param_hint="--file")
    try:
        from execpool.dev.main import Options, run
    except ModuleNotFoundError as error:
        typer.echo(
            f"execpool dev: {error.name} is not installed; pip install 'execpool[controlplane,executor]'", err=True
        )
        raise typer.Exit(2) from None
    options = Options(file=pool or file, host=host, port=port, program=program, output=output, verbose=verbose)
    raise typer.Exit(run(options))
