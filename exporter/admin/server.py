"""The admin server, on aiohttp. Its handlers read; the one that acts is POST /drain.

``/closes`` and ``/events`` have modules of their own: :mod:`exporter.admin.closes`, :mod:`exporter.admin.live`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from exporter.admin import page
from exporter.admin.answers import HTML, as_json, line, send
from exporter.admin.closes import Closes
from exporter.admin.live import Live
from exporter.admin.markup import HEADERS
from exporter.admin.snapshot import Book, State, snapshot

#: A scraper sends a few hundred bytes; nobody needs to send us a body.
MAX_BODY = 1024


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the admin server asks of the rest, as functions, so that it knows neither relay nor observer.

    :ivar unready: the reasons why we are not ready; empty if we are.
    :ivar begin_drain: begins a drain; returns False if one is on already.
    :ivar progress: the drain's state, ready for JSON.
    :ivar state: how the sidecar is.
    :ivar pulse: something that is different whenever ``state`` is, and cheaper.
    :ivar closes: the abnormal endings that are kept.
    """

    unready: Callable[[], Awaitable[list[str]]]
    begin_drain: Callable[[], bool]
    progress: Callable[[], dict[str, object]]
    state: Callable[[], State]
    pulse: Callable[[], Hashable]
    closes: Book


class Admin:
    """Serves the admin port.

    :param drain_from_anywhere: whether POST /drain may come from other hosts than loopback.
    """

    def __init__(self, registry: CollectorRegistry, hooks: Hooks, drain_from_anywhere: bool = False) -> None:
        self.scraped = float("-inf")  # when /metrics was last read, on the monotonic clock
        self._registry = registry
        self._hooks = hooks
        self._drain_from_anywhere = drain_from_anywhere
        self._runner: web.AppRunner | None = None
        self._live = Live(hooks.pulse, hooks.unready, self._snapshot)

    async def listen(self, host: str | None, port: int) -> int:
        """Begin to serve. Returns the port. Raises OSError if it is taken."""
        self._runner = web.AppRunner(self.application(), access_log=None, handle_signals=False, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound: int = self._runner.addresses[0][1]
        return bound

    def application(self) -> web.Application:
        """Everything that is served, for one server."""
        app = web.Application(client_max_size=MAX_BODY)
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

    async def close(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        self.scraped = monotonic()
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def _livez(self, request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        reasons = await self._hooks.unready()
        if reasons:
            return web.Response(status=503, text="".join(f"not ready: {reason}\n" for reason in reasons))
        return web.Response(text="ready\n")

    async def _progress(self, request: web.Request) -> web.Response:
        return as_json(200, self._hooks.progress())

    async def _drain(self, request: web.Request) -> web.Response:
        if not self._drain_from_anywhere and not _is_loopback(request.remote):
            return line(403, "POST /drain is for loopback; see --drain-from-anywhere")
        self._hooks.begin_drain()
        return as_json(202, self._hooks.progress())

    async def _page(self, request: web.Request) -> web.StreamResponse:
        shown = self._snapshot(await self._hooks.unready())
        return await send(request, HTML, [page.render(self._hooks.state(), shown)])

    def _snapshot(self, reasons: list[str]) -> dict[str, Any]:
        return snapshot(self._hooks.state(), reasons, self._hooks.closes)

    async def _hang_up(self, app: web.Application) -> None:
        self._live.close()


async def _harden(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    response.headers["Server"] = "websocket-exporter"


def _is_loopback(remote: str | None) -> bool:
    try:
        address = ipaddress.ip_address(remote or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
