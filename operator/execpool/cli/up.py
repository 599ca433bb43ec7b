"""`execpool up` and `execpool down`: from a clone to the workload running on a pool, and back to nothing.

The pool has executors in the cluster and three warm sandboxes, of the emulator or of the user's account at E2B (`accounts`).

Every step says what it does and how long it took, and is done only where it is not done already: a second `up` takes
seconds. The key that `up` makes is kept in `.state/` of the clone, readable by its owner alone.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from execpool.cli import keys, workload, workload_view
from execpool.cli.accounts import EMULATOR, Account, choose_account, emulated
from execpool.cli.doors import GATEWAY, IMAGES, PLACEHOLDER_TAG, Door, UpError, choose_door, gateway_url
from execpool.cli.witness import Witness
from execpool.cli.workload_state import DATA_LIBRARIES

NAMESPACE, POOL = "agents", "agents"
ACCOUNT = "main"
"""Name of the E2BAccount, in the operator's namespace."""
TENANT = "demo"
WAIT_SECONDS = 180
WORKLOAD_SECONDS = 120.0
"""Longest run of one query."""
console = Console(stderr=True, highlight=False)


def up(
    context: Annotated[str, typer.Option(help="kubectl context of your cluster; empty: a local real node")] = "",
    registry: Annotated[str, typer.Option(help="registry that `make images` pushed to (with --context)")] = "",
    tag: Annotated[str, typer.Option(help="tag of the images there")] = PLACEHOLDER_TAG,
    skip_workload: Annotated[bool, typer.Option(help="stop once the pool is ready")] = False,
    record: Annotated[Path | None, typer.Option(help="write the final table as SVG")] = None,
) -> None:
    """Install execpool, make a pool and a key, and run the workload on it."""
    try:
        door, account = choose_door(Path.cwd(), context, registry, tag), choose_account(os.environ)
        console.print(door.describe(), soft_wrap=True)
        console.print(account.describe(), soft_wrap=True)
        key = _install(door, account)
        with gateway_url(door) as url:
            failed = 0 if skip_workload else _run_workload(door, account, url, key, record)
            _farewell(url)
    except UpError as error:
        console.print(f"[red]up:[/red] {error}", soft_wrap=True)
        raise typer.Exit(1) from None
    if failed:
        raise typer.Exit(failed)


def down(context: Annotated[str, typer.Option(help="kubectl context of your cluster")] = "") -> None:
    """Remove what `up` made: pools first, so that no executor is left behind, then the rest."""
    try:
        door = choose_door(Path.cwd(), context, "", PLACEHOLDER_TAG)
        if context:
            _refuse_to_strand_pools(door)
            _remove(door)
        else:
            _end_sandboxes(door)
            door.close()
        _key_file().unlink(missing_ok=True)
    except UpError as error:
        console.print(f"[red]down:[/red] {error}", soft_wrap=True)
        raise typer.Exit(1) from None


def _remove(door: Door) -> None:
    timeout = (f"--timeout={WAIT_SECONDS}s", "--ignore-not-found")
    with _step("deleting the pool, waiting for its executors to end"):
        door.kubectl("--namespace", NAMESPACE, "delete", "executionpool", POOL, *timeout)
    with _step("removing execpool, and the emulator with all that runs in it"):
        door.kubectl("delete", "--kustomize", emulated().manifests, *timeout)  # the base is in it
        door.kubectl("delete", "namespace", NAMESPACE, *timeout)


def _end_sandboxes(door: Door) -> None:
    """Delete the pool before its cluster goes: sandboxes at E2B do not end with it, but 15 minutes later."""
    with suppress(UpError):  # there is no cluster, or nothing in it
        door.kubectl("get", "e2baccounts", "--all-namespaces")
        with _step("deleting the pool, so that its sandboxes end"):
            timeout = f"--timeout={WAIT_SECONDS}s"
            door.kubectl("--namespace", NAMESPACE, "delete", "executionpool", POOL, timeout, "--ignore-not-found")


def _refuse_to_strand_pools(door: Door) -> None:
    """Refuse to remove the operator from under other pools, whose finalizers nobody would release then."""
    names = "jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {end}"
    pools = door.kubectl("get", "executionpools", "--all-namespaces", "--output", names).split()
    others = [name for name in pools if name != f"{NAMESPACE}/{POOL}"]
    if others:
        raise UpError(f"other pools live in this cluster: {', '.join(others)}; delete them first, or keep execpool")


def images() -> None:
    """Build the images that `up` uses on the local cluster, unless they are built, and print their names."""
    try:
        built = choose_door(Path.cwd(), "", "", PLACEHOLDER_TAG).images()
    except UpError as error:
        console.print(f"[red]images:[/red] {error}", soft_wrap=True)
        raise typer.Exit(1) from None
    for name in built.values():
        typer.echo(name)


def _install(door: Door, account: Account) -> str:
    """Bring cluster, images, execpool, account, pool and key into being; return the key."""
    with _step("cluster"):
        door.open()
    with _step("images"):
        images = door.images()
    with _step(f"execpool ({account.manifests})"):
        apply_base(door, images, account)
    with _step(" and ".join(["operator", "gateway", *(["emulator"] if account.is_emulated else [])]) + " ready"):
        await_rollout(door, account)
    with _step(f"pool {NAMESPACE}/{POOL} ready, its sandboxes warm ({account.sample})"):
        door.kubectl("apply", "--filename", account.sample)
        key = _ensure_key(door)
        _await_pool(door)
    console.print(door.kubectl("--namespace", NAMESPACE, "get", "executionpool,e2bsandbox").rstrip())
    return key


