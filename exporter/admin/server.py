"""The admin port, on aiohttp: metrics, health, drain and the pages.

    request ─► track (connections) ─► login (auth) ─► host and origin ─► handler

``/closes`` and ``/events`` have modules of their own: :mod:`exporter.admin.closes_api`,
:mod:`exporter.admin.event_stream`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, thread_time
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family

from exporter.admin import DRAIN_HEADER
from exporter.admin.auth import AuthMiddleware, is_loopback, is_trusted
from exporter.admin.closes_api import ClosesApi
from exporter.admin.event_stream import EventStream
from exporter.admin.pages import landing
from exporter.admin.pages.layout import HEADERS
from exporter.admin.responses import (
    HTML,
    SERVER,
    TIME_SHARE,
    Handler,
    HttpProcessingError,
    TimeShare,
    as_json,
    line,
    send,
    send_bytes,
    web,
)  # fmt: skip
from exporter.admin.state import State, snapshot
from exporter.connections import KEEP_ALIVE, MAX_CONNECTIONS, Connections
from exporter.observe.recent_closes import RecentCloses
from exporter.units import parse_duration

#: Seconds within which a drain must begin for GET /drain?wait=... to wait for it: an app's preStop hook, which asks so
#: that the app gets its SIGTERM only afterwards, may come a moment before the hook that begins the drain.
BEGIN = 2.0
#: Seconds between checks of a drain that is waited for.
POLL = 0.1
#: Bytes of a request's body at most; no handler reads one.
MAX_BODY = 1024

#: Paths that show sessions or act: a browser must have reached them by a name that is known to be ours.
_PRIVATE = re.compile(r"/|/(closes|events|drain)(/.*)?")
#: Paths that show addresses, paths and texts of sessions.
_SESSIONS = re.compile(r"/(closes|events)(/.*)?")
#: Values of Sec-Fetch-Site for requests that no other site made.
_OWN_SITE = ("none", "same-origin")
_NOT_HERE = "only for loopback and logged-in users; see --closes-from-anywhere"


@dataclass(frozen=True, slots=True)
class AdminBackend:
    """The admin server's interface to the process, as functions.

    :ivar unready: returns the reasons why the sidecar is not ready; empty if it is.
    :ivar begin_drain: begins a drain, unless one is on already.
    :ivar progress: returns the drain's state, ready for JSON.
    :ivar state: returns how the sidecar is.
    :ivar change_token: returns another value whenever ``state`` is another, and is cheaper.
    :ivar closes: the reports that are kept.
    :ivar before_scrape: brings the metrics up to date.
    :ivar defunct: returns one line for each process that no longer works; empty if all do.
    """

    unready: Callable[[], Awaitable[list[str]]]
    begin_drain: Callable[[], object]
    progress: Callable[[], dict[str, object]]
    state: Callable[[], State]
    change_token: Callable[[], Hashable]
    closes: RecentCloses
    before_scrape: Callable[[], Awaitable[None]]
    defunct: Callable[[], Sequence[str]] = tuple


@dataclass(frozen=True, slots=True)
class Access:
    """The rights of those who connect.

    :ivar drain_from_anywhere: POST /drain is not for loopback alone.
    :ivar closes_from_anywhere: /closes, /events and the page's list are not for loopback and logged-in users alone.
    :ivar exemplars: /metrics shows exemplars, which hold trace ids, to everyone.
    :ivar hosts: names by which the private paths may be reached beside localhost and the host's own.
    :ivar max_connections: connections at a time.
    """

    drain_from_anywhere: bool = False
    closes_from_anywhere: bool = False
    exemplars: bool = False
    hosts: Collection[str] = ()
    max_connections: int = MAX_CONNECTIONS


class Admin:
    """Serve the admin port.

    :param web_config: TLS and logins, see :mod:`exporter.admin.auth`; None is neither. Raises BadWebConfig.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        backend: AdminBackend,
        access: Access | None = None,
        web_config: Path | None = None,
    ) -> None:
        self._backend = backend
        self._access = access if access is not None else Access()
        self._hosts = {"localhost", socket.gethostname().lower(), *(host.lower() for host in self._access.hosts)}
        self._auth = AuthMiddleware(web_config)
        self._connections = Connections(self._access.max_connections, lambda: self._auth.config.tls)
        self._share = TimeShare()
        self._exposition = Exposition(registry, backend.before_scrape, self._share)
        self._events = EventStream(backend.change_token, backend.unready, self._snapshot)
        self._runner = web.AppRunner(
            self.application(),
            access_log=None,
            handle_signals=False,
            keepalive_timeout=KEEP_ALIVE,
            shutdown_timeout=0.5,
            logger=_AiohttpLogger("exporter.admin", logging.WARNING),
        )
        self._watching: asyncio.Task[None] | None = None

    @property
    def scraped(self) -> float:
        """Monotonic time at which the metrics of the last scrape were collected."""
        return self._exposition.collected

    async def serve(self, listeners: Sequence[socket.socket]) -> None:
        """Serve on sockets that listen."""
        await self._runner.setup()
        assert self._runner.server is not None
        self._connections.serve(listeners, self._runner.server)
        self._watching = asyncio.create_task(self._auth.watch())

    def application(self) -> web.Application:
        """Return everything that is served, for one server."""
        app = web.Application(
            client_max_size=MAX_BODY,
            middlewares=[self._track, self._auth.check, self._check_site],
        )
        app[TIME_SHARE] = self._share
        app.router.add_get("/", self._page)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/drain", self._progress)
        app.router.add_post("/drain", self._drain)
        app.router.add_get("/events", self._events.handle)
        ClosesApi(self._backend.closes).add_to(app.router)
        app.on_response_prepare.append(_harden)
        app.on_shutdown.append(self._end_streams)
        return app

    async def close(self) -> None:
        """Stop serving."""
        if self._watching is not None:
            self._watching.cancel()
        self._connections.stop_accepting()
        await self._runner.cleanup()

    @web.middleware
    async def _track(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Keep a connection that is being answered, and end one whose client has gone in silence."""
        try:
            async with self._connections.answering(request.protocol):
                return await handler(request)
        except ConnectionError:
            return web.Response()

    @web.middleware
    async def _check_site(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse private paths under a name that another site chose, and sessions to strangers."""
        if _PRIVATE.fullmatch(request.path) and not self._is_own_host(request.headers.get("Host", "")):
            return line(421, "this name is not known to be the sidecar's; see --admin-host")
        if _SESSIONS.fullmatch(request.path) and not self._shows_sessions(request):
            return line(403, _NOT_HERE)
        return await handler(request)

    def _is_own_host(self, host: str) -> bool:
        """Return whether a Host header names this host: by address, its own name, or a configured one."""
        name = re.sub(r":\d*$", "", host.strip().lower()).strip("[]").removesuffix(".")
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return not name or name in self._hosts
        return True

    def _shows_sessions(self, request: web.Request) -> bool:
        return self._access.closes_from_anywhere or is_trusted(request)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        exemplars = self._access.exemplars or is_trusted(request)
        body, content_type = await self._exposition.expose(request.headers.get("Accept", ""), exemplars)
        return await send_bytes(request, content_type, body)

    async def _livez(self, request: web.Request) -> web.Response:
        if defunct := self._backend.defunct():
            return line(503, "\n".join(defunct))
        return line(200, "alive")

    async def _readyz(self, request: web.Request) -> web.Response:
        if reasons := await self._backend.unready():
            return line(503, "\n".join(f"not ready: {reason}" for reason in reasons))
        return line(200, "ready")

    async def _progress(self, request: web.Request) -> web.Response:
        if "wait" in request.query:
            try:
                longest = parse_duration(request.query["wait"])
            except ValueError as error:
                return line(400, f"wait: {error}")
            await self._wait_for_drain(longest)
        return as_json(200, self._backend.progress())

    async def _wait_for_drain(self, longest: float) -> None:
        """Return when the drain is done, when none has begun within :data:`BEGIN`, or after ``longest`` seconds."""
        began = monotonic()
        while (phase := self._backend.progress()["phase"]) != "done":
            waited = monotonic() - began
            if waited >= longest or (phase == "none" and waited >= BEGIN):
                return
            await asyncio.sleep(min(POLL, max(0.0, longest - waited)))

    async def _drain(self, request: web.Request) -> web.Response:
        if not self._access.drain_from_anywhere and not is_loopback(request.remote):
            return line(403, "POST /drain is for loopback; see --drain-from-anywhere")
        if not _is_own_request(request):
            return line(403, f"POST /drain needs the header {DRAIN_HEADER}, and no page of another site may send it")
        self._backend.begin_drain()
        return as_json(202, self._backend.progress())

    async def _page(self, request: web.Request) -> web.StreamResponse:
        reasons = await self._backend.unready()
        return await send(request, HTML, self._page_pieces(reasons, self._shows_sessions(request)))

    def _page_pieces(self, reasons: list[str], listed: bool) -> Iterator[str]:
        state = self._backend.state()
        yield landing.render(state, snapshot(state, reasons, self._backend.closes if listed else None), listed)

    def _snapshot(self, reasons: list[str]) -> dict[str, Any]:
        return snapshot(self._backend.state(), reasons, self._backend.closes)

    async def _end_streams(self, app: web.Application) -> None:
        self._events.close()


class Exposition:
    """Make one exposition at a time, in a thread, and share it among the scrapers that wait for it.

    :param before: brings the metrics up to date.
    :param share: bounds the time that expositions take.

    :ivar collected: monotonic time at which the metrics of the last text that was returned were collected.

    A scraper that comes while one is being made waits for the next, so each sees everything from before it asked.
    """

    def __init__(self, registry: CollectorRegistry, before: Callable[[], Awaitable[None]], share: TimeShare) -> None:
        self.collected = float("-inf")
        self._registry = registry
        self._before = before
        self._share = share
        self._turn = asyncio.Lock()
        self._next: dict[tuple[str, bool], asyncio.Task[tuple[bytes, float]]] = {}

    async def expose(self, accept: str, exemplars: bool) -> tuple[bytes, str]:
        """Return the text and its content type, in the format that the Accept header prefers."""
        _, content_type = choose_encoder(accept)
        key = (content_type, exemplars)
        if (made := self._next.get(key)) is None:
            made = self._next[key] = asyncio.create_task(self._make_next(key))
        text, self.collected = await asyncio.shield(made)
        return text, content_type

    async def _make_next(self, key: tuple[str, bool]) -> tuple[bytes, float]:
        async with self._turn:
            await self._share.wait()
            del self._next[key]
            await self._before()
            collected = monotonic()
            return await asyncio.to_thread(self._make, *key), collected

    def _make(self, content_type: str, exemplars: bool) -> bytes:
        began = thread_time()
        encode, _ = choose_encoder(content_type)
        body: bytes = encode(self._registry if exemplars else _WithoutExemplars(self._registry))
        self._share.count(thread_time() - began)
        return body


class _WithoutExemplars(CollectorRegistry):
    """Another registry's families without exemplars."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._whole = registry

    def collect(self) -> Iterator[Family]:
        for family in self._whole.collect():
            family.samples = [sample._replace(exemplar=None) for sample in family.samples]
            yield family


class _AiohttpLogger(logging.Logger):
    """aiohttp's errors as events: malformed requests are not defects."""

    def handle(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        log = structlog.get_logger("exporter")
        if isinstance(error, (HttpProcessingError, web.RequestPayloadError)):
            log.debug("admin.bad_request", message=str(error))
        else:
            log.error("exporter.defect", message=record.getMessage(), exc_info=error)


async def _harden(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    response.headers["Server"] = SERVER


def _is_own_request(request: web.Request) -> bool:
    """Return whether no page of another site can have sent a POST: by the headers that a browser adds or allows."""
    site = request.headers.get("Sec-Fetch-Site", "none")
    return DRAIN_HEADER in request.headers and "Origin" not in request.headers and site in _OWN_SITE
