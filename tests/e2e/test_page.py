"""The page in a real browser, served by a real sidecar with real closes.

The sidecar is a process of its own; the app behind it and the clients live here. Screenshots go to pytest's temporary
directory.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from tests.e2e.harness.scrape import Scrape
from tests.waiting import WAIT_LIMIT, eventually

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (requirements/dev.txt)")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe (requirements/dev.txt)")

ROOT = Path(__file__).parents[2]

expect = playwright.expect
expect.set_options(timeout=WAIT_LIMIT * 1000)


def app(connection: ServerConnection) -> None:
    """An app that fails on demand: raises (1011), drops the socket (1006), leaves (1001), or echoes."""
    for message in connection:
        if message == "raise":
            raise LookupError("the test's bug")
        if message == "drop":
            connection.socket.shutdown(socket.SHUT_RDWR)
        elif message == "leave":
            connection.close(1001)
        elif isinstance(message, str) and message.startswith("refuse "):
            connection.close(1008, message.removeprefix("refuse "))
        else:
            connection.send(message)


@contextmanager
def the_app() -> Iterator[int]:
    """Serve the app; its port."""
    quiet = logging.Logger("app", logging.CRITICAL)
    with serve(app, "127.0.0.1", 0, logger=quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join(WAIT_LIMIT)


class Sidecar:
    """A running sidecar."""

    def __init__(self, process: subprocess.Popen[bytes], listen: str, admin: str) -> None:
        self.process = process
        self.listen = listen
        self.admin = admin

    def end(self, how: str, times: int = 1, path: str = "/chat") -> None:
        """Sessions that the app, or the client for "client leaves", ends like that; returns when all are counted.

        The sidecar knows last: it waits for both TCP connections, and after a drop it asks whether the app lives.
        """
        counted = self.counted() + times
        for _ in range(times):
            with connect(f"ws://{self.listen}{path}", compression=None) as client:
                if how == "client leaves":
                    client.close(1001)
                    continue
                client.send(how)
                with pytest.raises(ConnectionClosed):
                    client.recv(WAIT_LIMIT)
        eventually(lambda: self.counted() >= counted, "every ending is counted")

    def counted(self) -> float:
        """Sessions whose ending is counted."""
        with urlopen(f"http://{self.admin}/metrics", timeout=WAIT_LIMIT) as answer:
            return Scrape.parse(answer.read().decode()).closed()

    def closes(self) -> dict[str, Any]:
        """What /closes says."""
        with urlopen(f"http://{self.admin}/closes", timeout=WAIT_LIMIT) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


def _address(said: str) -> str:
    return f"127.0.0.1:{said.rpartition(':')[2]}"


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    """A sidecar of its own for every test, so that its numbers begin at zero."""
    with the_app() as port:
        flags = ["--upstream", f"127.0.0.1:{port}", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        flags += ["--log-format", "json", "--drain-timeout", "1s", "--drain-spread", "0s", "--drain-linger", "0s"]
        log = tmp_path / "sidecar.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "exporter", "run", *flags], stdout=out, stderr=out, cwd=ROOT
            )
        try:
            eventually(
                lambda: b"exporter.started" in log.read_bytes() or process.poll() is not None, "the sidecar's start"
            )
            assert process.poll() is None, log.read_text()
            started = next(json.loads(line) for line in log.read_text().splitlines() if "exporter.started" in line)
            yield Sidecar(process, _address(started["listen"]), _address(started["admin"]))
        finally:
            process.terminate()
            process.wait(WAIT_LIMIT)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs a browser (Debian package chromium)")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=flags)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, address: str, **kind: Any) -> Iterator[Page]:
    """The page in a fresh window. What its console complains about, say a forbidden style, is a failure."""
    context: BrowserContext = browser.new_context(**kind)
    complaints: list[str] = []
    try:
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        yield page
        assert complaints == []
    finally:
        context.close()


def big(page: Page, card: str) -> Any:
    """The big number of a card: ``faults`` or ``away``."""
    return page.locator(f"#{card} .big b")


def is_live(page: Page) -> None:
    """Wait until events come."""
    expect(page.locator("#live")).to_have_text("Live.")


def violations(page: Page) -> list[str]:
    """What axe-core finds against WCAG 2.2 A and AA and good practice."""
    found = axe.Axe().run(page)
    return [f"{v['id']}: {v['help']}: {[n['html'] for n in v['nodes']]}" for v in found.response["violations"]]


def test_page_follows_sessions_that_close(browser: Browser, sidecar: Sidecar) -> None:
    """Without a reload both cards, the open sessions, the rows, the chart and the groups follow the closes."""
    with opened(browser, f"http://{sidecar.admin}/") as page:
        is_live(page)
        expect(big(page, "away")).to_have_text("0")
        expect(big(page, "faults")).to_have_text("no faults")
        expect(page.get_by_text("No connection has closed since the start.")).to_be_visible()
        expect(page.get_by_text("None so far.")).to_be_visible()

        sidecar.end("client leaves", times=3)
        expect(big(page, "away")).to_have_text("3")
        expect(big(page, "faults")).to_have_text("no faults")
        assert page.locator("#faults").get_attribute("data-any") == "false"
        expect(page.locator("#chart rect[data-tone=fault]")).to_have_count(0)

        sidecar.end("raise", times=2, path="/chat?token=secret")
        expect(big(page, "faults")).to_have_text("2")
        expect(page.locator("#faults .parts li")).to_have_text(re.compile(r"internal-error\s+2"))
        assert page.locator("#faults").get_attribute("data-any") == "true"
        row = page.locator("tr[data-key=internal-error-server]")
        expect(row.locator("td.number").first).to_have_text("2")
        expect(row.locator("a.code")).to_have_text("1011")
        expect(page.locator("#chart")).to_have_attribute(
            "aria-label", re.compile("last 5 minutes: 2 fault, 0 other, 3 expected, 0 normal")
        )
        expect(page.locator("#chart rect[data-tone=fault]")).not_to_have_count(0)
        expect(row.locator("svg.spark rect:not([height='0'])")).not_to_have_count(0)
        groups = page.locator(".reports > li")
        expect(groups).to_have_count(1)
        expect(groups.first).to_contain_text("internal-error by server on /chat")
        expect(groups.first).to_contain_text("2 times, last")
        expect(groups.first).to_contain_text("An unhandled error ended the session")
        assert "secret" not in page.content()

        sidecar.end("drop")
        expect(big(page, "faults")).to_have_text("3")
        expect(groups.first).to_contain_text("dropped-on-message by server")

        with connect(f"ws://{sidecar.listen}/chat"):
            expect(page.locator("[data-text=active]")).to_have_text("1")
        expect(page.locator("[data-text=active]")).to_have_text("0")
        expect(page.get_by_text("None so far.")).to_be_hidden()

        page.locator("#minutes summary").click()
        faults = page.locator("#minutes tbody tr td:nth-of-type(1)").all_text_contents()
        assert sum(map(int, faults)) == 3, "in one minute or, where it turned meanwhile, in two"


def test_page_announces_abnormal_closes_only(browser: Browser, sidecar: Sidecar) -> None:
    """The one live region is polite, empty at first, silent on expected closes, and one sentence on abnormal ones."""
    with opened(browser, f"http://{sidecar.admin}/") as page:
        is_live(page)
        region = page.locator("[aria-live]")
        expect(region).to_have_count(1)
        assert region.get_attribute("aria-live") == "polite"
        sidecar.end("client leaves", times=2)
        expect(big(page, "away")).to_have_text("2")
        expect(region).to_have_text("")
        sidecar.end("raise")
        expect(region).to_contain_text("1 new abnormal close. The latest: An unhandled error ended the session")


def test_with_the_keyboard_alone(browser: Browser, sidecar: Sidecar) -> None:
    """Tab reaches everything in order, each stop can be seen; a code explains itself; Enter opens a report."""
    sidecar.end("raise")
    with opened(browser, f"http://{sidecar.admin}/") as page:
        is_live(page)
        stops: list[str] = []
        while True:
            page.keyboard.press("Tab")
            stop = page.evaluate(
                """() => {
                    const at = document.activeElement;
                    if (at === document.body) return null;
                    const style = getComputedStyle(at);
                    const box = at.getBoundingClientRect();
                    const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
                    return { says: at.textContent.trim().replace(/\\s+/g, " "), seen, wide: box.width, left: box.left };
                }"""
            )
            if stop is None:
                break
            assert stop["seen"], f"focus cannot be seen on {stop['says']}"
            assert stop["wide"] > 0
            assert stop["left"] >= 0
            stops.append(stop["says"])
            assert len(stops) < 100
        assert stops == [
            "To the numbers",
            "Closes by the minute as a table",
            "1011",
            "1011",
            "internal-error by server",
            "All reports, with filters",
            "All 23 codes",
            "/closes",
            "/metrics",
            "/livez",
            "/readyz",
            "/drain",
            "Grafana dashboards",
            "diagnosis",
            "troubleshooting",
        ]

        card = page.locator(".card")
        page.locator(".causes a.code").focus()
        expect(card).to_be_visible()
        expect(card).to_contain_text("Look for the stack trace in the server's log")
        page.keyboard.press("Escape")
        expect(card).to_have_count(0)
        page.keyboard.press("Tab")
        expect(card).to_contain_text("1011 Internal Error")
        page.locator(".reports a.report").focus()
        expect(card).to_have_count(0)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("1011 internal-error by server")


def test_page_keeps_the_focus_while_closes_come(browser: Browser, sidecar: Sidecar) -> None:
    """A group in focus stays where it is read, with its focus, however many closes come after it."""
    sidecar.end("raise")
    with opened(browser, f"http://{sidecar.admin}/") as page:
        is_live(page)
        page.locator(".reports a.report").focus()
        sidecar.end("refuse you", times=3)
        sidecar.end("raise", times=12)
        expect(big(page, "faults")).to_have_text("13")
        assert "internal-error" in page.evaluate("document.activeElement.textContent")
        page.locator("#codes summary").focus()
        sidecar.end("raise")
        expect(big(page, "faults")).to_have_text("14")
        expect(page.locator(".reports > li")).to_have_count(2)


def test_a_code_explains_itself_on_hover_and_tap(browser: Browser, sidecar: Sidecar) -> None:
    """The card opens within the window, can be moved onto, and goes when one leaves or taps elsewhere."""
    with opened(browser, f"http://{sidecar.admin}/", viewport={"width": 360, "height": 640}, has_touch=True) as page:
        is_live(page)
        card = page.locator(".card")
        sidecar.end("raise")
        sidecar.end("client leaves")
        code = page.locator("[data-key=internal-error-server] a.code")
        code.hover()
        expect(card).to_contain_text("1011 Internal Error")
        box = card.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 640
        card.hover()
        page.wait_for_timeout(400)  # longer than the card waits for a pointer on its way
        expect(card).to_be_visible()
        page.mouse.move(1, 1)
        expect(card).to_have_count(0)
        page.locator("[data-key=going-away-client] a.code").tap()
        expect(card).to_contain_text("1001 Going Away")
        assert page.url.endswith("/")
        page.get_by_role("heading", level=1).tap()
        expect(card).to_have_count(0)


def test_page_without_javascript_is_complete(browser: Browser, sidecar: Sidecar) -> None:
    """Numbers, rows and groups are in the page; a code is a link to its explanation, which opens; no chart is empty."""
    sidecar.end("raise")
    sidecar.end("client leaves")
    with opened(browser, f"http://{sidecar.admin}/", java_script_enabled=False) as page:
        expect(big(page, "away")).to_have_text("1")
        expect(big(page, "faults")).to_have_text("1")
        expect(page.locator("noscript")).to_be_visible()
        expect(page.locator("svg:visible")).to_have_count(0)
        expect(page.locator("tr[data-key=internal-error-server] td.number").first).to_have_text("1")
        page.locator(".causes a.code").first.click()
        expect(page.locator("#code-1011")).to_be_visible()
        page.locator(".reports a.report").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("1011 internal-error by server")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390, 320])
def test_every_page_in_light_and_dark_wide_and_narrow(
    browser: Browser, sidecar: Sidecar, tmp_path: Path, scheme: str, width: int
) -> None:
    """axe-core finds nothing, contrast included; nothing has to be scrolled sideways; the schemes differ."""
    window = {"width": width, "height": 800}
    with opened(browser, f"http://{sidecar.admin}/", color_scheme=scheme, viewport=window) as page:
        is_live(page)
        expect(big(page, "faults")).to_have_text("no faults")
        page.screenshot(path=tmp_path / f"quiet-{scheme}-{width}.png", full_page=True)
        assert violations(page) == []
    sidecar.end("client leaves", times=5)
    sidecar.end("raise", times=3)
    sidecar.end("drop", path="/a/long/path/" + "that-goes-on-without-a-break" * 5)
    sidecar.end("refuse " + "because" * 12)
    newest = sidecar.closes()["closes"][0]["session_id"]
    paths = {
        "page": "/",
        "list": "/closes",
        "none": "/closes?code=1002",
        "report": f"/closes/{newest}",
        "gone": "/closes/0-0",
    }
    for name, path in paths.items():
        with ExitStack() as stack:
            address = f"http://{sidecar.admin}{path}"
            if name == "gone":  # the browser's console tells of a 404 by itself
                context = stack.enter_context(browser.new_context(color_scheme=scheme, viewport=window))
                page = context.new_page()
                page.goto(address)
            else:
                page = stack.enter_context(opened(browser, address, color_scheme=scheme, viewport=window))
            if name == "page":
                is_live(page)
                expect(page.locator("#chart rect[data-tone=fault]")).not_to_have_count(0)
            for details in page.locator("main details").all():
                details.evaluate("details => { details.open = true; }")
            page.screenshot(path=tmp_path / f"{name}-{scheme}-{width}.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            assert violations(page) == []
            back = page.evaluate("getComputedStyle(document.body).backgroundColor")
            light = sum(map(int, re.findall(r"\d+", back)[:3])) > 384
            assert light == (scheme == "light")


def test_the_list_is_filtered_by_its_form(browser: Browser, sidecar: Sidecar) -> None:
    """Choose, filter, see; the way back shows all; a report's page has its frames in a table with a caption."""
    sidecar.end("raise", times=2)
    sidecar.end("drop")
    with opened(browser, f"http://{sidecar.admin}/closes") as page:
        articles = page.locator("article.report")
        expect(articles).to_have_count(3)
        page.get_by_role("combobox", name="Code").select_option("1006")
        page.get_by_role("button", name="Filter").click()
        expect(articles).to_have_count(1)
        expect(articles).to_contain_text("dropped-on-message by server")
        page.get_by_role("link", name="Show all").click()
        expect(articles).to_have_count(3)
        articles.last.get_by_role("link", name="internal-error by server").click()
        table = page.get_by_role("table", name="The last 3 frames, oldest first; headers only")
        expect(table.locator("tbody tr").first).to_contain_text("client → server")
        expect(table.locator("tbody tr").first).to_contain_text("text")
        expect(table.locator("tbody tr").first).to_contain_text("5 bytes")


