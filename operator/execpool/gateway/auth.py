"""Who calls: execution keys, from the watch, by the SHA-256 of what the caller presents.

A key names a tenant and sees the pools of its own namespace. Its object holds no secret, so whoever can read it can also
copy its hash into another object. A key's text names its namespace (`ep_<namespace>_<random>`), and only objects of that
namespace are looked at, so a copy elsewhere changes nothing. Two objects with one hash in the same namespace are refused
both, and logged, rather than letting the copy decide where the caller's code goes.
"""

import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from execpool.api.names import KEY_PREFIX, Refusal
from execpool.api.v1alpha1 import ExecutionKeySpec
from execpool.gateway.errors import GatewayError
from execpool.kube.client import EventType, Object

log = logging.getLogger(__name__)

_BEARER = re.compile(r"[Bb]earer +(\S{1,512}) *")
_KEY = re.compile(rf"{KEY_PREFIX}([^_]+)_.+")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a key names, and what it may see."""

    namespace: str
    key: str
    tenant: str
    pools: frozenset[str]
    """Empty means all pools of the namespace."""
    expires_at: float | None
    disabled: bool

    def sees(self, pool: str) -> bool:
        """True when the key may use a pool of its namespace."""
        return not self.pools or pool in self.pools


class Keys:
    """All execution keys, kept by namespace and hash.

    Args:
        now: UNIX seconds, for expiry.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._places: dict[str, tuple[str, str]] = {}
        self._callers: dict[tuple[str, str], dict[str, Caller]] = {}

    def on_change(self, event: EventType, wire: Object) -> None:
        """Take in an ExecutionKey as the watch shows it."""
        uid = wire["metadata"]["uid"]
        self._remove(uid)
        if event is EventType.DELETED:
            return
        try:
            spec = ExecutionKeySpec.read(wire.get("spec") or {})
        except ValidationError as error:
            log.warning("key ignored", extra={"key": wire["metadata"]["name"], "errors": error.error_count()})
            return
        place = self._places[uid] = (wire["metadata"]["namespace"], spec.key_hash)
        self._callers.setdefault(place, {})[uid] = _caller(wire["metadata"], spec)

    def authenticate(self, authorization: str | None) -> Caller:
        """Return whom an Authorization header names.

        Raises:
            GatewayError: Unauthenticated.
        """
        presented = _BEARER.fullmatch(authorization or "")
        if presented is None:
            raise _denied(f"an execution key is needed, as `Authorization: Bearer {KEY_PREFIX}...`")
        named = _KEY.fullmatch(presented[1])
        digest = hashlib.sha256(presented[1].encode()).hexdigest()
        found = self._callers.get((named[1], digest)) if named is not None else None
        if found is None:
            raise _denied("the execution key is not known")
        if len(found) > 1:
            keys = sorted(f"{caller.namespace}/{caller.key}" for caller in found.values())
            log.error("key is ambiguous", extra={"keys": keys})
            raise _denied("the execution key is ambiguous: several ExecutionKeys of its namespace have its hash")
        (caller,) = found.values()
        self._check(caller)
        return caller

    def _check(self, caller: Caller) -> None:
        if caller.disabled:
            raise _denied(f"the execution key {caller.key} is disabled", key=caller.key)
        if caller.expires_at is not None and caller.expires_at <= self._now():
            raise _denied(f"the execution key {caller.key} has expired", key=caller.key)

    def _remove(self, uid: str) -> None:
        place = self._places.pop(uid, None)
        if place is not None:
            self._callers[place].pop(uid)
            if not self._callers[place]:
                del self._callers[place]


def _caller(metadata: Mapping[str, Any], spec: ExecutionKeySpec) -> Caller:
    return Caller(
        namespace=metadata["namespace"],
        key=metadata["name"],
        tenant=spec.tenant,
        pools=frozenset(spec.pools),
        expires_at=None if spec.expires_at is None else spec.expires_at.timestamp(),
        disabled=spec.disabled,
    )


def _denied(sentence: str, **facts: Any) -> GatewayError:
    return GatewayError(Refusal.UNAUTHENTICATED, sentence, **facts)
