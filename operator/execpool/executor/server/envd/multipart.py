"""Multipart form data, read as it arrives: parts go out in pieces, so that nothing is kept but the end of a boundary.

    Part(filename="/home/user/a.txt", name="file"), b"...", b"...", Part(...), b"...", end

E2B's clients put a whole path into `filename`, quotes and non-ASCII characters percent-encoded or escaped; it is taken as
it is, since paths are judged where they are opened. Pure; bounded: a part's head has at most 8 KiB, and there are at most
`MAX_PARTS` parts.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from execpool.executor.server.envd.errors import invalid

MAX_PARTS = 1000
_MAX_HEAD = 8 * 1024
_PARAMETER = re.compile(r';\s*([A-Za-z0-9*_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))')


@dataclass(frozen=True)
class Part:
    """The head of a part."""

    name: str
    filename: str


Piece = Part | bytes


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a Content-Type names.

    Raises:
        EnvdError: there is none.
    """
    boundary = _parameters(content_type).get("boundary", "")
    if not 0 < len(boundary) <= 200:
        raise invalid("error parsing multipart form: no multipart boundary param in Content-Type")
    return boundary.encode("latin-1", "replace")


class Multipart:
    """Bytes in, parts and pieces of them out.

    The states: before the first boundary, in a head, in a body, after the last boundary. A boundary is looked for with
    the line end before it, so the first line end is ours.
    """

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")
        self._in_body = False
        self._preamble = True
        self._parts = 0
        self.ended = False

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Yield what is known now.

        Raises:
            EnvdError: it is no multipart form, or too much of one.
        """
        self._buffer += data
        while not self.ended:
            piece = self._body() if self._in_body or self._preamble else self._head()
            if piece is None:
                return
            if piece:
                yield piece
        self._buffer.clear()

    def finish(self) -> None:
        """Take note that nothing more comes.

        Raises:
            EnvdError: the last boundary did not come.
        """
        if not self.ended:
            raise invalid("error reading form: unexpected end of the body")

    def _body(self) -> bytes | None:
        """Return bytes of the body up to a boundary; None when more must come."""
        at = self._buffer.find(self._delimiter)
        if at < 0:
            kept = len(self._delimiter) - 1
            taken = bytes(self._buffer[:-kept]) if len(self._buffer) > kept else b""
            del self._buffer[: len(taken)]
            return None if self._preamble else taken or None
        after = at + len(self._delimiter)
        if len(self._buffer) < after + 2:
            return None
        body = b"" if self._preamble else bytes(self._buffer[:at])
        self.ended = bytes(self._buffer[after : after + 2]) == b"--"
        # The line end after a boundary stays: a head without any field is then found by its empty line.
        del self._buffer[:after]
        self._in_body = self._preamble = False
        return body

    def _head(self) -> Part | None:
        at = self._buffer.find(b"\r\n\r\n")
        if at < 0:
            if len(self._buffer) > _MAX_HEAD:
                raise invalid("error reading form: the head of a part is too long")
            return None
        self._parts += 1
        if at > _MAX_HEAD or self._parts > MAX_PARTS:
            raise invalid("error reading form: too many parts, or the head of one is too long")
        head = bytes(self._buffer[:at]).decode("utf-8", "replace")
        del self._buffer[: at + 4]
        self._in_body = True
        return _part(head)


def _part(head: str) -> Part:
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            parameters = _parameters(value)
            return Part(parameters.get("name", ""), parameters.get("filename", ""))
    return Part("", "")


def _parameters(value: str) -> dict[str, str]:
    found = {}
    for name, quoted, plain in _PARAMETER.findall(value):
        found[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) or plain
    return found