def test_the_page_says_when_it_is_not_live(browser: Browser, sidecar: Sidecar) -> None:
    """When the sidecar has gone the page keeps its last numbers and says that it is no longer live."""
    sidecar.end("raise")
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://{sidecar.admin}/")
    is_live(page)
    sidecar.process.terminate()
    expect(page.locator("#live")).to_have_text("Not live: trying again.")
    expect(big(page, "faults")).to_have_text("1")
    context.close()


def stuck(sidecar: Sidecar, path: str) -> socket.socket:
    """A connection that has asked for ``path`` and does not read."""
    host, _, port = sidecar.admin.rpartition(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, int(port)))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


def resident(sidecar: Sidecar) -> int:
    """Memory of all processes of a sidecar in KiB."""
    pid = sidecar.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    statuses = [Path(f"/proc/{process}/status").read_text() for process in (pid, *children)]
    return sum(int(size) for status in statuses for size in re.findall(r"VmRSS:\s+(\d+) kB", status))


def kept_once_free(sidecar: Sidecar) -> int:
    """How many closes ``/closes`` keeps, asked until it has a free place.

    It says 503 until the readers that went are seen to be gone; a request of theirs may be read after an answer to us.
    """

    def kept() -> int | None:
        with closing(HTTPConnection(sidecar.admin, timeout=WAIT_LIMIT)) as admin:
            admin.request("GET", "/closes")
            answer = admin.getresponse()
            return int(json.load(answer)["kept"]) if answer.status == 200 else None

    return eventually(kept, "a free place")


