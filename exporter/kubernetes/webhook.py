"""The admission webhook's server: HTTPS, one route to inject, two to ask whether it is there."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

import structlog
from aiohttp import web

from exporter.certificate import Certificate
from exporter.kubernetes.admission import BadReview, judge
from exporter.kubernetes.settings import Settings

MAX_BODY = 8 * 1024 * 1024
"""Bytes. The API server limits objects to 3 MiB, and a review holds one or two."""

_log = structlog.wrap_logger(
    structlog.PrintLogger(sys.stderr),
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.JSONRenderer(),
    ],
)


def application(settings: Settings) -> web.Application:
    """The routes: POST /inject, GET /livez, GET /readyz."""

    async def inject(request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return _bad(f"Content-Type must be application/json, is {request.content_type}")
        try:
            verdict = judge(await request.read(), settings)
        except BadReview as error:
            return _bad(str(error))
        if verdict.outcome != "ignored":
            _log.info(f"pod.{verdict.outcome}", pod=verdict.pod, uid=verdict.uid, warnings=list(verdict.warnings))
        return web.json_response(verdict.response())

    async def alive(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application(client_max_size=MAX_BODY)
    app.add_routes([web.post("/inject", inject), web.get("/livez", alive), web.get("/readyz", alive)])
    return app


def _bad(reason: str) -> web.Response:
    _log.warning("review.malformed", reason=reason)
    return web.Response(status=400, text=reason + "\n")


async def serve(
    settings: Settings,
    host: str | None,
    port: int,
    certificate: Certificate,
    every: float,
    stop: asyncio.Event,
) -> None:
    """Serve until `stop` is set; look for a new certificate every so many seconds. Raises OSError if it
    cannot listen.
    """
    runner = web.AppRunner(application(settings), access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=certificate.context)
        await site.start()
        _log.info("webhook.started", listening=[list(address[:2]) for address in runner.addresses])
        async with _watching(certificate, every):
            await stop.wait()
    finally:
        await runner.cleanup()
        _log.info("webhook.stopped")


@contextlib.asynccontextmanager
async def _watching(certificate: Certificate, every: float) -> AsyncIterator[None]:
    task = asyncio.create_task(
        certificate.watch(
            every,
            renewed=lambda: _log.info("certificate.reloaded"),
            failed=lambda why: _log.error("certificate.unusable", reason=why),
        )
    )
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
