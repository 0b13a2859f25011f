"""Who may read the admin port: TLS and basic auth in the format of Prometheus' ``--web.config.file``.

    tls_server_config:
      cert_file: server.crt
      key_file: server.key
      client_auth_type: RequireAndVerifyClientCert
      client_ca_file: ca.crt
      min_version: TLS12
    basic_auth_users:
      prometheus: $2b$12$...        (bcrypt, as by ``htpasswd -nB``)

Source: https://prometheus.io/docs/prometheus/latest/configuration/https/. Paths are relative to the file. Part of
that format is supported; an unknown key is an error, so that no guard is taken to be there that is not.

/livez and /readyz need no login: the kubelet's probes have none. Neither does /drain from loopback, the pod's own
preStop hook. Everything else does, once the file names a user.

The YAML library and bcrypt are imported only where there is such a file.
"""

from __future__ import annotations

import asyncio
import binascii
import hashlib
import hmac
import ipaddress
import re
import secrets
import ssl
from base64 import b64decode
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from exporter.admin.responses import web
from exporter.reloading_cert import load_pair

#: Password checks of one address that may wait for the one in progress (each takes a part of a second of a core).
MAX_WAITING = 4
#: Good logins that are remembered, as keyed hashes: a scraper logs in every few seconds.
MAX_REMEMBERED = 64

_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_TLS_KEYS = {"cert_file", "key_file", "client_auth_type", "client_ca_file", "min_version", "max_version"}
_BCRYPT = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")
#: The hash that a password is compared with if there is no such user, so that both take as long.
_NOBODY = b"$2b$10$......................6uU8IFWWqSLDjqlFhBKlKfqXq9XzKLe"


class BadWebConfig(Exception):
    """The file cannot be used; the message is one line that names it."""


@dataclass(frozen=True, slots=True)
class WebConfig:
    """The content of the file.

    :ivar tls: None if the admin port speaks plain HTTP.
    :ivar users: bcrypt hashes by user; empty if no login is needed.
    :ivar files: the file and those that it names, for :func:`fingerprint`.
    """

    tls: ssl.SSLContext | None = None
    users: Mapping[str, bytes] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


