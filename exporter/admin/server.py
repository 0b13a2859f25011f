"""The admin server, on aiohttp. Its handlers read; the one that acts is POST /drain.

``/closes`` and ``/events`` have modules of their own: :mod:`exporter.admin.closes_api`,
:mod:`exporter.admin.event_stream`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from exporter.admin.auth import AuthMiddleware
from exporter.admin.closes_api import Closes
from exporter.admin.cooperative import run_cooperatively
from exporter.admin.event_stream import EventStream
from exporter.admin.exposition import Exposition
from exporter.admin.http import HttpProcessingError, web, web_response
from exporter.admin.pages import landing
from exporter.admin.pages.layout import HEADERS
from exporter.admin.responses import HTML, as_json, line, send
from exporter.admin.state import Book, State, snapshot
from exporter.units import parse_duration

#: Seconds within which a drain must begin for GET /drain?wait=... to wait for it: an app's preStop hook, which asks so
#: that the app gets its SIGTERM only afterwards, may come a moment before the hook that begins the drain.
BEGIN = 2.0
#: Seconds between looks at a drain that is waited for.
POLL = 0.1
#: Seconds within which the port must be ours again when its TLS has changed.
REOPEN = 5.0
#: What we call ourselves; versions of what we are made of are nobody's business.
SERVER = "websocket-exporter"
#: A scraper sends a few hundred bytes; nobody needs to send us a body.
MAX_BODY = 1024

web_response.SERVER_SOFTWARE = SERVER  # type: ignore[attr-defined]  # aiohttp's own answers, to what is no HTTP, pass no hook of ours


@dataclass(frozen=True, slots=True)
class AdminBackend:
    """What the admin server asks of the rest, as functions, so that it knows neither relay nor observer.

    :ivar unready: the reasons why we are not ready; empty if we are.
    :ivar begin_drain: begins a drain; returns False if one is on already.
    :ivar progress: the drain's state, ready for JSON.
    :ivar state: how the sidecar is.
    :ivar change_token: something that is different whenever ``state`` is, and cheaper.
    :ivar closes: the abnormal endings that are kept.
    :ivar flush_counts: begins the small steps that bring the metrics up to date.
    """

    unready: Callable[[], Awaitable[list[str]]]
    begin_drain: Callable[[], bool]
    progress: Callable[[], dict[str, object]]
    state: Callable[[], State]
    change_token: Callable[[], Hashable]
    closes: Book
    flush_counts: Callable[[], Iterable[None]] = tuple


class Admin:
    """Serves the admin port.

    :param drain_from_anywhere: whether POST /drain may come from other hosts than loopback.
    :param web_config: TLS and logins, see :mod:`exporter.admin.web_config`; None is neither. Raises BadWebConfig.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        hooks: AdminBackend,
        drain_from_anywhere: bool = False,
        web_config: Path | None = None,
    ) -> None:
        self.scraped = float("-inf")  # when /metrics was last read, on the monotonic clock
        self._exposition = Exposition(registry)
        self._hooks = hooks
        self._drain_from_anywhere = drain_from_anywhere
        self._guard = AuthMiddleware(web_config, lambda request: _is_loopback(request.remote))
        self._runner: web.AppRunner | None = None
        self._live = EventStream(hooks.change_token, hooks.unready, self._snapshot)
        self._site: web.TCPSite | None = None
        self._watching: asyncio.Task[None] | None = None
        self._at: tuple[str | None, int] = (None, 0)

    async def listen(self, host: str | None, port: int) -> int:
        """Begin to serve. Returns the port. Raises OSError if it is taken."""
        self._runner = web.AppRunner(
            self.application(), access_log=None, handle_signals=False, shutdown_timeout=0.5, logger=_logger()
        )
        await self._runner.setup()
        await self._open(host, port)
        bound: int = self._runner.addresses[0][1]
        self._at = (host, bound)
        self._watching = asyncio.create_task(self._guard.watch(self._reopen))
        return bound

    def application(self) -> web.Application:
        """Everything that is served, for one server."""
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._guard.check])
        app.router.add_get("/", self._page)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/drain", self._progress)
        app.router.add_post("/drain", self._drain)
        app.router.add_get("/events", self._live.handle)
        Closes(self._hooks.closes).add_to(app.router)
        app.on_response_prepare.append(_harden)
        app.on_shutdown.append(self._hang_up)
        return app

    async def _open(self, host: str | None, port: int) -> None:
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, host, port, ssl_context=self._guard.config.tls)
        await self._site.start()

    async def _reopen(self) -> None:
        """Serve by the TLS that holds now. Requests that are under way are finished by what held when they came."""
        assert self._site is not None
        await self._site.stop()
        deadline = monotonic() + REOPEN
        while True:
            try:
                await self._open(*self._at)
            except OSError as error:  # the old socket is not gone yet, or somebody else has the port
                if monotonic() > deadline:
                    structlog.get_logger().error("admin.reopen_failed", why=str(error))
                    deadline = float("inf")  # said once; without this port nobody would learn of anything, so go on
                await asyncio.sleep(POLL)
            else:
                return

    async def close(self) -> None:
        """Stop serving."""
        if self._watching is not None:
            self._watching.cancel()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        await asyncio.sleep(0)  # aiohttp has used up a slice by now, and will again
        began = monotonic()
        text, content_type = await self._exposition.expose(
            request.headers.get("Accept", ""), self._hooks.flush_counts()
        )
        self.scraped = began
        await asyncio.sleep(0)
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def _livez(self, request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        reasons = await self._hooks.unready()
        if reasons:
            return web.Response(status=503, text="".join(f"not ready: {reason}\n" for reason in reasons))
        return web.Response(text="ready\n")

    async def _progress(self, request: web.Request) -> web.Response:
        if "wait" in request.query:
            try:
                longest = parse_duration(request.query["wait"])
            except ValueError as error:
                return web.Response(status=400, text=f"wait: {error}\n")
            await self._wait_for_drain(longest)
        return as_json(200, self._hooks.progress())

    async def _wait_for_drain(self, longest: float) -> None:
        """Return when the drain is done, when none has begun within :data:`BEGIN`, or after ``longest`` seconds."""
        began = monotonic()
        while (phase := self._hooks.progress()["phase"]) != "done":
            waited = monotonic() - began
            if waited >= longest or (phase == "none" and waited >= BEGIN):
                return
            await asyncio.sleep(min(POLL, max(0.0, longest - waited)))

    async def _drain(self, request: web.Request) -> web.Response:
        if not self._drain_from_anywhere and not _is_loopback(request.remote):
            return line(403, "POST /drain is for loopback; see --drain-from-anywhere")
        self._hooks.begin_drain()
        return as_json(202, self._hooks.progress())

    async def _page(self, request: web.Request) -> web.StreamResponse:
        reasons = await self._hooks.unready()
        await asyncio.sleep(0)  # as above
        state = self._hooks.state()
        await asyncio.sleep(0)
        shown = dict(await run_cooperatively(snapshot(state, reasons, self._hooks.closes)))
        whole = "".join(await run_cooperatively(landing.render(state, shown)))
        await asyncio.sleep(0)
        return await send(request, HTML, [whole])

    def _snapshot(self, reasons: list[str]) -> Iterator[tuple[str, Any]]:
        return snapshot(self._hooks.state(), reasons, self._hooks.closes)

    async def _hang_up(self, app: web.Application) -> None:
        self._live.close()


class _Told(logging.Handler):
    """aiohttp's log, as events of ours: what a stranger sends is no defect and no traceback of several lines."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        log = structlog.get_logger()
        if isinstance(error, HttpProcessingError):
            log.debug("admin.bad_request", status=error.code)
        else:
            log.error("exporter.defect", message=record.getMessage(), exc_info=error)


def _logger() -> logging.Logger:
    logger = logging.getLogger("exporter.admin")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(_Told(logging.WARNING))
    return logger


async def _harden(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    response.headers["Server"] = SERVER


def _is_loopback(remote: str | None) -> bool:
    try:
        address = ipaddress.ip_address(remote or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
