"""`GET` and `POST /files`: contents, through a pipe to the agent; nothing is kept here but one chunk.

An upload is written into the file as it arrives, as E2B does it: what came of one that broke off stays. A download's
length is promised at its start; should the file become shorter meanwhile, the answer is broken off. Both must get on:
neither the client nor the agent may keep the other waiting for longer than `STALLED_SECONDS`.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Any, Self

from execpool.executor.agent_wire import MAX_METADATA_BYTES, Code, Op
from execpool.executor.server.envd import pipes, ranges
from execpool.executor.server.envd.agent import Agent
from execpool.executor.server.envd.errors import EnvdError, invalid
from execpool.executor.server.envd.exchange import Exchange, Headers, deadline
from execpool.executor.server.envd.multipart import Multipart, Part, boundary_of
from execpool.executor.server.http import ClientGone

MAX_UPLOAD_BYTES = 1 << 30
"""Of one request, and of what it unpacks to; a file of a run may not be longer either."""
STALLED_SECONDS = 30.0
_CLOSE_SECONDS = 10.0
"""What the agent takes at most to end a file that was broken off."""
_UNPACK_BYTES = 1 << 16


class Files:
    """The two calls."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def download(self, exchange: Exchange) -> None:
        """Send a file, or a part of it."""
        wanted = {} if exchange.header("If-Range") else ranges.span(exchange.header("Range"))
        ours, theirs = pipes.pipe_out()
        try:
            try:
                answer = await self._agent.call(
                    Op.DOWNLOAD, {"path": exchange.query.get("path", ""), **wanted}, [theirs]
                )
            except EnvdError as error:
                if error.code is not Code.OUT_OF_RANGE:
                    raise
                await _refuse_range(exchange, error.message)
                return
            finally:
                pipes.close_all([theirs])
            await _send(exchange, ours, answer, partial=bool(wanted))
        finally:
            ours.close()

    async def upload(self, exchange: Exchange) -> None:
        """Write one file from the body as it is, or several from a form."""
        kind = exchange.header("Content-Type")
        media = kind.partition(";")[0].strip().lower()
        body = _unpacked(exchange)
        metadata = _metadata(exchange)
        if media == "application/octet-stream":
            if "path" not in exchange.query:
                raise invalid("path query parameter is required for raw body upload")
            written = [await self._write(exchange.query["path"], body, metadata)]
        elif media.startswith("multipart/"):
            written = await self._write_form(exchange, body, Multipart(boundary_of(kind)), metadata)
        else:
            raise invalid(
                f"unsupported content type: {kind[:200]}, expected multipart/form-data or application/octet-stream"
            )
        await exchange.answer_json(written)

    async def _write(self, path: str, chunks: AsyncIterator[bytes], metadata: dict[str, str]) -> Any:
        async with Writing(self._agent, path, metadata) as writing:
            async for chunk in chunks:
                await writing.write(chunk)
            return await writing.finish()

    async def _write_form(
        self, exchange: Exchange, body: AsyncIterator[bytes], form: Multipart, metadata: dict[str, str]
    ) -> list[Any]:
        """Write the files of a form, one after the other."""
        written: list[Any] = []
        asked: list[str] = []
        writing: Writing | None = None
        try:
            async for chunk in body:
                for piece in form.feed(chunk):
                    if isinstance(piece, bytes):
                        if writing is not None:
                            await writing.write(piece)
                        continue
                    if writing is not None:
                        written.append(await writing.finish())
                    writing = self._next(exchange, piece, asked, metadata)
            form.finish()
            if writing is not None:
                written.append(await writing.finish())
        finally:
            if writing is not None:
                await writing.close()
        return written

    def _next(self, exchange: Exchange, part: Part, asked: list[str], metadata: dict[str, str]) -> "Writing | None":
        """Begin the file of a part; None for a field that is no file."""
        if part.name != "file":
            return None
        path = exchange.query.get("path", part.filename)
        if not path:
            raise invalid("error getting multipart custom part file name: the part has no filename")
        if path in asked:
            raise invalid(
                f"you cannot upload multiple files to the same path '{path}' in one upload request,"
                " only the first specified file was uploaded"
            )
        asked.append(path)
        return Writing(self._agent, path, metadata)


