"""The web config file: what it asks for, what is refused, and how it is read again."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import bcrypt
import pytest
import trustme
from aiohttp import ClientConnectorError, ClientOSError, ClientSession, ServerDisconnectedError
from aiohttp.web import HTTPServiceUnavailable
from prometheus_client import CollectorRegistry

from exporter.admin import auth
from exporter.admin.auth import BasicAuth
from exporter.admin.server import Admin, AdminBackend
from exporter.admin.web_config import BadWebConfig, load
from tests.certificates import encrypt, issue, trusting
from tests.unit.admin.harness import FakeSidecar, listen

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
    (f"a: {'[' * 500}{']' * 500}", "nested too deeply"),
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


async def before_scrape() -> None:
    pass


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[tuple[str, Admin]]:
    """An admin server by this file; its address without a scheme."""
    fake = FakeSidecar()
    progress = {"phase": "none"}
    hooks = AdminBackend(unready, list, lambda: dict(progress), fake.state, lambda: 0, fake.closes, before_scrape)
    admin = Admin(CollectorRegistry(), hooks, web_config=path)
    port = await listen(admin)
    try:
        yield f"127.0.0.1:{port}", admin
    finally:
        await admin.close()


async def status(session: ClientSession, url: str, **options: object) -> int:
    """The status of an answer."""
    async with session.get(url, **options) as answer:  # type: ignore[arg-type]
        return answer.status


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


async def test_basic_auth_with_many_wrong_logins_of_one_address_refuses_some() -> None:
    """Checks wait for each other; an address with too many in the queue is refused."""
    logins = BasicAuth()
    logins.users = {"prometheus": HASH.encode()}
    attempts = [logins.accepts("prometheus", f"guess {number}", "192.0.2.1") for number in range(auth.MAX_WAITING + 10)]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(result, HTTPServiceUnavailable) for result in results) == 10
    assert sum(result is False for result in results) == auth.MAX_WAITING
    assert await logins.accepts("prometheus", "secret", "192.0.2.1")


def test_check_of_a_wrong_password_rests_and_of_a_right_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wrong passwords come, checking them takes a quarter of a core, whoever the user is."""
    clock, rests = iter([5.0, 5.1, 7.0, 7.2, 9.0]), []
    monkeypatch.setattr(auth, "thread_time", lambda: next(clock))
    monkeypatch.setattr(auth, "sleep", rests.append)
    assert not auth._check(b"wrong", HASH.encode())
    assert not auth._check(b"secret", None)
    assert auth._check(b"secret", HASH.encode())
    assert rests == [pytest.approx(0.3), pytest.approx(0.6)]


async def test_basic_auth_beside_wrong_logins_of_others_accepts_the_rightful_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A flood of wrong passwords from one address costs another at most one check of waiting."""
    checked: list[bytes] = []

    def check(password: bytes, hashed: bytes | None) -> bool:
        checked.append(password)
        return password == b"secret"

    monkeypatch.setattr(auth, "_check", check)
    logins = BasicAuth()
    logins.users = {"prometheus": HASH.encode()}
    flood = [asyncio.create_task(logins.accepts("prometheus", f"{number}", "192.0.2.1")) for number in range(4)]
    await asyncio.sleep(0)
    assert await logins.accepts("prometheus", "secret", "192.0.2.2")
    assert checked.index(b"secret") <= 2
    assert not any(await asyncio.gather(*flood))


async def test_users_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed file counts within seconds, also for who was let in before; a bad one leaves all as it was."""
    monkeypatch.setattr(auth, "RELOAD", 0.05)
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
    kept = auth.AuthMiddleware(path)
    path.write_text("")
    kept.refresh()
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


async def test_tls_and_its_renewal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS only, at least 1.2; a renewed certificate is served without a restart, on the same port."""
    monkeypatch.setattr(auth, "RELOAD", 0.05)
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
