"""The admin port over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import make_mocked_request
from prometheus_client import CollectorRegistry, Counter

from exporter.admin import DRAIN_HEADER
from exporter.admin.auth import is_loopback
from exporter.admin.server import Access, Admin, AdminBackend
from exporter.admin.state import State
from exporter.observe.recent_closes import RecentCloses
from tests.unit.admin.harness import listen

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass
class Rest:
    """What the admin server asks of the rest."""

    reasons: list[str] = field(default_factory=list)
    drains: int = 0
    phase: str = "closing"
    defunct: list[str] = field(default_factory=list)
    scrapes: int = 0

    async def unready(self) -> list[str]:
        return self.reasons

    def begin_drain(self) -> bool:
        self.drains += 1
        return self.drains == 1

    def progress(self) -> dict[str, object]:
        return {"draining": self.drains > 0, "phase": self.phase, "sessions_left": 4, "seconds_left": 1.5}

    def state(self) -> State:
        return State("1.2.3", "127.0.0.1:8080", False, 0, 1.0, {}, [{}])

    def hooks(self) -> AdminBackend:
        return AdminBackend(
            self.unready,
            self.begin_drain,
            self.progress,
            self.state,
            lambda: 0,
            RecentCloses(["all"]),
            self.before_scrape,
            lambda: self.defunct,
        )

    async def before_scrape(self) -> None:
        self.scrapes += 1


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[Admin, Rest, ClientSession, str]]:
    """An admin server, what is behind it, a client, and its base URL."""
    rest = Rest()
    registry = CollectorRegistry()
    Counter("websocket_things", "Things.", registry=registry).inc(3)
    admin = Admin(registry, rest.hooks(), Access(**options))
    port = await listen(admin)
    try:
        async with ClientSession() as client:
            yield admin, rest, client, f"http://127.0.0.1:{port}"
    finally:
        await admin.close()


async def test_metrics_in_the_format_that_is_asked_for() -> None:
    """Plain text by default, OpenMetrics on request, each with its content type; the time of the scrape is noted."""
    async with serving() as (admin, _, client, url):
        assert admin.scraped == float("-inf")
        async with client.get(f"{url}/metrics") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith("text/plain")
            assert "websocket_things_total 3.0" in await answer.text()
        first = admin.scraped
        assert first > 0
        async with client.get(f"{url}/metrics", headers={"Accept": OPENMETRICS}) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            assert (await answer.text()).endswith("# EOF\n")
        assert admin.scraped >= first


async def test_livez_is_about_this_process_and_readyz_about_the_rest() -> None:
    """/livez is 200 whatever else is wrong; /readyz is 503 with one line a reason, and 200 when there is none."""
    async with serving() as (_, rest, client, url):
        for reasons, status, text in (
            ([], 200, "ready\n"),
            (["draining", "the app is down"], 503, "not ready: draining\nnot ready: the app is down\n"),
            ([], 200, "ready\n"),
        ):
            rest.reasons = reasons
            async with client.get(f"{url}/readyz") as answer:
                assert (answer.status, await answer.text()) == (status, text)
            async with client.get(f"{url}/livez") as answer:
                assert (answer.status, await answer.text()) == (200, "alive\n")


async def test_livez_with_a_relay_that_hangs_names_it() -> None:
    """/livez is 503 with one line for each process that no longer works."""
    async with serving() as (_, rest, client, url):
        rest.defunct = ["relay-0 has not reported for 7 s"]
        async with client.get(f"{url}/livez") as answer:
            assert (answer.status, await answer.text()) == (503, "relay-0 has not reported for 7 s\n")


async def test_metrics_are_brought_up_to_date_before_a_scrape() -> None:
    """Each exposition begins with what the backend does before."""
    async with serving() as (_, rest, client, url):
        async with client.get(f"{url}/metrics") as answer:
            await answer.read()
        assert rest.scrapes == 1


async def test_drain_is_begun_by_post_and_watched_by_get() -> None:
    """GET tells the progress and begins nothing; POST begins and answers 202, a second time too."""
    async with serving() as (_, rest, client, url):
        async with client.get(f"{url}/drain") as answer:
            assert (answer.status, (await answer.json())["draining"]) == (200, False)
        assert rest.drains == 0
        for _ in range(2):
            async with client.post(f"{url}/drain", headers={DRAIN_HEADER: "drain"}) as answer:
                assert (answer.status, await answer.json()) == (202, rest.progress())
        assert rest.drains == 2


async def test_drain_from_another_host_is_refused() -> None:
    """POST /drain from another host is 403 and begins nothing, unless it was allowed."""
    for allowed in (False, True):
        async with serving(drain_from_anywhere=allowed) as (admin, rest, _, _url):
            request = make_mocked_request("POST", "/drain", {DRAIN_HEADER: "drain"}).clone(remote="192.0.2.9")
            answer = await admin._drain(request)
            assert answer.status == (202 if allowed else 403)
            assert rest.drains == allowed


@pytest.mark.parametrize(
    ("remote", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.0.0.1", False),
     ("::ffff:10.0.0.1", False), ("fe80::1", False), ("0.0.0.0", False), ("", False), (None, False),
     ("localhost", False)],
)  # fmt: skip
def test_what_loopback_is(remote: str | None, loopback: bool) -> None:
    """Only addresses of this host, IPv4 in IPv6 included; what cannot be read is not."""
    assert is_loopback(remote) is loopback


async def test_the_landing_page() -> None:
    """/ names the version, links /metrics and forbids everything else."""
    async with serving() as (_, rest, client, url):
        async with client.get(url) as answer:
            text = await answer.text()
            assert answer.status == 200
            assert answer.content_type == "text/html"
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "1.2.3" in text
        assert 'href="/metrics"' in text
        assert "Not ready" not in text
        rest.reasons = ["draining"]
        async with client.get(url) as answer:
            assert "Not ready" in await answer.text()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("POST", "/metrics", 405), ("DELETE", "/drain", 405), ("POST", "/", 405)],
)
async def test_other_paths_and_methods_are_refused(method: str, path: str, status: int) -> None:
    """Nothing else is served, nothing else acts, and no answer names the library behind it."""
    async with serving() as (_, rest, client, url), client.request(method, url + path) as answer:
        assert answer.status == status
        assert answer.headers["Server"] == "websocket-exporter"
        assert rest.drains == 0


async def test_a_hook_can_wait_for_the_end_of_a_drain() -> None:
    """GET /drain?wait=... answers once the drain is done, and begins none."""
    async with serving() as (_, rest, client, url):
        rest.phase = "closing"
        waiting = asyncio.ensure_future(client.get(f"{url}/drain?wait=20s"))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
        rest.phase = "done"
        async with await waiting as answer:
            assert answer.status == 200
            assert (await answer.json())["phase"] == "done"
        assert rest.drains == 0


async def test_a_hook_waits_no_longer_than_it_says() -> None:
    """When the time is over it is answered with the drain where it is; a wait that is no duration is a 400."""
    async with serving() as (_, _, client, url):
        async with client.get(f"{url}/drain?wait=100ms") as answer:
            assert (await answer.json())["phase"] == "closing"
        async with client.get(f"{url}/drain?wait=soon") as answer:
            assert answer.status == 400
            assert "500ms" in await answer.text()


async def test_a_hook_does_not_wait_for_a_drain_that_nobody_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no drain begins within a moment there is nothing to wait for."""
    monkeypatch.setattr("exporter.admin.server.BEGIN", 0.2)
    async with serving() as (_, rest, client, url):
        rest.phase = "none"
        async with client.get(f"{url}/drain?wait=1h") as answer:
            assert (await answer.json())["phase"] == "none"
