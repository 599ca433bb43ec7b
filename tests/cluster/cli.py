"""The command line: `python3 tests/cluster COMMAND`.

Progress goes to standard error and results to standard output, so that
`export KUBECONFIG=$(python3 tests/cluster kubeconfig)` works.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import base_image, binaries, image_build, images, packages, status
from .cluster import Cluster
from .commands import note
from .errors import ClusterError, NotRunningError
from .layout import Layout
from .storage import Storage

Command = Callable[[argparse.Namespace, Layout], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; errors of ours are told in words, everything else is a bug and shows its traceback."""
    words = list(sys.argv[1:] if argv is None else argv)
    # Everything after `kubectl` is kubectl's, `--help` and `--` included, which argparse would eat.
    own = words[:1] if words[:1] == ["kubectl"] else words
    options = _parser().parse_args(own, argparse.Namespace(passed=words[1:]))
    command: Command = options.command
    try:
        return command(options, Layout.from_environment())
    except ClusterError as error:
        note(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        note("interrupted; the next `up` or `down` clears what is left")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tests/cluster", description="A real one-node Kubernetes cluster on this Linux host, without Docker."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(command=command)
        return added

    add("up", _up, "start the cluster, or what is missing of it; print the kubeconfig's path")
    add("down", _down, "end the cluster and remove every trace of it; built programs and images stay cached")
    shown = add("status", _status, "show each component; exit 1 unless the cluster is healthy")
    shown.add_argument("--output", choices=("table", "json"), default="table", help="default: %(default)s")
    add("kubeconfig", _kubeconfig, "print the path of the administrator's kubeconfig")
    add("kubectl", _kubectl, "run the cluster's own kubectl as its administrator; what follows is passed on")
    add("build", _build, "build the cluster's programs, unless cached; print their folder")
    loaded = add("load-image", _load_image, "import oci-archive or docker-archive files into the node")
    loaded.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE")
    made = add("base-image", _base_image, "make the base image (Debian trixie, Python 3.13), unless cached")
    made.add_argument("--refresh", action="store_true", help="make it anew, with today's packages")
    _add_build_image(
        add("build-image", _build_image, "build an image if its inputs changed; load it if the cluster runs")
    )
    return parser


def _add_build_image(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("context", type=Path, metavar="CONTEXT", help="folder that the Dockerfile copies from")
    parser.add_argument("--file", type=Path, help="the Dockerfile; default: CONTEXT/Dockerfile")
    parser.add_argument(
        "--tag",
        required=True,
        help="image name: localhost/NAME without a host, the digest of all inputs as tag without one",
    )
    parser.add_argument("--target", default="", help="stage of the Dockerfile; default: the last one")
    parser.add_argument("--only", action="append", default=[], metavar="PATH", help="what the target copies of CONTEXT")
    parser.add_argument("--build-arg", action="append", default=[], metavar="K=V", help="BASE is set by default")


def _up(options: argparse.Namespace, layout: Layout) -> int:
    Cluster(layout).up()
    print(layout.kubeconfig)
    return 0


def _down(options: argparse.Namespace, layout: Layout) -> int:
    note("the cluster is down" if Cluster(layout).down() else "there was no cluster")
    Storage(layout).release()
    return 0


def _status(options: argparse.Namespace, layout: Layout) -> int:
    cluster_status = status.read(layout)
    print(cluster_status.as_json() if options.output == "json" else cluster_status.as_table())
    return 0 if cluster_status.healthy else 1


def _kubeconfig(options: argparse.Namespace, layout: Layout) -> int:
    _need_cluster(layout)
    print(layout.kubeconfig)
    return 0


def _kubectl(options: argparse.Namespace, layout: Layout) -> int:
    _need_cluster(layout)
    program = binaries.directory(layout) / "kubectl"
    # In our place, so that terminal and signals are kubectl's own; the words are the user's.
    os.execve(  # noqa: S606
        program,
        ["kubectl", *options.passed],
        {**os.environ, **layout.kubectl_environment()},
    )


def _build(options: argparse.Namespace, layout: Layout) -> int:
    packages.ensure(packages.BUILDING)
    print(binaries.ensure(layout))
    return 0


def _load_image(options: argparse.Namespace, layout: Layout) -> int:
    _need_cluster(layout)
    for archive in options.archives:
        print("\n".join(images.load(layout, archive)))
    return 0


def _base_image(options: argparse.Namespace, layout: Layout) -> int:
    print(base_image.ensure(layout, refresh=options.refresh))
    return 0


def _build_image(options: argparse.Namespace, layout: Layout) -> int:
    arguments = dict(_pair(text) for text in options.build_arg)
    dockerfile = options.file or options.context / "Dockerfile"
    recipe = image_build.Recipe(
        options.context.resolve(), dockerfile.resolve(), options.target, arguments, tuple(options.only)
    )
    print(image_build.build(layout, recipe, options.tag))
    return 0


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ClusterError(f"--build-arg takes NAME=VALUE, not {text!r}")
    return name, value


def _need_cluster(layout: Layout) -> None:
    if not layout.kubeconfig.exists():
        raise NotRunningError(f"no cluster in {layout.state}; start it with `python3 tests/cluster up`")
