"""`execpool key create` and `execpool root-key create`: make secrets, print what Kubernetes may hold of them.

Nothing is stored and nothing is sent. A key's manifest holds its hash only, so it fits into Git; the key itself is shown
once, on another stream than the manifest, so that a pipe into `kubectl apply -f -` never carries it.
"""

import hashlib
import json
import os
import re
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from execpool.api.fields import DNS_LABEL, DNS_SUBDOMAIN
from execpool.api.names import API_VERSION, KEY_PREFIX

ROOT_KEY_SECRET = "execpool-root-key"  # noqa: S105 - the name of a Secret
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Output(StrEnum):
    """Forms of a new key."""

    YAML = "yaml"
    JSON = "json"
    ENV = "env"


def key_create(  # noqa: PLR0917 - typer passes them by name
    tenant: Annotated[str, typer.Option(help="Whom the key names.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the pools it is for.")] = "default",
    name: Annotated[str, typer.Option(help="Name of the ExecutionKey; made from tenant and hash when left out.")] = "",
    pool: Annotated[
        list[str] | None, typer.Option(help="A pool it may use; repeatable. All of them when left out.")
    ] = None,
    expires: Annotated[
        str, typer.Option(help="How long it is valid, such as 30d or 12h; for ever when left out.")
    ] = "",
    output: Annotated[
        Output, typer.Option("--output", "-o", help="env: the key for a shell, the manifest on stderr.")
    ] = Output.YAML,
    secret_file: Annotated[
        Path | None, typer.Option(help="Write the key to this new file instead of showing it.")
    ] = None,
) -> None:
    """Make an execution key: its manifest on stdout, for kubectl or Git, and the key itself once on stderr."""
    key, manifest = make_key(
        tenant=tenant, namespace=namespace, name=name, pools=pool or [], expires_at=expiry(expires)
    )
    text = json.dumps(manifest, indent=2) + "\n" if output is Output.JSON else yaml.safe_dump(manifest, sort_keys=False)
    if secret_file is not None:
        write_secret(secret_file, key)
        print(f"The key is in {secret_file}. It cannot be shown again.", file=sys.stderr)
    if output is Output.ENV:
        print(f"export EXECPOOL_KEY={key}" if secret_file is None else f"export EXECPOOL_KEY=$(cat {secret_file})")
        sys.stderr.write(text)
        return
    sys.stdout.write(text)
    if secret_file is None:
        print(f"The key, shown this once: {key}", file=sys.stderr)


def root_key_create(
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Namespace of operator and gateway.")
    ] = "execpool-system",
) -> None:
    """Print a Secret with a new root key, for `kubectl apply -f -`. Whoever has it can claim every executor."""
    sys.stdout.write(yaml.safe_dump(make_root_key(namespace), sort_keys=False))


def make_root_key(namespace: str) -> dict[str, Any]:
    """Return the manifest of a Secret with a new root key."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": ROOT_KEY_SECRET, "namespace": namespace},
        "type": "Opaque",
        "stringData": {"current": secrets.token_hex(32)},
    }


def hash_of(key: str) -> str:
    """Return what an ExecutionKey holds of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def key_start(namespace: str) -> str:
    """Return how every key of a namespace begins: the gateway looks for its ExecutionKey there and nowhere else."""
    return f"{KEY_PREFIX}{namespace}_"


def make_key(
    *,
    tenant: str,
    namespace: str,
    name: str = "",
    pools: Sequence[str] = (),
    expires_at: datetime | None = None,
) -> tuple[str, dict[str, Any]]:
    """Return a new key and the manifest of its ExecutionKey."""
    _must_match("tenant", tenant, DNS_LABEL, 63)
    _must_match("namespace", namespace, DNS_LABEL, 63)
    key = f"{key_start(namespace)}{secrets.token_urlsafe(32)}"
    hashed = hash_of(key)
    name = name or f"{tenant}-{hashed[:8]}"
    for what, value in (("name", name), *(("pool", pool) for pool in pools)):
        _must_match(what, value, DNS_SUBDOMAIN, 253)
    spec: dict[str, Any] = {"keyHash": hashed, "tenant": tenant}
    if pools:
        spec["pools"] = sorted(set(pools))
    if expires_at is not None:
        spec["expiresAt"] = expires_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    manifest = {
        "apiVersion": API_VERSION,
        "kind": "ExecutionKey",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
    return key, manifest


def expiry(duration: str, now: datetime | None = None) -> datetime | None:
    """Return the end of a duration such as `30d` from now; None for an empty one."""
    if not duration:
        return None
    matched = re.fullmatch(r"([1-9]\d{0,5})([smhdw])", duration)
    if matched is None:
        raise typer.BadParameter(
            "a duration is a whole number and s, m, h, d or w, such as 30d", param_hint="--expires"
        )
    return (now or datetime.now(UTC)) + timedelta(seconds=int(matched[1]) * _UNITS[matched[2]])


def write_secret(file: Path, key: str) -> None:
    """Write a key to a new file that only its owner can read."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        sentence = f"{file} exists and is kept, since the key in it may be in use; name another file, or remove it"
        raise typer.BadParameter(sentence, param_hint="--secret-file") from error
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="--secret-file") from error
    with os.fdopen(descriptor, "w") as opened:
        opened.write(key + "\n")


def _must_match(what: str, value: str, pattern: str, longest: int) -> None:
    if len(value) > longest or re.fullmatch(pattern, value) is None:
        dots = "" if pattern == DNS_LABEL else ", dots"
        rule = f"lower-case letters, digits{dots} and dashes, at most {longest}, a letter or digit first and last"
        raise typer.BadParameter(f"{value!r} is not a Kubernetes name: {rule}", param_hint=f"--{what}")
