"""The web config file: what it asks for, what is refused, and how it is read again."""

from __future__ import annotations

import asyncio
import base64
import errno
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import bcrypt
import pytest
import trustme
from aiohttp import ClientConnectorError, ClientOSError, ClientSession, ServerDisconnectedError
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from exporter.admin import auth as guard
from exporter.admin import server
from exporter.admin import web_config as webconfig
from exporter.admin.server import Admin, AdminBackend
from exporter.admin.web_config import BadWebConfig, BasicAuth, TooMany, load
from tests.certificates import encrypt, issue, trusting
from tests.unit.admin.harness import World
from tests.unit.relay.harness import on_uvloop

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
GOOD = {"Authorization": "Basic " + base64.b64encode(b"prometheus:secret").decode()}

BAD = [
    ("basic_auth_user: {}", "unknown key 'basic_auth_user'"),
    ("tls_server_config: {cert_file: a, key_file: b, cert: c}", "unknown key 'cert'"),
    ("http_server_config: {http2: true}", "unknown key 'http_server_config'"),
    ("basic_auth_users: {prometheus: secret}", "expected a bcrypt hash"),
    ("basic_auth_users: [prometheus]", "expected keys and values"),
    ("tls_server_config: {cert_file: a.crt}", "needs cert_file and key_file"),
    ("tls_server_config: {cert_file: none.crt, key_file: none.key}", "No such file"),
    ("tls_server_config: {cert_file: a, key_file: b, min_version: SSL3}", "'SSL3', expected one of TLS10"),
    ("tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAnyClientCert}", "expected one of NoCl"),
    ("tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAndVerifyClientCert}", "client_ca_file"),
    ("tls_server_config: {cert_file: 1, key_file: b}", "expected a text"),
    ("- a", "expected keys and values"),
    ("a: [", "not YAML"),
    (f"a: {'[' * 2000}{']' * 2000}", "nested too deeply"),
]


@pytest.mark.parametrize(("content", "says"), BAD, ids=[says for _, says in BAD])
def test_a_file_of_no_use_is_refused_in_one_line(tmp_path: Path, content: str, says: str) -> None:
    """Whatever is wrong, the file is named and the reason is said; a guard is never left out in silence."""
    path = tmp_path / "web.yml"
    path.write_text(content)
    with pytest.raises(BadWebConfig) as refused:
        load(path)
    assert str(path) in str(refused.value)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A name that leads nowhere is no empty file."""
    with pytest.raises(BadWebConfig, match="No such file"):
        load(tmp_path / "none.yml")


def test_an_empty_file_asks_for_nothing(tmp_path: Path) -> None:
    """As in Prometheus."""
    path = tmp_path / "web.yml"
    path.write_text("")
    config = load(path)
    assert config.tls is None
    assert config.users == {}


async def unready() -> list[str]:
    return []


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[tuple[str, Admin]]:
    """An admin server by this file; its address without a scheme."""
    world = World()
    hooks = AdminBackend(unready, lambda: True, lambda: {"phase": "none"}, world.state, lambda: 0, world.closes)
    admin = Admin(CollectorRegistry(), hooks, web_config=path)
    port = await admin.listen("127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{port}", admin
    finally:
        await admin.close()


async def status(session: ClientSession, url: str, **options: object) -> int:
    """The status of an answer."""
    async with session.get(url, **options) as answer:  # type: ignore[arg-type]
        return answer.status


@on_uvloop
async def test_logins(tmp_path: Path) -> None:
    """Only who is named gets in; probes and the pod's own hook need no login."""
    path = tmp_path / "web.yml"
    path.write_text(f"basic_auth_users: {{prometheus: {HASH}}}\n")
    async with serving(path) as (address, _), ClientSession() as session:
        base = f"http://{address}"
        assert await status(session, base + "/metrics", headers=GOOD) == 200
        assert await status(session, base + "/metrics", headers=GOOD) == 200
        for bad in ("prometheus:wrong", "nobody:secret", "prometheus:", "prometheus", ":"):
            headers = {"Authorization": "Basic " + base64.b64encode(bad.encode()).decode()}
            assert await status(session, base + "/metrics", headers=headers) == 401, bad
        for header in ("", "Basic", "Basic !!!", "Bearer x", "Basic " + "/w==", "Basic " + "A" * 2000):
            assert await status(session, base + "/", headers={"Authorization": header}) == 401, header
        async with session.get(base + "/metrics") as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "websocket_" not in await answer.text()
        for path_open in ("/livez", "/readyz", "/drain"):
            assert await status(session, base + path_open) == 200


@on_uvloop
async def test_many_wrong_logins_cost_one_core_at_most() -> None:
    """Checks wait for each other; who comes when too many wait is told to come back."""
    doorman = BasicAuth()
    doorman.admit({"prometheus": HASH.encode()})
    attempts = [doorman.knows("prometheus", f"guess {number}") for number in range(webconfig.MAX_WAITING + 10)]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(result, TooMany) for result in results) == 10
    assert sum(result is False for result in results) == webconfig.MAX_WAITING
    assert await doorman.knows("prometheus", "secret")


