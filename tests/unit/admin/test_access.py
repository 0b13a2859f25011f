"""Who may read and do what on the admin port."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import make_mocked_request

from exporter.admin import DRAIN_HEADER
from exporter.admin.server import Access, Admin

from .harness import FakeSidecar, listen, make_report
from .test_server import serving

DRAIN = {DRAIN_HEADER: "drain"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (DRAIN, 202),
        (DRAIN | {"Sec-Fetch-Site": "same-origin"}, 202),
        (DRAIN | {"Sec-Fetch-Site": "none"}, 202),
        ({}, 403),
        (DRAIN | {"Origin": "http://evil.example"}, 403),
        (DRAIN | {"Origin": "null"}, 403),
        (DRAIN | {"Sec-Fetch-Site": "cross-site"}, 403),
        (DRAIN | {"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
async def test_drain_of_another_site_is_refused(headers: dict[str, str], status: int) -> None:
    """POST /drain needs its own header, and none by which a browser shows that another site's page sends it."""
    async with serving() as (_, rest, client, url), client.post(f"{url}/drain", headers=headers) as answer:
        assert answer.status == status
        assert rest.drains == (status == 202)


@pytest.mark.parametrize("path", ["/", "/closes", "/closes/abcd-1", "/events", "/drain"])
@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost:10011", True), ("127.0.0.1", True), ("[::1]:10011", True), ("10.1.2.3:10011", True),
        ("chat.example:80", True), ("CHAT.example.", True), ("evil.example", False), ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
    ],
)  # fmt: skip
async def test_private_path_under_an_unknown_name_is_misdirected(path: str, host: str, known: bool) -> None:
    """A name that another site points at this address reads nothing private: 421."""
    async with serving(hosts=("chat.example",)) as (_, _rest, client, url):
        async with client.head(url + path, headers={"Host": host}) as answer:
            assert (answer.status != 421) == known
        for public in ("/metrics", "/livez", "/readyz"):
            async with client.get(url + public, headers={"Host": host}) as answer:
                assert answer.status == 200


async def answered(admin: Admin, path: str, remote: str) -> int:
    """Return the status of a request from an address, as far as the middlewares decide it."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    request = make_mocked_request("GET", path, {"Host": "10.0.0.1"}).clone(remote=remote)
    answer = await admin._check_site(request, handler)
    return answer.status


@pytest.mark.parametrize("path", ["/closes", "/closes/abcd-1", "/events"])
@pytest.mark.parametrize(
    ("remote", "anywhere", "status"), [("127.0.0.1", False, 200), ("10.0.0.9", False, 403), ("10.0.0.9", True, 200)]
)
async def test_sessions_are_shown_to_loopback_alone(path: str, remote: str, anywhere: bool, status: int) -> None:
    """Addresses, paths and texts of sessions are for loopback, unless configured otherwise."""
    fake = FakeSidecar()
    admin = Admin(fake.registry, fake.backend, Access(closes_from_anywhere=anywhere))
    assert await answered(admin, path, remote) == status
    assert await answered(admin, "/metrics", remote) == 200


@pytest.mark.parametrize(("remote", "shown"), [("127.0.0.1", True), ("10.0.0.9", False)])
async def test_page_shows_reports_to_loopback_alone(remote: str, shown: bool, monkeypatch: Any) -> None:
    """Another host gets the numbers, and instead of the reports a sentence on who may see them."""
    monkeypatch.setattr("exporter.admin.server.is_trusted", lambda request: remote == "127.0.0.1")
    fake = FakeSidecar()
    fake.closes.add(make_report(0, path="/secret-path"))
    admin = Admin(fake.registry, fake.backend)
    port = await listen(admin)
    try:
        async with ClientSession() as client, client.get(f"http://127.0.0.1:{port}/") as answer:
            page = await answer.text()
    finally:
        await admin.close()
    assert ("/secret-path" in page) == shown
    assert ("They are for loopback" in page) != shown
    assert "Server faults" in page
