"""Names and secrets of sessions, which any gateway can make again from the root key: nothing about them is stored. Pure.

    id       "i" and 25 letters and digits, from 128 random bits; no hyphen, since clients append what follows one
    tokens   HMAC of the id under the pool's key, one for each door: envd's (files, commands) and the traffic's (code, ports)
    keys     E2B's clients of some versions take only `e2b_` and hex digits, so an execution key may be spelt like that

Whoever has a token of a session has that session, as on E2B; a token says nothing of any other.
"""

import hashlib
import hmac
import re
from enum import StrEnum

from execpool.api.names import KEY_PREFIX
from execpool.core.proof import KeyRing, RootKey

RANDOM_BYTES = 16
E2B_KEY_PREFIX = "e2b_"
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_LENGTH = 25
"""36 ** 25 > 2 ** 128."""
_ID = re.compile(r"i[0-9a-z]{25}")
_HEX = re.compile(r"(?:[0-9a-f]{2}){1,512}")


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
    return any([hmac.compare_digest(given, token(key, pool_uid, session, door).encode()) for key in keys.keys])


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
