"""HTTP ranges, content types and the like: what a download's headers say. Pure."""

import mimetypes
import re
from email.utils import formatdate
from urllib.parse import quote

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z")
# Only what is built in: the answer must not depend on the files of an image.
_TYPES = mimetypes.MimeTypes(filenames=())


def span(header: str) -> dict[str, int]:
    """Return what a Range header asks for as `first` and `last`; nothing when it asks for all, or for several parts."""
    match = _RANGE.match(header.replace(" ", ""))
    first, last = match.groups() if match else ("", "")
    if first and last and int(last) < int(first):
        return {}
    return {name: int(text) for name, text in (("first", first), ("last", last)) if text}


def content_type(name: str) -> str:
    """Return the type that a file's name promises."""
    kind = _TYPES.guess_type(name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def disposition(name: str) -> str:
    """Return a Content-Disposition that any name fits into."""
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", name)
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"


def last_modified(seconds: int) -> str:
    """Return a moment as HTTP writes it; empty when a calendar does not have it."""
    try:
        return formatdate(seconds, usegmt=True)
    except (ValueError, OverflowError, OSError):
        return ""