def test_readers_that_do_not_read_do_not_slow_the_relay(sidecar: Sidecar) -> None:
    """With the book full and every place taken by clients that do not read, echoes pass and memory stays small."""
    for _ in range(40):
        with connect(f"ws://{sidecar.listen}/chat") as client:
            for number in range(32):  # 64 frames a report, to make the answers large
                client.send(str(number))
                client.recv(WAIT_LIMIT)
            client.send("raise")
            with pytest.raises(ConnectionClosed):
                client.recv(WAIT_LIMIT)
    eventually(lambda: sidecar.counted() == 40, "the large ones are counted")
    while sidecar.closes()["kept"] < 500:  # a bounded number of reports a second are kept
        sidecar.end("raise", times=50)
    before = resident(sidecar)
    with ExitStack() as stack, connect(f"ws://{sidecar.listen}/chat") as client:
        for path in ["/closes", "/closes?format=html&limit=500", "/events", "/"] * 12:
            stack.enter_context(stuck(sidecar, path))
        for number in range(300):
            client.send(f"{number}")
            assert client.recv(WAIT_LIMIT) == f"{number}"
        grown = resident(sidecar) - before
        assert grown < 16 * 1024, f"{grown} KiB for 48 readers"
    assert kept_once_free(sidecar) == 500
