"""The one door to the API server: plain dicts in and out, typed errors, explicit timeouts, a fence for writes.

Configuration, credentials and TLS are `kubernetes.aio`'s; its typed and dynamic calls are not used, since they cost two
to five times a raw call (measured: a list of 100 pods takes 25-30 ms of CPU there). Reads are quorum reads: no
`resourceVersion=0`, which may go back in time.
"""

import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import urlencode

import aiohttp
import orjson

if TYPE_CHECKING:
    from kubernetes.aio.client import Configuration

from execpool.kube.errors import FencedError, GoneError, UnreachableError, refusal
from execpool.kube.kinds import Kind

Object = dict[str, Any]

PAGE = 500
READ_TIMEOUT = aiohttp.ClientTimeout(total=10, connect=5)
WRITE_TIMEOUT = aiohttp.ClientTimeout(total=4.5, connect=3)
"""A write that starts at the last moment of a leader's ten seconds has ended before its Lease has."""
WATCH_SECONDS = 300
"""How long a watch lasts before the server ends it; the reader starts the next one where it stopped."""
WATCH_SILENCE = aiohttp.ClientTimeout(total=None, connect=5, sock_read=90)
"""Bookmarks come once a minute, so 90 s of silence is a dead connection."""


class EventType(StrEnum):
    """Types of watch events."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    ERROR = "ERROR"


@dataclass(frozen=True)
class WatchEvent:
    """One line of a watch."""

    type: EventType
    object: Object


@dataclass(frozen=True)
class Listing:
    """All pages of a list, and the version to watch from."""

    items: tuple[Object, ...]
    resource_version: str


class Kube(Protocol):
    """What the rest of execpool may do with the API server; `memory.MemoryKube` is another one, `fake.FakeKube` the double."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """Read one object. Raises NotFoundError."""

    async def list(self, kind: Kind, namespace: str | None = None, *, labels: str = "") -> Listing:
        """Read all objects that match a label selector; in all namespaces when `namespace` is None."""

    async def create(self, kind: Kind, namespace: str | None, body: Object) -> Object:
        """Create an object. Raises ConflictError when the name is taken."""

    async def patch(
        self, kind: Kind, namespace: str | None, name: str, patch: Object | Sequence[Object], *, subresource: str = ""
    ) -> Object:
        """Apply a merge patch (a dict) or a JSON patch (a list). A resourceVersion in it makes it conditional."""

    async def delete(
        self, kind: Kind, namespace: str | None, name: str, *, uid: str, grace_seconds: int | None = None
    ) -> None:
        """Delete exactly the object with this UID. Raises NotFoundError, and ConflictError when the UID is another."""

    def watch(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", resource_version: str
    ) -> AsyncIterator[WatchEvent]:
        """Yield changes after a version until the stream ends or falls silent. Raises GoneError when it is too old."""


class KubeClient:
    """The API server over one aiohttp session.

    Args:
        configuration: where the server is and who we are.
        may_write: asked before every request that is not a GET; False raises FencedError instead of sending.
        on_request: told the method, plural and status of every request, for metrics.
    """

    def __init__(
        self,
        configuration: "Configuration",
        *,
        may_write: Callable[[], bool] = lambda: True,
        on_request: Callable[[str, str, int], None] = lambda _method, _plural, _status: None,
    ) -> None:
        self._configuration = configuration
        self._may_write = may_write
        self._on_request = on_request
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    async def connect(cls, *, kubeconfig: str | None = None, context: str | None = None, **options: Any) -> Self:
        """Return a client for a kubeconfig file, or for the cluster that this process runs in."""
        return cls(await load_configuration(kubeconfig, context), **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        return await self._request("GET", kind, kind.path(namespace, name))

    async def list(self, kind: Kind, namespace: str | None = None, *, labels: str = "") -> Listing:
        items: list[Object] = []
        query = {"limit": str(PAGE)} | ({"labelSelector": labels} if labels else {})
        while True:
            page = await self._request("GET", kind, kind.path(namespace), query=query)
            items += page.get("items") or []
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return Listing(tuple(items), metadata["resourceVersion"])
            query = {**query, "continue": metadata["continue"]}

    async def create(self, kind: Kind, namespace: str | None, body: Object) -> Object:
        typed = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        return await self._request("POST", kind, kind.path(namespace), body=typed)

    async def patch(
        self, kind: Kind, namespace: str | None, name: str, patch: Object | Sequence[Object], *, subresource: str = ""
    ) -> Object:
        form = "application/merge-patch+json" if isinstance(patch, dict) else "application/json-patch+json"
        return await self._request(
            "PATCH", kind, kind.path(namespace, name, subresource), body=patch, content_type=form
        )

    async def delete(
        self, kind: Kind, namespace: str | None, name: str, *, uid: str, grace_seconds: int | None = None
    ) -> None:
        options: Object = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        await self._request("DELETE", kind, kind.path(namespace, name), body=options)

    async def watch(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", resource_version: str
    ) -> AsyncIterator[WatchEvent]:
        query = {
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        } | ({"labelSelector": labels} if labels else {})
        url = f"{self._configuration.host}{kind.path(namespace)}?{urlencode(query)}"
        try:
            session = self._ready_session()
            async with session.get(url, timeout=WATCH_SILENCE) as response:
                self._on_request("WATCH", kind.plural, response.status)
                if response.status != 200:
                    raise refusal(response.status, _status_object(await response.read()))
                async for line in response.content:
                    yield _watch_event(line)
        except aiohttp.SocketTimeoutError:
            return  # silence, which a quiet collection and a dead connection share: the reader resumes where it was
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise UnreachableError(f"watch {kind.plural}: {error!r}") from error

    async def _request(
        self,
        method: str,
        kind: Kind,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | Sequence[Object] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        if method != "GET" and not self._may_write():
            raise FencedError(f"{method} {path}: the Lease has run out")
        url = self._configuration.host + path + (f"?{urlencode(query)}" if query else "")
        headers = {"Content-Type": content_type} if body is not None else {}
        data = None if body is None else orjson.dumps(body)
        timeout = READ_TIMEOUT if method == "GET" else WRITE_TIMEOUT
        try:
            session = self._ready_session()
            async with session.request(method, url, headers=headers, data=data, timeout=timeout) as response:
                payload = await response.read()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            self._on_request(method, kind.plural, 0)
            raise UnreachableError(f"{method} {path}: {error!r}") from error
        self._on_request(method, kind.plural, response.status)
        if response.status >= 300:
            raise refusal(response.status, _status_object(payload))
        return orjson.loads(payload)  # type: ignore[no-any-return]

    def _ready_session(self) -> aiohttp.ClientSession:
        # Made on first use, since aiohttp binds a session to the running loop.
        if self._session is None:
            self._session = make_session(self._configuration)
        return self._session


async def load_configuration(kubeconfig: str | None = None, context: str | None = None) -> "Configuration":
    """Return where the API server is and who we are: of a kubeconfig file, or of the pod that we run in."""
    from kubernetes.aio import config  # here, since it takes as long as all else, and `execpool dev` has no cluster
    from kubernetes.aio.client import Configuration

    configuration = Configuration()
    if kubeconfig is None:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        await config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=kubeconfig, context=context, client_configuration=configuration
        )
    return configuration


def make_session(configuration: "Configuration") -> aiohttp.ClientSession:
    """Return a session whose every request carries the bearer of that moment.

    Asked each time, since a projected service-account token expires within the hour and is re-read from its file.
    `trust_env` stays False: a proxy variable meant for the internet must not carry our credentials to a proxy.
    """

    async def bearer(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        token = await configuration.get_api_key_with_prefix("BearerToken")
        if token:
            request.headers["Authorization"] = token
        return await handler(request)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=_tls(configuration), limit=64),
        headers={"Accept": "application/json"},
        middlewares=(bearer,),
        read_bufsize=1 << 21,
        trust_env=False,
    )


def _tls(configuration: "Configuration") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if configuration.disable_strict_ssl_verification:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _status_object(payload: bytes) -> Object:
    try:
        status = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return {"message": payload[:200].decode(errors="replace")}
    return status if isinstance(status, dict) else {}


def _watch_event(line: bytes) -> WatchEvent:
    raw = orjson.loads(line)
    event = WatchEvent(EventType(raw["type"]), raw["object"])
    if event.type is EventType.ERROR:
        code = int(event.object.get("code", 500))
        raise (
            GoneError(code, "Expired", str(event.object.get("message", "")))
            if code == 410
            else refusal(code, event.object)
        )
    return event
