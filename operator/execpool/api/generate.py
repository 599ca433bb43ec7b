"""Writes what follows from the models: `crds/*.yaml` and the field table of the README.

`python -m execpool.api.generate` writes, `--check` only says what is out of date (exit 1). It runs in a checkout.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from execpool.api.crd import KINDS, POOL, Document, Kind, crd
from execpool.api.schema import structural

COMMAND = "python -m execpool.api.generate"
BEGIN, END = "<!-- fields:begin -->", "<!-- fields:end -->"
CHECKOUT = Path(__file__).resolve().parents[3]


class _Dumper(yaml.SafeDumper):
    """Plain YAML: no anchors, and lists indented below their key as Kubernetes documents have them."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless)


def crd_yaml(kind: Kind) -> str:
    """Return the file of a kind's CRD."""
    body = yaml.dump(crd(kind), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    return f"# Generated from operator/execpool/api by `{COMMAND}`; edit the models, not this file.\n{body}"


def field_table(schema: Document | None = None) -> str:
    """Return the Markdown table of every field of an ExecutionPool's spec."""
    rows = [
        f"| `{path}` | {_type(node)} | {_default(node)} | {text} |"
        for path, node, text in _fields(schema or structural(POOL.spec))
    ]
    return "\n".join(["| field | type | default | meaning |", "| --- | --- | --- | --- |", *rows])


def _fields(schema: Document, prefix: str = "") -> Iterator[tuple[str, Document, str]]:
    for name, node in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        needed = "" if name not in schema.get("required", ()) else " Required."
        yield path, node, node["description"].replace("|", "\\|") + needed
        yield from _fields(node, f"{path}.")
        yield from _fields(node.get("items", {}), f"{path}[].")


def _type(node: Document) -> str:
    if "enum" in node:
        return " \\| ".join(f"`{value}`" for value in node["enum"])
    if "anyOf" in node:
        return "quantity"
    if node["type"] == "array":
        return f"list of {_type(node['items'])}"
    if "additionalProperties" in node:
        return f"map of {_type(node['additionalProperties'])}"
    return f"{node['type']}{_range(node)}"


def _range(node: Document) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    return (
        "" if low is None and high is None else f" {low if low is not None else ''}-{high if high is not None else ''}"
    )


def _default(node: Document) -> str:
    value = node.get("default")
    if value is None or value == "":
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def with_table(readme: str) -> str:
    """Return the README with the field table between its markers; as it is when it has none."""
    before, found, rest = readme.partition(BEGIN)
    _, closed, after = rest.partition(END)
    return f"{before}{BEGIN}\n{field_table()}\n{END}{after}" if found and closed else readme


def outputs(checkout: Path = CHECKOUT) -> dict[Path, str]:
    """Return every generated file with its content."""
    files = {checkout / "crds" / f"{kind.crd_name}.yaml": crd_yaml(kind) for kind in KINDS}
    readme = checkout / "README.md"
    if readme.exists():
        files[readme] = with_table(readme.read_text(encoding="utf-8"))
    return files


def stale(checkout: Path = CHECKOUT) -> list[Path]:
    """Return the generated files that are not what the models say, and CRD files that no model has."""
    wanted = outputs(checkout)
    differing = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    return differing + [path for path in sorted((checkout / "crds").glob("*.yaml")) if path not in wanted]


def _complaint(known: bool) -> str:
    return f"out of date: run `{COMMAND}`" if known else "the CRD of no model: delete it"


def main(arguments: list[str] | None = None, checkout: Path = CHECKOUT) -> int:
    """Write the files, or with `--check` name those that should be written."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of date")
    check = parser.parse_args(arguments).check
    wanted = outputs(checkout)
    for path in stale(checkout):
        name = path.relative_to(checkout)
        if check or path not in wanted:
            sys.stdout.write(f"{name} is {_complaint(path in wanted)}\n")
            continue
        path.parent.mkdir(exist_ok=True)
        path.write_text(wanted[path], encoding="utf-8")
        sys.stdout.write(f"wrote {name}\n")
    return 1 if stale(checkout) else 0


if __name__ == "__main__":
    sys.exit(main())
