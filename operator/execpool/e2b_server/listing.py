"""Lists of sandboxes: filters, order, pages. Pure.

A page begins after the sandbox that its cursor names, by time of start and id, so that what begins or ends in between
moves nobody from one page to another.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote_plus

from execpool.e2b_server.errors import InvalidError
from execpool.e2b_server.exchange import Answer
from execpool.e2b_server.views import Shown, View, listed

MAX_LIMIT = 100
_SEPARATOR = "__"


@dataclass(frozen=True)
class Query:
    """What a list shows."""

    metadata: Mapping[str, str]
    states: frozenset[Shown] = frozenset({Shown.RUNNING, Shown.PAUSED})
    ascending: bool = False
    started_after: float = 0.0
    template: str = ""
    limit: int = MAX_LIMIT
    after: tuple[float, str] | None = None
    """Start and id of the last one of the page before."""


@dataclass(frozen=True)
class Page:
    """A part of a list."""

    sandboxes: list[View]
    next_token: str
    """Names the next page; empty on the last one."""
    running: int
    """How many running ones the filters find, on all pages."""


def page(sandboxes: Iterable[View], query: Query) -> Page:
    """Return the page that a query asks for."""
    found = [sandbox for sandbox in sandboxes if _matches(sandbox, query)]
    found.sort(key=_place, reverse=not query.ascending)
    rest = found if query.after is None else [each for each in found if _is_after(_place(each), query)]
    shown = rest[: query.limit]
    token = cursor(_place(shown[-1])) if len(rest) > len(shown) else ""
    return Page(shown, token, sum(sandbox.state is Shown.RUNNING for sandbox in found))


def answer(sandboxes: Iterable[View], query: Query, *, version: int) -> Answer:
    """Return the answer to a list. The first version of the API shows those that run, on one page."""
    if version == 1:
        running = [sandbox for sandbox in sandboxes if sandbox.state is Shown.RUNNING]
        everything = Query(query.metadata, limit=max(len(running), 1))
        return Answer.json(200, [listed(sandbox) for sandbox in page(running, everything).sandboxes])
    shown = page(sandboxes, query)
    headers = {"X-Next-Token": shown.next_token} if shown.next_token else {}
    if Shown.RUNNING in query.states:
        headers["X-Total-Running"] = str(shown.running)
    return Answer.json(200, [listed(sandbox) for sandbox in shown.sandboxes], headers)


def read_query(values: Mapping[str, list[str]]) -> Query:
    """Read the query string of a list.

    Raises:
        InvalidError: a value is not as it has to be.
    """
    order = _one(values, "order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidError("order must be asc or desc")
    token = _one(values, "nextToken", "")
    return Query(
        metadata=read_metadata(_one(values, "metadata", "")),
        states=_states(values.get("state", [])),
        ascending=order == "asc",
        started_after=_moment(_one(values, "startedAfter", "")),
        template=_one(values, "template", ""),
        limit=_limit(_one(values, "limit", str(MAX_LIMIT))),
        after=read_cursor(token) if token else None,
    )


def read_metadata(text: str) -> dict[str, str]:
    """Read a filter. It is encoded as a whole, and its keys and values once more; a form that older clients send is not."""
    pairs = [pair.partition("=") for pair in unquote_plus(text).split("&") if pair]
    return {unquote_plus(name): unquote_plus(value) for name, _, value in pairs}


def cursor(place: tuple[float, str]) -> str:
    """Return the token of the page that begins after a place."""
    return base64.urlsafe_b64encode(f"{place[0]!r}{_SEPARATOR}{place[1]}".encode()).decode()


def read_cursor(token: str) -> tuple[float, str]:
    """Read a token.

    Raises:
        InvalidError: it is none.
    """
    try:
        moment, _, sandbox_id = base64.urlsafe_b64decode(token.encode()).decode().partition(_SEPARATOR)
        return float(moment), sandbox_id
    except (binascii.Error, ValueError) as error:
        raise InvalidError("Invalid next token") from error


def _place(sandbox: View) -> tuple[float, str]:
    return sandbox.started_at, sandbox.id


def _is_after(place: tuple[float, str], query: Query) -> bool:
    if query.after is None:
        return True
    return place > query.after if query.ascending else place < query.after


def _matches(sandbox: View, query: Query) -> bool:
    return (
        sandbox.state in query.states
        and sandbox.started_at >= query.started_after
        and query.template in ("", sandbox.template)
        and query.metadata.items() <= sandbox.metadata.items()
    )


def _states(values: list[str]) -> frozenset[Shown]:
    names = [name for value in values for name in value.split(",") if name]
    if unknown := set(names) - {Shown.RUNNING, Shown.PAUSED}:
        raise InvalidError(f"state must be running or paused, not {', '.join(sorted(unknown))}")
    return frozenset(map(Shown, names)) or frozenset({Shown.RUNNING, Shown.PAUSED})


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6) or not 1 <= int(text) <= MAX_LIMIT:
        raise InvalidError(f"limit must be a number from 1 to {MAX_LIMIT}")
    return int(text)


def _moment(text: str) -> float:
    if not text:
        return 0.0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidError("startedAfter must be a time (RFC 3339)") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _one(values: Mapping[str, list[str]], name: str, default: str) -> str:
    return values.get(name, [default])[-1]
