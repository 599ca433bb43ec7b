"""Names and secrets of sessions, which any gateway can make again from the root key: nothing about them is stored. Pure.

    id       "i" and 25 letters and digits, from 128 random bits; no hyphen, since clients append what follows one
    tokens   HMAC of the id under the pool's key, one for each door: envd's (files, commands) and the traffic's (code, ports)
    keys     E2B's clients of some versions take only `e2b_` and hex digits, so an execution key may be spelt like that

Whoever has a token of a session has that session, as on E2B; a token says nothing of any other.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from execpool.api.names import KEY_PREFIX
from execpool.core.proof import KeyRing, RootKey

RANDOM_BYTES = 16
E2B_KEY_PREFIX = "e2b_"
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_LENGTH = 25
"""36 ** 25 > 2 ** 128."""
_ID = re.compile(r"i[0-9a-z]{25}")
_HEX = re.compile(r"(?:[0-9a-f]{2}){1,512}")


USER_KEY = "execpool.dev/user"
"""Of a session's metadata: the end user that it is for."""


@dataclass(frozen=True)
class About:
    """What any gateway has to know of a session again; nothing secret.

    Attributes:
        template: as its caller named it.
        started_at: UNIX seconds.
        metadata: its caller's.
    """

    template: str
    started_at: float
    metadata: Mapping[str, str]

    @property
    def user(self) -> str:
        """The end user that it is for."""
        return self.metadata.get(USER_KEY, "")

    def wire(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"template": self.template, "startedAt": self.started_at, "metadata": dict(self.metadata)}

    @classmethod
    def read(cls, wire: object) -> "About | None":
        """Read it; None when it is not as `wire` makes it."""
        match wire:
            case {"template": str(template), "startedAt": float() | int() as started, "metadata": dict(metadata)}:
                well_formed = all(isinstance(text, str) for pair in metadata.items() for text in pair)
                return cls(template, float(started), metadata) if well_formed else None
        return None


@dataclass(frozen=True)
class Session:
    """A session that has an executor.

    Attributes:
        id: its id.
        ends_at: its deadline, in UNIX seconds.
        about: what else is known.
    """

    id: str
    ends_at: float
    about: About


@dataclass(frozen=True)
class Opening:
    """A session that is to be opened.

    Attributes:
        id: of the session.
        seconds: until its deadline, from the moment at which it has an executor.
        about: what any gateway has to know of it again.
        env_vars: of all that runs in it.
    """

    id: str
    seconds: float
    about: About
    env_vars: Mapping[str, str] = field(default_factory=dict)


class Door(StrEnum):
    """What a token of a session opens."""

    ENVD = "envd"
    TRAFFIC = "traffic"


def session_id(random: bytes) -> str:
    """Return the id that RANDOM_BYTES bytes make."""
    number, digits = int.from_bytes(random), ""
    for _ in range(_LENGTH):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return f"i{digits}"


def is_session_id(text: str) -> bool:
    """True for what could be an id of ours."""
    return _ID.fullmatch(text) is not None


def token(key: RootKey, pool_uid: str, session: str, door: Door) -> str:
    """Return the token that opens a door of a session."""
    message = f"session/v1|{door}|{session}".encode()
    return hmac.new(key.pool_key(pool_uid), message, hashlib.sha256).hexdigest()


def opens(keys: KeyRing, pool_uid: str, session: str, door: Door, presented: str) -> bool:
    """True when a token opens a door of a session, under any generation of the root key that is in force."""
    given = presented.encode("utf-8", "replace")
    return any(hmac.compare_digest(given, token(key, pool_uid, session, door).encode()) for key in keys.keys)


def as_e2b_key(key: str) -> str:
    """Spell an execution key as E2B's clients want one."""
    return E2B_KEY_PREFIX + key.encode().hex()


def from_e2b_key(text: str) -> str | None:
    """Read an execution key in either spelling; None for what is neither."""
    if text.startswith(KEY_PREFIX):
        return text
    spelt = text.removeprefix(E2B_KEY_PREFIX)
    if spelt == text or not _HEX.fullmatch(spelt):
        return None
    key = bytes.fromhex(spelt).decode("ascii", "replace")
    return key if key.startswith(KEY_PREFIX) and key.isascii() and key.isprintable() else None
