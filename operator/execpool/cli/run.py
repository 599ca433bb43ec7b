"""`execpool run FILE`: one execution through the gateway, its output live, its outcome as the exit status.

0   the program ended well
1   the program raised
2   it was not run: usage, a refusal, no gateway
3   anything else: TimedOut, Killed, Cancelled, Unknown, or an answer that never came: it may have run
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer

OK, FAILED, NOT_RUN, OTHER = 0, 1, 2, 3
EXIT_STATUS = {"Succeeded": OK, "Failed": FAILED}
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 60.0
"""Longest silence on the stream; the gateway sends something every 5 s."""
MAX_LINE_BYTES = 64 << 20


class NotRunError(Exception):
    """The execution was not run, and the message says why in one sentence."""


class LostError(Exception):
    """The execution was sent and how it ended is unknown: it may have run."""


class Output(StrEnum):
    """Forms of the result."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True)
class Target:
    """Where to run, and as whom."""

    url: str
    key: str


def run(  # noqa: PLR0917 - typer passes them by name
    file: Annotated[str, typer.Argument(help="Python file to run; - for stdin.")],
    pool: Annotated[str, typer.Option(help="Pool; may be left out when the key sees only one.")] = "",
    user: Annotated[str, typer.Option(help="End user for whom it runs.")] = "",
    tier: Annotated[str, typer.Option(help="Tier; the pool's order when left out.")] = "",
    timeout: Annotated[float | None, typer.Option(help="Longest run in seconds.")] = None,
    max_wait: Annotated[float | None, typer.Option(help="Longest wait for an executor in seconds.")] = None,
    url: Annotated[str, typer.Option(envvar="EXECPOOL_URL", help="Address of the gateway.")] = "",
    key: Annotated[str, typer.Option(envvar="EXECPOOL_KEY", help="Execution key.", show_envvar=True)] = "",
    output: Annotated[
        Output, typer.Option("--output", "-o", help="json: the answer alone, as one object.")
    ] = Output.TEXT,
) -> None:
    """Run a Python file on an executor of a pool."""
    wishes = {"pool": pool, "user": user, "tier": tier, "timeoutSeconds": timeout, "maxWaitSeconds": max_wait}
    raise typer.Exit(asyncio.run(execute(url, key, file, wishes, output)))


async def execute(
    url: str, key: str, file: str, wishes: Mapping[str, Any] | None = None, output: Output = Output.TEXT
) -> int:
    """Run a file and show what becomes of it; return the exit status."""
    try:
        asked = {name: wish for name, wish in (wishes or {}).items() if wish not in ("", None)}
        request = {"code": _source(file)} | asked
        answer = await _execute(_target(url, key), request, live=output is Output.TEXT)
    except NotRunError as error:
        print(f"execpool: {error}", file=sys.stderr)
        return NOT_RUN
    except LostError as error:
        print(f"execpool: Unknown: {error}; the code may have run", file=sys.stderr)
        return OTHER
    if output is Output.JSON:
        print(json.dumps({name: value for name, value in answer.items() if name != "type"}, indent=2))
    elif answer["status"] not in EXIT_STATUS:
        print(f"execpool: {answer['status']}: {answer['reason']} {answer['message']}".rstrip(), file=sys.stderr)
    return EXIT_STATUS.get(answer["status"], OTHER)


def _source(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text()
    except OSError as error:
        raise NotRunError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise NotRunError(f"{file} is not UTF-8 text") from error


def _target(url: str, key: str) -> Target:
    if not url:
        raise NotRunError("no gateway: give --url or set EXECPOOL_URL")
    if not key:
        raise NotRunError("no key: give --key or set EXECPOOL_KEY (`execpool key create` makes one)")
    return Target(url.rstrip("/"), key)


async def _execute(target: Target, request: dict[str, Any], *, live: bool) -> dict[str, Any]:
    """Run it; return the answer after showing, when `live`, everything that came before."""
    async for event in _events(target, request):
        if event["type"] == "answer":
            return event
        if event["type"] == "refused":
            raise NotRunError(sentence_of(event["problem"]))
        if live:
            show(event)
    raise LostError("the gateway's answer broke off")


async def _events(target: Target, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {target.key}", "Accept": "application/x-ndjson"}
    limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=limits, read_bufsize=MAX_LINE_BYTES // 2) as session,
            session.post(f"{target.url}/v1/executions", json=request, headers=headers) as response,
        ):
            if response.status != 200:
                raise NotRunError(sentence_of(_problem(response.status, await response.read())))
            async for line in response.content:
                yield json.loads(line)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
        raise NotRunError(f"{target.url} does not answer as a gateway: {error or type(error).__name__}") from error
    except (aiohttp.ClientError, OSError) as error:
        raise LostError(f"{target.url} broke off: {error or type(error).__name__}") from error
    except ValueError as error:
        raise LostError(f"{target.url} sent something that is not an answer") from error


def _problem(status: int, body: bytes) -> dict[str, Any]:
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    return problem if isinstance(problem, dict) else {"title": f"the gateway answered {status}"}


def sentence_of(problem: dict[str, Any]) -> str:
    """Return a refusal as one sentence with its reason and when to ask again."""
    sentence = str(problem.get("detail") or problem.get("title") or "refused")
    reason = f"{problem['reason']}: " if "reason" in problem else ""
    wait = problem.get("retryAfterSeconds")
    return reason + sentence + (f" (try again in {wait} s)" if wait is not None else "")


def show(event: dict[str, Any]) -> None:
    """Show one event: output as it came, everything of ours on stderr."""
    kind = event["type"]
    if kind == "stdout":
        sys.stdout.write(event["text"])
        sys.stdout.flush()
    elif kind == "stderr":
        sys.stderr.write(event["text"])
        sys.stderr.flush()
    elif kind == "error":
        print(event["traceback"] or f"{event['name']}: {event['value']}", file=sys.stderr)
    elif kind == "result":
        print(_shown(event))
    elif kind == "waiting" and sys.stderr.isatty():
        print(f"waiting, number {event['position']} in line", file=sys.stderr)


def _shown(result: dict[str, Any]) -> str:
    if isinstance(result.get("text"), str):
        return str(result["text"])
    kinds = ", ".join(sorted(set(result) - {"type", "is_main_result", "extra"}))
    return f"<{kinds or 'result'}; --output json shows it>"
