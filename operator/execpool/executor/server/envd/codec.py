"""Connect's envelopes and proto-JSON, as far as E2B's services need them. Pure.

An envelope is a byte of flags, a length of four bytes and a JSON message. Flag 1 (compressed) is refused, since nothing
here offers compression; flag 2 ends a stream and comes from servers only. A message's length is checked before a byte of
it is kept. Proto-JSON: names in lowerCamelCase or as in the .proto file, null means absent, whole numbers may be texts,
bytes are base64 in either alphabet, with or without padding.
"""

import base64
import binascii
from collections.abc import Iterator
from typing import Any

import orjson

from execpool.executor.agent_wire import Code
from execpool.executor.server.envd.errors import EnvdError, invalid

MAX_MESSAGE_BYTES = 2 << 20
_COMPRESSED, _END = 1, 2
_HEAD = 5
MAX_ENVELOPE_BYTES = _HEAD + MAX_MESSAGE_BYTES

Message = dict[str, Any]


def envelope(message: Message) -> bytes:
    """Return a message of a stream."""
    return _wrap(0, orjson.dumps(message))


def end(error: EnvdError | None = None) -> bytes:
    """Return the end of a stream."""
    return _wrap(_END, orjson.dumps({} if error is None else {"error": error.connect()}))


def _wrap(flags: int, body: bytes) -> bytes:
    return bytes([flags]) + len(body).to_bytes(4, "big") + body


class Envelopes:
    """Bytes in, messages out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that are complete now.

        Raises:
            EnvdError: what came is no message, or longer than one may be.
        """
        self._buffer += data
        while len(self._buffer) >= _HEAD:
            length = int.from_bytes(self._buffer[1:_HEAD], "big")
            if length > MAX_MESSAGE_BYTES:
                raise EnvdError(
                    Code.RESOURCE_EXHAUSTED, f"message size {length} is larger than configured max {MAX_MESSAGE_BYTES}"
                )
            if self._buffer[0] & _COMPRESSED:
                raise EnvdError(Code.INTERNAL, "protocol error: sent compressed message without compression support")
            if self._buffer[0]:
                raise invalid(f"protocol error: invalid envelope flags {self._buffer[0]}")
            if len(self._buffer) < _HEAD + length:
                return
            body = bytes(self._buffer[_HEAD : _HEAD + length])
            del self._buffer[: _HEAD + length]
            yield parse(body)

    def finish(self) -> None:
        """Take note that nothing more comes.

        Raises:
            EnvdError: a message was cut off.
        """
        if self._buffer:
            raise invalid("protocol error: incomplete envelope")


def parse(body: bytes) -> Message:
    """Read a message; an empty body is an empty one.

    Raises:
        EnvdError: when it is not a JSON object.
    """
    if not body:
        return {}
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid("unmarshal message: not JSON") from error
    if not isinstance(message, dict):
        raise invalid("unmarshal message: not a JSON object")
    return message


def field(message: Message, name: str) -> Any:
    """Return a field under either of its names; None when it is absent."""
    value = message.get(name)
    if value is not None:
        return value
    return message.get("".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name))


def text(message: Message, name: str) -> str:
    """Return a text; empty when it is absent."""
    value = field(message, name)
    if value is None:
        return ""
    if not isinstance(value, str) or "\0" in value:
        raise invalid(f"{name} is not a text without zero bytes")
    return value


def flag(message: Message, name: str) -> bool:
    """Return a truth value; False when it is absent."""
    value = field(message, name)
    if value is not None and not isinstance(value, bool):
        raise invalid(f"{name} is not true or false")
    return bool(value)


def number(message: Message, name: str) -> int:
    """Return an unsigned number of 32 bits; 0 when it is absent."""
    value = field(message, name)
    if value is None:
        return 0
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 11:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise invalid(f"{name} is not an unsigned number of 32 bits")
    return value


def data(message: Message, name: str) -> bytes:
    """Return bytes; empty when they are absent."""
    value = field(message, name)
    if value is None:
        return b""
    try:
        plain = value.translate(_EITHER).rstrip("=")
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (AttributeError, ValueError, binascii.Error) as error:
        raise invalid(f"{name} is not base64") from error


_EITHER = str.maketrans("-_", "+/")


def inner(message: Message, name: str) -> Message | None:
    """Return a message within a message; None when it is absent."""
    value = field(message, name)
    if value is not None and not isinstance(value, dict):
        raise invalid(f"{name} is not an object")
    return value


def texts(message: Message, name: str) -> list[str]:
    """Return a list of texts."""
    values = field(message, name)
    if values is None:
        return []
    if not isinstance(values, list):
        raise invalid(f"{name} is not a list")
    return [text({name: value}, name) for value in values]


def mapping(message: Message, name: str) -> dict[str, str]:
    """Return texts by name."""
    values = inner(message, name) or {}
    for key, value in values.items():
        if not isinstance(value, str) or "\0" in value or "\0" in key:
            raise invalid(f"{name} is not an object of texts without zero bytes")
    return dict(values)
