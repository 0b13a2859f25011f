"""Logins of the admin port, by the users of a :mod:`web config file <exporter.admin.web_config>`.

/livez and /readyz need no login: the kubelet's probes have none. Neither does /drain from loopback, the pod's own
preStop hook. Everything else does, once the file names a user. bcrypt is imported at the first login.
"""

from __future__ import annotations

import asyncio
import binascii
import hmac
import ipaddress
import os
import secrets
import sys
from base64 import b64decode
from collections import Counter, defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import get_native_id
from time import sleep, thread_time

import structlog

from exporter.admin.responses import Handler, web
from exporter.admin.web_config import BadWebConfig, WebConfig, fingerprint, load

#: Password checks of one address that may wait for the one in progress (each takes a part of a second of a core).
MAX_WAITING = 4
#: Nice value of the thread that checks passwords, behind traffic and the observer.
PASSWORD_NICE = 10
#: The part of one core that wrong passwords may take: a pod whose processor time is limited needs it for traffic.
WRONG_SHARE = 0.25
#: Good logins that are remembered, as keyed hashes: a scraper logs in every few seconds.
MAX_REMEMBERED = 64
#: The hash that a password is compared with if there is no such user, so that both take as long.
_NOBODY = b"$2b$10$......................6uU8IFWWqSLDjqlFhBKlKfqXq9XzKLe"


class BasicAuth:
    """Check users and passwords in a thread, one at a time and behind all other work: bcrypt is slow on purpose.

    Each address has one login in the queue at a time, so wrong passwords of one do not lock out another.
    """

    def __init__(self) -> None:
        self.users: Mapping[str, bytes] = {}
        self._secret = secrets.token_bytes(32)
        self._remembered: dict[bytes, None] = {}
        self._checker = ThreadPoolExecutor(1, "passwords", _give_way)
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waiting: Counter[str] = Counter()

    async def accepts(self, user: str, password: str, address: str) -> bool:
        """Return whether this user has this password. Raises HTTPServiceUnavailable if too many logins wait."""
        hashed = self.users.get(user)
        login = hmac.digest(self._secret, repr((user, password, hashed)).encode(), "sha256")
        if login in self._remembered:
            return True
        good = await self._checked(password.encode(), hashed, address)
        if good and self.users.get(user) == hashed:
            while len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.pop(next(iter(self._remembered)))
            self._remembered[login] = None
        return good

    async def _checked(self, password: bytes, hashed: bytes | None, address: str) -> bool:
        if self._waiting[address] >= MAX_WAITING:
            text = "too many logins wait to be checked\n"
            raise web.HTTPServiceUnavailable(text=text, headers={"Retry-After": "5"})
        self._waiting[address] += 1
        try:
            async with self._turns[address]:
                return await asyncio.get_running_loop().run_in_executor(self._checker, _check, password, hashed)
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address], self._turns[address]


def _give_way() -> None:
    """Lower the priority of this thread; bcrypt does not hold the interpreter's lock."""
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, get_native_id(), PASSWORD_NICE)


def _check(password: bytes, hashed: bytes | None) -> bool:
    """Return whether a password has this hash; after a wrong one rest, so that they take :data:`WRONG_SHARE`."""
    import bcrypt

    began = thread_time()
    try:
        good = bcrypt.checkpw(password[:72], hashed or _NOBODY)  # bcrypt reads 72 bytes; this library refuses more
    except ValueError:
        good = False
    if good and hashed is not None:
        return True
    sleep((thread_time() - began) * (1 / WRONG_SHARE - 1))
    return False


#: Seconds between checks whether the files have changed.
RELOAD = 5.0

OPEN = frozenset({"/livez", "/readyz"})
OPEN_FROM_LOOPBACK = frozenset({"/drain"})
#: Under this name a request holds whether its sender has logged in.
_LOGGED_IN: web.RequestKey[bool] = web.RequestKey("logged-in", bool)


class AuthMiddleware:
    """Ask for the login that the web config file demands; read the file again when it changes.

    :param path: the file; None demands nothing. Raises BadWebConfig for a file that cannot be used.

    A file that becomes invalid later is logged, and the content before it stays in force. A changed file is read once
    it has not changed from one check to the next: while it is being written it may be empty.
    """

    def __init__(self, path: Path | None) -> None:
        self.config = load(path) if path is not None else WebConfig()
        self._path = path
        self._logins = BasicAuth()
        self._logins.users = self.config.users
        self._seen = self._found = fingerprint(self.config.files)
        self._log = structlog.get_logger("exporter")

    def refresh(self) -> None:
        """Read the files again if they have changed."""
        if self._path is None:
            return
        before, self._found = self._found, fingerprint(self.config.files)
        if self._found == self._seen or self._found != before:
            return
        self._seen = self._found
        try:
            self.config = load(self._path)
        except BadWebConfig as error:
            self._log.error("webconfig.reload_failed", why=str(error))
            return
        self._seen = self._found = fingerprint(self.config.files)
        self._logins.users = self.config.users
        self._log.info("webconfig.reloaded", tls=self.config.tls is not None, users=len(self.config.users))

    async def watch(self) -> None:
        """Refresh every :data:`RELOAD` seconds."""
        while self._path is not None:
            await asyncio.sleep(RELOAD)
            self.refresh()

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Pass a request on, or ask for a login."""
        if not self._logins.users or request.path in OPEN:
            return await handler(request)
        if request.path in OPEN_FROM_LOOPBACK and is_loopback(request.remote):
            return await handler(request)
        login = _login(request.headers.get("Authorization", ""))
        if login is not None and await self._logins.accepts(*login, request.remote or ""):
            request[_LOGGED_IN] = True
            return await handler(request)
        headers = {"WWW-Authenticate": 'Basic realm="websocket-exporter", charset="UTF-8"'}
        return web.Response(status=401, text="unauthorized\n", headers=headers)


def is_trusted(request: web.Request) -> bool:
    """Return whether a request comes from loopback, a logged-in user, or a client with a verified certificate."""
    if is_loopback(request.remote) or request.get(_LOGGED_IN, False):
        return True
    tls = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
    return tls is not None and bool(tls.getpeercert())


def is_loopback(remote: str | None) -> bool:
    """Return whether an address is a loopback one."""
    try:
        address = ipaddress.ip_address(remote or "")
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _login(header: str) -> tuple[str, str] | None:
    """Return user and password of an Authorization header (RFC 7617, section 2); None if it is not for basic auth."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None