def load(path: Path) -> WebConfig:
    """Read the file and those that it names. Raises BadWebConfig."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return _parse(path, YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise BadWebConfig(f"{path}: {getattr(error, 'strerror', None) or 'not text in UTF-8'}") from error
    except YAMLError as error:
        raise BadWebConfig(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise BadWebConfig(f"{path}: nested too deeply") from error
    except ValueError as error:
        raise BadWebConfig(f"{path}: {error}") from error


def _parse(path: Path, content: Any) -> WebConfig:
    content = _mapping({} if content is None else content, "the file", {"tls_server_config", "basic_auth_users"})
    users = _mapping(content.get("basic_auth_users") or {}, "basic_auth_users")
    for user, hashed in users.items():
        if not isinstance(user, str) or not isinstance(hashed, str) or not _BCRYPT.fullmatch(hashed):
            raise ValueError(f"basic_auth_users: {user}: expected a bcrypt hash, as made by htpasswd -nB")
    context: ssl.SSLContext | None = None
    files: tuple[Path, ...] = (path,)
    if content.get("tls_server_config"):
        tls = _mapping(content["tls_server_config"], "tls_server_config", _TLS_KEYS)
        context, more = _context(path.parent, tls)
        files += more
    return WebConfig(context, {user: hashed.encode() for user, hashed in users.items()}, files)


def _mapping(value: Any, place: str, known: set[str] | None = None) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{place}: expected keys and values")
    for key in value:
        if known is not None and key not in known:
            raise ValueError(f"{place}: unknown key {key!r}, expected one of {', '.join(sorted(known))}")
    return value


def _context(folder: Path, tls: Mapping[str, Any]) -> tuple[ssl.SSLContext, tuple[Path, ...]]:
    for name, value in tls.items():
        if not isinstance(value, str):
            raise ValueError(f"tls_server_config: {name}: expected a text")
    certificate, key = (_file(folder, tls, name) for name in ("cert_file", "key_file"))
    if certificate is None or key is None:
        raise ValueError("tls_server_config: needs cert_file and key_file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _one_of(tls, "min_version", _VERSIONS, ssl.TLSVersion.TLSv1_2)
    context.maximum_version = _one_of(tls, "max_version", _VERSIONS, ssl.TLSVersion.MAXIMUM_SUPPORTED)
    authority = _file(folder, tls, "client_ca_file")
    auth = _one_of(tls, "client_auth_type", _CLIENT_AUTH, ssl.CERT_NONE)
    if (authority is None) != (auth is ssl.CERT_NONE):
        raise ValueError("tls_server_config: client_ca_file and a client_auth_type that verifies need each other")
    context.verify_mode = auth
    try:
        load_pair(context, certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"tls_server_config: cert_file, key_file: {_why(error)}") from error
    if authority is not None:
        try:
            context.load_verify_locations(authority)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"tls_server_config: client_ca_file: {_why(error)}") from error
    return context, tuple(file for file in (certificate, key, authority) if file is not None)


def _file(folder: Path, tls: Mapping[str, Any], name: str) -> Path | None:
    return folder / tls[name] if tls.get(name) else None


def _one_of(tls: Mapping[str, Any], name: str, choices: Mapping[str, Any], default: Any) -> Any:
    if name not in tls:
        return default
    if tls[name] not in choices:
        raise ValueError(f"tls_server_config: {name}: {tls[name]!r}, expected one of {', '.join(choices)}")
    return choices[tls[name]]


def _why(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror or error)


def fingerprint(files: tuple[Path, ...]) -> bytes:
    """Return a digest of the files' contents; a file that cannot be read counts as empty."""
    digest = hashlib.sha256()
    for path in files:
        try:
            content = path.read_bytes()
        except OSError:
            content = b""
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.digest()


class TooMany(Exception):
    """Too many logins of one address wait to be checked."""


class BasicAuth:
    """Check users and passwords in a thread, one at a time: bcrypt is slow on purpose.

    Each address has one login in the queue at a time, so wrong passwords of one do not lock out another.
    """

    def __init__(self) -> None:
        self.users: Mapping[str, bytes] = {}
        self._secret = secrets.token_bytes(32)
        self._remembered: dict[bytes, None] = {}
        self._checking = asyncio.Semaphore(1)
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waiting: Counter[str] = Counter()

    def admit(self, users: Mapping[str, bytes]) -> None:
        """Accept these users from now on."""
        self.users = users
        self._remembered.clear()

    async def accepts(self, user: str, password: str, address: str) -> bool:
        """Return whether this user has this password. Raises TooMany."""
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
            raise TooMany
        self._waiting[address] += 1
        try:
            async with self._turns[address], self._checking:
                return await asyncio.to_thread(_check, password, hashed)
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address], self._turns[address]


def _check(password: bytes, hashed: bytes | None) -> bool:
    import bcrypt

    try:
        good = bcrypt.checkpw(password[:72], hashed or _NOBODY)  # bcrypt reads 72 bytes; this library refuses more
    except ValueError:
        return False
    return good and hashed is not None


#: Seconds between checks whether the files have changed.
RELOAD = 5.0

OPEN = frozenset({"/livez", "/readyz"})
OPEN_FROM_LOOPBACK = frozenset({"/drain"})
#: Under this name a request holds whether its sender has logged in.
_LOGGED_IN: web.RequestKey[bool] = web.RequestKey("logged-in", bool)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


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
        self._logins.admit(self.config.users)
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
        self._logins.admit(self.config.users)
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
        try:
            if login is not None and await self._logins.accepts(*login, request.remote or ""):
                request[_LOGGED_IN] = True
                return await handler(request)
        except TooMany:
            return web.Response(status=503, text="too many logins wait to be checked\n", headers={"Retry-After": "5"})
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
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


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
