"""Stands before the admin port: who must log in, by what TLS, and what the web config file says now.

/livez and /readyz need no login: a kubelet's probes have none to give, and they say no more than yes or no. Neither
does /drain from loopback, which is the pod's own preStop hook. All else does, once the file names a user.
"""

from __future__ import annotations

import asyncio
import binascii
from base64 import b64decode
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from exporter.admin.http import web
from exporter.admin.web_config import BadWebConfig, BasicAuth, TooMany, WebConfig, fingerprint, load

#: Seconds between looks whether the files have changed.
RELOAD = 5.0

OPEN = frozenset({"/livez", "/readyz"})
OPEN_FROM_LOOPBACK = frozenset({"/drain"})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AuthMiddleware:
    """What the web config file asks for, kept up to date.

    :param path: the file; None asks for nothing.
    :param is_local: whether a request comes from loopback.

    Raises BadWebConfig for a file that cannot be used. One that goes bad later is told in the log, and what held before
    goes on. A file that changes is read once it has not changed from one look to the next: while it is being written it
    may be empty, and an empty one asks for nothing.
    """

    def __init__(self, path: Path | None, is_local: Callable[[web.Request], bool]) -> None:
        self.config = load(path) if path is not None else WebConfig()
        self._path = path
        self._is_local = is_local
        self._doorman = BasicAuth()
        self._doorman.admit(self.config.users)
        self._seen = self._found = fingerprint(self.config.files)
        self._log = structlog.get_logger()

    def refresh(self) -> bool:
        """Read the files again if they have changed. Returns whether TLS may be another from now on."""
        if self._path is None:
            return False
        before, self._found = self._found, fingerprint(self.config.files)
        if self._found == self._seen or self._found != before:
            return False
        self._seen = self._found
        old = self.config
        try:
            self.config = load(self._path)
        except BadWebConfig as error:
            self._log.error("webconfig.reload_failed", why=str(error))
            return False
        self._seen = self._found = fingerprint(self.config.files)
        self._doorman.admit(self.config.users)
        self._log.info("webconfig.reloaded", tls=self.config.tls is not None, users=len(self.config.users))
        return old.tls is not None or self.config.tls is not None

    async def watch(self, tls_changed: Callable[[], Awaitable[None]]) -> None:
        """Refresh every :data:`RELOAD` seconds, for good."""
        while self._path is not None:
            await asyncio.sleep(RELOAD)
            if self.refresh():
                await tls_changed()

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let a request pass, or ask for a login."""
        if not self._doorman.users or request.path in OPEN:
            return await handler(request)
        if request.path in OPEN_FROM_LOOPBACK and self._is_local(request):
            return await handler(request)
        login = _login(request.headers.get("Authorization", ""))
        try:
            if login is not None and await self._doorman.knows(*login):
                return await handler(request)
        except TooMany:
            return web.Response(status=503, text="too many logins wait to be checked\n", headers={"Retry-After": "5"})
        headers = {"WWW-Authenticate": 'Basic realm="websocket-exporter", charset="UTF-8"'}
        return web.Response(status=401, text="unauthorized\n", headers=headers)


def _login(header: str) -> tuple[str, str] | None:
    """User and password of an Authorization header (RFC 7617, section 2); None if it is not one for basic auth."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None