class Writing:
    """One file being written: a pipe to the agent, and its answer at the end."""

    def __init__(self, agent: Agent, path: str, metadata: dict[str, str]) -> None:
        self._pipe, theirs = pipes.pipe_in()
        self._call = asyncio.ensure_future(self._ask(agent, path, metadata, theirs))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def write(self, chunk: bytes) -> None:
        """Write more.

        Raises:
            EnvdError: the agent does not take it.
        """
        try:
            async with deadline(STALLED_SECONDS, "the agent of this executor did not take the file"):
                await self._pipe.write(chunk)
        except OSError:
            await self.finish()
            raise EnvdError(Code.INTERNAL, "error writing file: the agent stopped reading") from None

    async def finish(self) -> Any:
        """End the file; return what the agent says of it.

        Raises:
            EnvdError: it was not written.
        """
        self._pipe.close()
        return await self._call

    async def close(self) -> None:
        """Leave it as it is, if it was not finished."""
        self._pipe.close()
        await asyncio.wait([self._call], timeout=_CLOSE_SECONDS)
        if not self._call.cancel() and not self._call.cancelled():
            self._call.exception()

    @staticmethod
    async def _ask(agent: Agent, path: str, metadata: dict[str, str], theirs: int) -> Any:
        try:
            return await agent.call(Op.UPLOAD, {"path": path, "metadata": metadata}, [theirs])
        finally:
            pipes.close_all([theirs])


async def _send(exchange: Exchange, ours: pipes.End, answer: dict[str, Any], *, partial: bool) -> None:
    left = int(answer["length"])
    await exchange.begin(206 if partial else 200, _headers(answer, partial=partial))
    while left > 0:
        chunk = (await _next(ours))[:left]
        if not chunk:
            raise ClientGone  # the answer stays incomplete, and the connection is closed
        left -= len(chunk)
        await exchange.send(chunk, last=left == 0)
    if not int(answer["length"]):
        await exchange.send(b"", last=True)


async def _next(ours: pipes.End) -> bytes:
    """Return the next piece of a file; empty when there is none, or none for a long time."""
    try:
        async with asyncio.timeout(STALLED_SECONDS):
            return await ours.chunk()
    except TimeoutError:
        return b""


def _headers(answer: dict[str, Any], *, partial: bool) -> Headers:
    name = str(answer["path"]).rpartition("/")[2]
    start, length = int(answer["start"]), int(answer["length"])
    fields = {
        "content-type": ranges.content_type(name),
        "content-length": str(length),
        "content-disposition": ranges.disposition(name),
        "accept-ranges": "bytes",
        "last-modified": ranges.last_modified(int(answer["modified"])),
        "vary": "Accept-Encoding",
        "x-content-type-options": "nosniff",
    }
    if partial:
        fields["content-range"] = f"bytes {start}-{start + length - 1}/{int(answer['size'])}"
    return [(name.encode(), value.encode("latin-1")) for name, value in fields.items() if value]


async def _refuse_range(exchange: Exchange, size: str) -> None:
    error = EnvdError(Code.OUT_OF_RANGE, "invalid range: failed to overlap")
    shown = size if size.isdigit() else "*"
    await exchange.answer_json(error.plain(), error.plain_status, [(b"content-range", f"bytes */{shown}".encode())])


async def _unpacked(exchange: Exchange) -> AsyncIterator[bytes]:
    """Yield the body, unpacked when it is packed.

    Raises:
        EnvdError: it is packed otherwise, broken, or longer than an upload may be.
    """
    encoding = exchange.header("Content-Encoding").strip().lower()
    if encoding in ("", "identity"):
        async for chunk in exchange.chunks(MAX_UPLOAD_BYTES, STALLED_SECONDS):
            yield chunk
        return
    if encoding != "gzip":
        raise invalid(f"unsupported Content-Encoding: {encoding[:64]}, supported: [gzip]")
    async for chunk in _inflated(exchange):
        yield chunk


async def _inflated(exchange: Exchange) -> AsyncIterator[bytes]:
    unpacker = zlib.decompressobj(wbits=31)
    left = MAX_UPLOAD_BYTES
    async for chunk in exchange.chunks(MAX_UPLOAD_BYTES, STALLED_SECONDS):
        packed = chunk
        while plain := _unpack(unpacker, packed):
            packed = unpacker.unconsumed_tail
            left -= len(plain)
            if left < 0:
                raise EnvdError(Code.TOO_LARGE, f"the body unpacks to more than {MAX_UPLOAD_BYTES} bytes")
            yield plain
        if unpacker.unused_data:  # kept whole by zlib, however much it is
            raise invalid("error decompressing request body: data after the end of the gzip stream")
    if not unpacker.eof:
        raise invalid("error decompressing request body: unexpected EOF")


def _unpack(unpacker: Any, packed: bytes) -> bytes:
    """Return the next piece; empty when more must come."""
    try:
        plain: bytes = unpacker.decompress(packed, _UNPACK_BYTES)
    except zlib.error as error:
        raise invalid("error decompressing request body: invalid gzip data") from error
    return plain


def _metadata(exchange: Exchange) -> dict[str, str]:
    metadata = exchange.headers_with("X-Metadata-")
    if sum(len(name) + len(value) for name, value in metadata.items()) > MAX_METADATA_BYTES:
        raise invalid(f"metadata has more than {MAX_METADATA_BYTES} bytes")
    return metadata