def _await_pool(door: Door) -> None:
    """Wait until every warm executor is there. Raises UpError with what account and pool say, beside kubectl's words."""
    try:
        for condition in ("Ready", "WarmPoolFilled"):
            wait = (f"--for=condition={condition}", f"executionpool/{POOL}", f"--timeout={WAIT_SECONDS}s")
            door.kubectl("--namespace", NAMESPACE, "wait", *wait)
    except UpError as error:
        path = 'jsonpath={range .status.conditions[*]}{.type}={.status}, {.reason}: {.message}{"\\n"}{end}'
        account = door.kubectl("--namespace", GATEWAY[0], "get", "e2baccount", ACCOUNT, "--output", path)
        pool = door.kubectl("--namespace", NAMESPACE, "get", "executionpool", POOL, "--output", path)
        raise UpError(f"{error}\nE2BAccount {ACCOUNT}: {account}ExecutionPool {POOL}: {pool}") from error


def await_rollout(door: Door, account: Account | None = None) -> None:
    """Wait until operator and gateway are ready, and the emulator where the account is one."""
    parts = ["execpool-operator", "execpool-gateway", *([EMULATOR] if account and account.is_emulated else [])]
    for part in parts:
        door.kubectl("--namespace", GATEWAY[0], "rollout", "status", f"deployment/{part}", f"--timeout={WAIT_SECONDS}s")


def apply_base(door: Door, images: dict[str, str], account: Account | None = None) -> None:
    """Apply execpool with the images of this tree, the root key unless there is one, and what an account needs."""
    manifests = door.kubectl("kustomize", account.manifests if account else "manifests/base")
    for target, name in IMAGES.items():
        manifests = manifests.replace(f"{name}:{PLACEHOLDER_TAG}", images[target])
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": GATEWAY[0]}}
    door.kubectl("apply", "--server-side", "--filename", "-", stdin=json.dumps(namespace))
    if not door.kubectl(
        "--namespace", GATEWAY[0], "get", "secret", keys.ROOT_KEY_SECRET, "--ignore-not-found", "--output", "name"
    ):
        door.kubectl("create", "--filename", "-", stdin=json.dumps(keys.make_root_key(GATEWAY[0])))
    if account is not None:
        account.store_key(door)
    door.kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=manifests)


def _ensure_key(door: Door) -> str:
    """Return the key of an earlier run if the cluster knows it, else make one."""
    file = _key_file()
    known = door.kubectl(
        "--namespace", NAMESPACE, "get", "executionkeys", "--output", "jsonpath={.items[*].spec.keyHash}"
    ).split()
    earlier = file.read_text().strip() if file.exists() else ""
    if earlier.startswith(keys.key_start(NAMESPACE)) and keys.hash_of(earlier) in known:
        return earlier
    secret, manifest = keys.make_key(tenant=TENANT, namespace=NAMESPACE, name=TENANT, pools=[POOL])
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(secret + "\n")
    door.kubectl("apply", "--filename", "-", stdin=json.dumps(manifest))
    return secret


def _run_workload(door: Door, account: Account, url: str, key: str, record: Path | None) -> int:
    console.print(
        f"programs that import {', '.join(sorted(DATA_LIBRARIES))} ask for tier e2b, the others for tier local",
        style="dim",
    )
    shown = workload.console_for(stderr=False)
    witness = Witness(door, account, NAMESPACE, POOL, time.time())
    queries = workload.read_queries(Path("examples/workload"))
    tiers = workload.Tiers(simple="local", data="e2b")
    options = {"pool": POOL, "timeoutSeconds": WORKLOAD_SECONDS}
    state = asyncio.run(workload.run(queries, url, key, options, shown, tiers=tiers, look=witness.facts))
    shown.print(workload_view.final(state))
    if record is not None:
        workload_view.record(state, record)
    return int(bool(state.failed))


def _farewell(url: str) -> None:
    # The key is named by its file and never printed: terminals are recorded and shared.
    console.print()
    console.print("[bold]Your own code, now:[/bold]")
    console.print(f"  export EXECPOOL_URL={url} EXECPOOL_KEY=$(cat {_key_file()})", soft_wrap=True)
    console.print(
        '  curl -s $EXECPOOL_URL/v1/executions -H "Authorization: Bearer $EXECPOOL_KEY" -d \'{"code": "sum(range(10))", "pool": "agents"}\'',
        soft_wrap=True,
    )
    console.print(
        "  .venv/bin/execpool run examples/workload/user-1/portfolio_risk.py --pool agents --tier e2b", soft_wrap=True
    )
    console.print("[bold]Undo:[/bold] make down")


@contextmanager
def _step(what: str) -> Iterator[None]:
    started = time.monotonic()
    console.print(f"[dim]...[/dim] {what}")
    yield
    console.print(f"[green] ok[/green] {what} [dim]{time.monotonic() - started:.1f} s[/dim]")


def _key_file() -> Path:
    return Path(".state") / "key"
