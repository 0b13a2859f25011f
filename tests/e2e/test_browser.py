"""A real browser in front of the sidecar: the page itself and its WebSocket both come through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.ports import free_port
from tests.waiting import WAIT_LIMIT, eventually

from .harness.browser import Chromium, chromium
from .harness.process import running
from .harness.scrape import ACTIVE, Ending
from .harness.sidecar import Sidecar, audited
from .harness.stack import python

if TYPE_CHECKING:
    from playwright.sync_api import Page, Playwright

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (requirements/e2e.txt)")

GOING_AWAY: Ending = ("1001", "going-away", "client")
NO_STATUS: Ending = ("1005", "no-status", "client")
APPLICATION: Ending = ("4xxx", "application", "client")


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Sidecar]:
    """A sidecar in front of an app that serves a page and its WebSocket."""
    port = free_port()
    with running(python("the app with the page", "page_server.py", needs="aiohttp").start(port)):
        with audited(port) as sidecar:
            yield sidecar


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    """One browser for the tests that leave it alive."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def driver() -> Iterator[Playwright]:
    """Playwright, once: it cannot be started twice in a thread."""
    with playwright.sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="module")
def pages(driver: Playwright, browser: Chromium) -> Iterator[Callable[[], Page]]:
    """Opens tabs in that browser."""
    connection = driver.chromium.connect_over_cdp(browser.devtools, timeout=WAIT_LIMIT * 1000)
    try:
        yield connection.contexts[0].new_page
    finally:
        connection.close()


def opened(page: Page, sidecar: Sidecar) -> None:
    """Load the page through the sidecar; its title becomes the echo of what its WebSocket sent."""
    page.goto(f"http://127.0.0.1:{sidecar.port}/", timeout=WAIT_LIMIT * 1000)
    page.wait_for_function("document.title == 'hello'", timeout=WAIT_LIMIT * 1000)


@pytest.mark.parametrize("way", ["navigate", "close the tab"])
def test_leaving_a_page_is_going_away(sidecar: Sidecar, pages: Callable[[], Page], way: str) -> None:
    """A user who navigates away or closes the tab is expected: 1001 by the client, and nothing else."""
    before = sidecar.scrape()
    page = pages()
    opened(page, sidecar)
    if way == "navigate":
        page.goto(f"http://127.0.0.1:{sidecar.port}/elsewhere", timeout=WAIT_LIMIT * 1000)
    else:
        page.close()
    assert sidecar.settled(before).endings() == {GOING_AWAY: 1}
    page.close()


def test_reloading_is_going_away(sidecar: Sidecar, pages: Callable[[], Page]) -> None:
    """A reload ends the old page's session with 1001 by the client, and opens a new one."""
    before = sidecar.scrape()
    page = pages()
    opened(page, sidecar)
    page.reload()
    page.wait_for_function("document.title == 'hello'", timeout=WAIT_LIMIT * 1000)
    eventually(lambda: sidecar.scrape().since(before).closed(), "the first session's ending")
    now = sidecar.scrape()
    assert now.since(before).endings() == {GOING_AWAY: 1}
    assert now.value(ACTIVE) == 1
    page.close()
    assert sidecar.settled(before, endings=2).endings() == {GOING_AWAY: 2}


CLOSING: list[tuple[str, Ending]] = [
    ("socket.close()", NO_STATUS),
    ("socket.close(4001, 'x')", APPLICATION),
    ("socket.close(1000)", ("1000", "normal", "client")),
]


@pytest.mark.parametrize(("call", "ending"), CLOSING, ids=[row[0] for row in CLOSING])
def test_the_script_closes(sidecar: Sidecar, pages: Callable[[], Page], call: str, ending: Ending) -> None:
    """What the page's script says is what is counted, though aiohttp answers every Close with 1000."""
    before = sidecar.scrape()
    page = pages()
    opened(page, sidecar)
    page.evaluate(call)
    page.wait_for_function("document.title == 'closed 1000 true'", timeout=WAIT_LIMIT * 1000)
    added = sidecar.settled(before)
    assert added.endings() == {ending: 1}
    assert added.nonzero("websocket_close_handshakes_incomplete_total") == {}
    page.close()


def test_plain_http_is_no_handshake(sidecar: Sidecar, pages: Callable[[], Page]) -> None:
    """The page comes through the sidecar on kept-alive connections; only its WebSocket is counted."""
    before = sidecar.scrape()
    page = pages()
    opened(page, sidecar)
    for path in ("a", "b", "c"):
        status = page.evaluate("path => fetch(path).then(answer => answer.status)", path)
        assert status == 200
    added = sidecar.scrape().since(before)
    assert added.by("websocket_handshakes_total", "status") == {"101": 1}
    assert added.nonzero("websocket_unobserved_connections_total") == {}
    assert added.endings() == {}
    page.close()
    assert sidecar.settled(before).endings() == {GOING_AWAY: 1}


def test_a_killed_browser_is_lost(sidecar: Sidecar, driver: Playwright) -> None:
    """When the browser's whole process group dies no Close is sent: 1006, connection-lost, by the client."""
    before = sidecar.scrape()
    with chromium() as browser:
        connection = driver.chromium.connect_over_cdp(browser.devtools, timeout=WAIT_LIMIT * 1000)
        opened(connection.contexts[0].new_page(), sidecar)
        browser.process.kill_group()
        added = sidecar.settled(before)
    assert added.endings() == {("1006", "connection-lost", "client"): 1}