@on_uvloop
async def test_users_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed file counts within seconds, also for who was let in before; a bad one leaves all as it was."""
    monkeypatch.setattr(guard, "RELOAD", 0.05)
    path = tmp_path / "web.yml"
    path.write_text(f"basic_auth_users: {{prometheus: {HASH}}}\n")
    async with serving(path) as (address, _), ClientSession() as session:
        url = f"http://{address}/metrics"
        assert await status(session, url, headers=GOOD) == 200
        path.write_text("basic_auth_users: {oops\n")
        await asyncio.sleep(0.3)
        assert await status(session, url) == 401
        assert await status(session, url, headers=GOOD) == 200
        other = bcrypt.hashpw(b"other", bcrypt.gensalt(4)).decode()
        path.write_text(f"basic_auth_users: {{prometheus: {other}}}\n")
        async with asyncio.timeout(10):
            while await status(session, url, headers=GOOD) != 401:
                await asyncio.sleep(0.05)


def test_a_file_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    """Truncated and not filled again yet, it would let everybody in: it is read when it has come to rest."""
    path = tmp_path / "web.yml"
    path.write_text(f"basic_auth_users: {{prometheus: {HASH}}}\n")
    kept = guard.AuthMiddleware(path, lambda _: False)
    path.write_text("")
    assert not kept.refresh()
    assert kept.config.users
    path.write_text(f"basic_auth_users: {{grafana: {HASH}}}\n")
    kept.refresh()
    assert set(kept.config.users) == {"prometheus"}
    kept.refresh()
    assert set(kept.config.users) == {"grafana"}
    path.write_text("")
    kept.refresh()
    kept.refresh()
    assert not kept.config.users, "empty and at rest: it is meant"


def write_tls(folder: Path, authority: trustme.CA, extra: str = "") -> Path:
    """A file that asks for TLS, with certificate and key beside it."""
    issue(authority, folder)
    path = folder / "web.yml"
    path.write_text(f"tls_server_config:\n  cert_file: tls.crt\n  key_file: tls.key\n{extra}")
    return path


@on_uvloop
async def test_tls_and_its_renewal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS only, at least 1.2; a renewed certificate is served without a restart, on the same port."""
    monkeypatch.setattr(guard, "RELOAD", 0.05)
    authority, other = trustme.CA(), trustme.CA()
    path = write_tls(tmp_path, authority, "  min_version: TLS13\n")
    async with serving(path) as (address, _), ClientSession() as session:
        assert await status(session, f"https://{address}/metrics", ssl=trusting(authority)) == 200
        with pytest.raises((ClientOSError, ServerDisconnectedError)):
            await status(session, f"http://{address}/metrics")
        old = trusting(authority)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ClientConnectorError):
            await status(session, f"https://{address}/metrics", ssl=old)
        write_tls(tmp_path, other)
        async with asyncio.timeout(10):
            while True:
                try:
                    async with ClientSession() as fresh:
                        assert await status(fresh, f"https://{address}/livez", ssl=trusting(other)) == 200
                    break
                except (ClientOSError, ServerDisconnectedError):
                    await asyncio.sleep(0.05)


def test_an_encrypted_key_is_refused(tmp_path: Path) -> None:
    """Nobody is asked for a pass phrase: at a terminal that would wait for ever, under a running sidecar as well."""
    path = write_tls(tmp_path, trustme.CA())
    encrypt(tmp_path / "tls.key")
    with pytest.raises(BadWebConfig, match="key_file: the private key is encrypted"):
        load(path)


@on_uvloop
async def test_a_port_that_somebody_takes_meanwhile_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When TLS changes and the port is not to be had, the log says so once and it is tried until it is."""
    monkeypatch.setattr(guard, "RELOAD", 0.05)
    monkeypatch.setattr(server, "POLL", 0.01)
    monkeypatch.setattr(server, "REOPEN", 0.05)
    authority, other = trustme.CA(), trustme.CA()
    path = write_tls(tmp_path, authority)
    async with serving(path) as (address, admin):
        taken = True
        reopen = admin._open

        async def too_late(host: str | None, port: int) -> None:
            if taken:
                raise OSError(errno.EADDRINUSE, "address in use")
            await reopen(host, port)

        monkeypatch.setattr(admin, "_open", too_late)
        with capture_logs() as logs:
            write_tls(tmp_path, other)
            async with asyncio.timeout(10):
                while not any(line["event"] == "admin.reopen_failed" for line in logs):
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.2)
                taken = False
                async with ClientSession() as session:
                    while True:
                        with suppress(ClientOSError, ServerDisconnectedError):
                            assert await status(session, f"https://{address}/livez", ssl=trusting(other)) == 200
                            break
                        await asyncio.sleep(0.05)
        assert [line["event"] for line in logs].count("admin.reopen_failed") == 1


@on_uvloop
async def test_client_certificates(tmp_path: Path) -> None:
    """Where they are asked for, nobody gets in without one that the authority signed."""
    authority, strangers = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    extra = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"
    path = write_tls(tmp_path, authority, extra)
    async with serving(path) as (address, _):
        url = f"https://{address}/metrics"
        known, stranger = trusting(authority), trusting(authority)
        authority.issue_cert("prometheus").configure_cert(known)
        strangers.issue_cert("prometheus").configure_cert(stranger)
        async with ClientSession() as session:
            assert await status(session, url, ssl=known) == 200
        for context in (stranger, trusting(authority)):
            async with ClientSession() as session:
                with pytest.raises((ClientOSError, ServerDisconnectedError)):
                    await status(session, url, ssl=context)
