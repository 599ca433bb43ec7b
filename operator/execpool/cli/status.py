"""`execpool status`: one line for each pool, the same that the gateway logs every 30 s, from what the cluster holds.

A pool's status and its accounts are read, and the Lease of the gateway for the figures of its executions, which are at most
15 s old. Nothing is written.
"""

import json
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from execpool.cli.doors import GATEWAY, PLACEHOLDER_TAG, Door, UpError, choose_door

Object = dict[str, Any]


class Output(StrEnum):
    """Forms of a status."""

    TEXT = "text"
    JSON = "json"


def status(
    context: Annotated[str, typer.Option(help="kubectl context of your cluster; empty: the local real node")] = "",
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Pools of this namespace; all of them else.")
    ] = "",
    watch: Annotated[float, typer.Option(help="Say it again every so many seconds; 0 says it once.")] = 0.0,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="json: one object a line for each pool.")
    ] = Output.TEXT,
) -> None:
    """Say for each pool what is warm, what runs and waits, what its account holds and what it costs."""
    try:
        door = choose_door(Path.cwd(), context, "", PLACEHOLDER_TAG)
        while True:
            count = _print(door, namespace, output)
            if count == 0 and output is Output.TEXT:
                print("no pools", file=sys.stderr)
            if watch <= 0:
                return
            time.sleep(watch)
    except UpError as error:
        print(f"execpool: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _print(door: Door, namespace: str, output: Output) -> int:
    from execpool.core.sample import fields, line  # here, so that other commands start without the API's models

    count = 0
    for sample in _samples(door, namespace, time.time()):
        print(json.dumps(fields(sample)) if output is Output.JSON else line(sample), flush=True)
        count += 1
    return count


def _samples(door: Door, namespace: str, now: float) -> Iterator[Any]:
    from execpool.api.v1alpha1 import ExecutionPoolSpec, ExecutionPoolStatus
    from execpool.core.sample import sample_of
    from execpool.core.use import read_use

    objects = _get(door, "executionpools,e2baccounts", "--all-namespaces")
    accounts = {_key(one): _account(one) for one in objects if one["kind"] == "E2BAccount"}
    told = _told_by_gateways(door, now)
    for pool in objects:
        key = _key(pool)
        if pool["kind"] != "ExecutionPool" or namespace not in ("", key[0]):
            continue
        spec, seen = ExecutionPoolSpec.read(pool["spec"]), ExecutionPoolStatus.read(pool.get("status") or {})
        yield sample_of(key, spec, seen, use=read_use(told, "/".join(key)), accounts=accounts, now=now)


def _told_by_gateways(door: Door, now: float) -> list[str]:
    """Return what living gateways say of the use of their pools; nothing where their Leases may not be read."""
    from execpool.api.names import ANNOTATION_USE, LABEL_COMPONENT

    try:
        leases = _get(door, "leases", "--namespace", GATEWAY[0], "--selector", f"{LABEL_COMPONENT}=gateway")
    except UpError as error:
        print(f"execpool: what gateways tell cannot be read: {error}", file=sys.stderr)
        return []
    living = [one for one in leases if _ends_at(one["spec"]) > now]
    return [(one["metadata"].get("annotations") or {}).get(ANNOTATION_USE, "") for one in living]


def _ends_at(lease: Object) -> float:
    return datetime.fromisoformat(lease["renewTime"]).timestamp() + float(lease["leaseDurationSeconds"])


def _get(door: Door, *words: str) -> list[Object]:
    return list(json.loads(door.kubectl("get", *words, "--output", "json"))["items"])


def _key(wire: Object) -> tuple[str, str]:
    return wire["metadata"]["namespace"], wire["metadata"]["name"]


def _account(wire: Object) -> Any:
    from execpool.api.e2b import E2BAccountSpec, E2BAccountStatus
    from execpool.core.sample import Account

    return Account(E2BAccountSpec.read(wire["spec"]), E2BAccountStatus.read(wire.get("status") or {}))
