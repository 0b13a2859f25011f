"""/closes and its permalinks."""

from __future__ import annotations

import asyncio
import json
import re
from html.parser import HTMLParser

import pytest

from exporter.admin import closes_api as closes
from exporter.admin import responses as answers
from exporter.admin.closes_api import PAGE
from exporter.admin.pages.layout import HEADERS
from exporter.observe.recent_closes import MAX_REPORTS, CloseReport
from exporter.protocol.enums import Cause, Peer
from tests.waiting import until

from .harness import FakeSidecar, closed_by_server, make_report, non_reader, served

HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}  # a browser's


def a_mixed_world() -> FakeSidecar:
    """Three endings of different codes, causes and routes; the last is the newest."""
    fake = FakeSidecar()
    fake.closes.add(make_report(0, route="chat"))
    fake.closes.add(make_report(1, route="chat", code="1006", cause=Cause.CONNECTION_LOST, initiator=Peer.CLIENT))
    fake.closes.add(make_report(2, route="feed"))
    return fake


def ids(body: dict[str, list[dict[str, str]]]) -> list[str]:
    return [told["session_id"] for told in body["closes"]]


async def test_a_program_gets_json_newest_first() -> None:
    """Without a word about HTML the answer is JSON: every report, newest first, with its last frames."""
    fake = a_mixed_world()
    async with served(fake) as client:
        answer = await client.get("/closes")
        assert answer.content_type == "application/json"
        body = await answer.json()
    assert ids(body) == ["abcd-2", "abcd-1", "abcd-0"]
    assert (body["total"], body["kept"], body["next"]) == (3, 3, None)
    assert body["closes"][0]["last_frames"][0] == {
        "sender": "server",
        "opcode": "text",
        "fin": False,
        "length": 10,
        "age_s": 3.0,
    }


async def test_nothing_yet() -> None:
    """An empty book is an empty list, and a page that says so."""
    async with served(FakeSidecar()) as client:
        body = await (await client.get("/closes")).json()
        page = await (await client.get("/closes", headers=HTML)).text()
    assert body == {"total": 0, "kept": 0, "closes": [], "next": None}
    assert "None so far." in page


async def test_the_last_500_are_kept() -> None:
    """The 501st ending drops the first; a program gets all that are kept in one document."""
    fake = FakeSidecar()
    for number in range(MAX_REPORTS + 1):
        fake.closes.add(make_report(number))
    async with served(fake) as client:
        body = await (await client.get("/closes")).json()
        gone = await client.get("/closes/abcd-0")
    assert len(body["closes"]) == MAX_REPORTS == 500
    assert (body["total"], body["closes"][-1]["session_id"]) == (501, "abcd-1")
    assert gone.status == 404


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("code=1006", ["abcd-1"]),
        ("cause=internal-error", ["abcd-2", "abcd-0"]),
        ("route=chat", ["abcd-1", "abcd-0"]),
        ("code=1011&cause=internal-error&route=feed", ["abcd-2"]),
        ("code=1006&route=feed", []),
        ("code=&cause=&route=", ["abcd-2", "abcd-1", "abcd-0"]),  # what the form sends when nothing is chosen
    ],
)
def test_filters(asked: str, found: list[str]) -> None:
    """By code, cause and route, all that are given; in JSON and in HTML alike."""

    async def check() -> None:
        async with served(a_mixed_world()) as client:
            assert ids(await (await client.get(f"/closes?{asked}")).json()) == found
            page = await (await client.get(f"/closes?{asked}&format=html")).text()
        assert re.findall(r'<article.*?aria-labelledby="s-([^"]*)"', page) == found

    asyncio.run(check())


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("colour=red", "'colour' is no parameter here; known are code, cause, route, format, limit, before"),
        ("code=ten", "code: 'ten' is no code label such as 1011, 4xxx, invalid or unknown"),
        ("cause=bug", "cause: 'bug' is none of normal, going-away,"),
        ("format=xml", "format: 'xml' is neither json nor html"),
        ("limit=0", "limit: '0' is no whole number from 1 to 9999"),
        ("limit=-1", "limit: '-1' is no whole number"),
        ("before=%3Cscript%3E", "before: '<script>' is no session id"),
        ("code=1011&code=1006", "code: given 2 times, once is enough"),
        ("cause=%0d%0aSet-Cookie:x", "cause: '\\r\\nSet-Cookie:x' is none of"),
        ("x" * 500 + "=1", "'" + "x" * 60 + "…' is no parameter here"),
    ],
)
def test_what_is_not_understood_is_refused(asked: str, said: str) -> None:
    """400 and one plain line that names the parameter, the value and what is accepted."""

    async def check() -> None:
        async with served(a_mixed_world()) as client:
            answer = await client.get(f"/closes?{asked}", headers=HTML)
            text = await answer.text()
        assert answer.status == 400
        assert answer.content_type == "text/plain"
        assert text.startswith(said)
        assert text.count("\n") == 1

    asyncio.run(check())


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (HTML["Accept"], "text/html"),
        ("text/html", "text/html"),
        ("*/*", "application/json"),  # curl
        ("application/json", "application/json"),
        ("text/html;q=0.5, application/json", "application/json"),
        ("text/*;q=0.9, application/json;q=0.8", "text/html"),
        ("text/html;q=0, */*", "application/json"),
        ("nonsense;;;q=,", "application/json"),
        ("", "application/json"),
    ],
)
def test_accept_chooses_and_format_overrules(accept: str, kind: str) -> None:
    """A browser gets a page and a program JSON, on the list and on a permalink, unless ``format`` says otherwise."""

    async def check() -> None:
        async with served(a_mixed_world()) as client:
            for path in ("/closes", "/closes/abcd-1"):
                answer = await client.get(path, headers={"Accept": accept})
                assert (answer.content_type, answer.headers["Vary"]) == (kind, "Accept")
                html = await client.get(f"{path}?format=html", headers={"Accept": accept})
                assert html.content_type == "text/html"
                as_json = await client.get(f"{path}?format=json", headers={"Accept": accept})
                assert as_json.content_type == "application/json"

    asyncio.run(check())


async def test_a_permalink_is_one_report() -> None:
    """By session id, as JSON the very object of the list."""
    async with served(a_mixed_world()) as client:
        listed = await (await client.get("/closes")).json()
        alone = await (await client.get("/closes/abcd-1")).json()
    assert alone == listed["closes"][1]


@pytest.mark.parametrize("headers", [HTML, {}])
@pytest.mark.parametrize("name", ["abcd-99", "nonsense", "%3Cb%3E"])
def test_a_report_that_is_not_kept(headers: dict[str, str], name: str) -> None:
    """404 that says what that may mean: a line, or a page with a way back."""

    async def check() -> None:
        async with served(a_mixed_world()) as client:
            answer = await client.get(f"/closes/{name}", headers=headers)
            text = await answer.text()
        assert answer.status == 404
        assert "is kept: it closed normally, is open or is too old" in text
        if headers:
            assert 'href="/closes"' in text
            assert "<b>" not in text
        else:
            assert text.count("\n") == 1

    asyncio.run(check())


async def test_a_permalink_takes_no_filter() -> None:
    """Parameters of the list mean nothing there and are refused."""
    async with served(a_mixed_world()) as client:
        answer = await client.get("/closes/abcd-1?code=1006")
        assert (answer.status, await answer.text()) == (400, "'code' is no parameter here; known are format\n")


class Shown(HTMLParser):
    """The text that a person sees, and the tags that make it up."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self._words: list[str] = []
        self._hidden = 0
        self.feed(page)
        self.text = " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._hidden += tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "script")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._words.append(data)


async def test_the_page_of_a_report_tells_all_of_it() -> None:
    """Who, why, how long, idle, what was under way, the frames, reason text, path, trace id, and what to do."""
    fake = FakeSidecar()
    fake.closes.add(
        make_report(
            7,
            code="1006",
            close_code=None,
            cause=Cause.CONNECTION_RESET,
            evidence=["nothing had passed either way for 2.500 s"],
            tcp_ended_how="reset",
            duration_s=185.0,
            idle_s=2.5,
            cut_in_frame=["client"],
            cut_in_message=["client", "server"],
            ping_unanswered_s=0.25,
            trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
            forwarded_for="203.0.113.9",
            subprotocol="chat.v2",
        )
    )
    async with served(fake) as client:
        shown = Shown(await (await client.get("/closes/abcd-7", headers=HTML)).text()).text
    for words in (
        "1006 connection-reset by server",
        "TCP was reset without a Close frame: a crash, a kill, or a device on the way. Look for a crash or a kill",
        "The server's TCP connection was reset without a Close frame after 3 min 5 s.",
        "Nothing had passed either way for 2.500 s.",
        "The last frame of the client was incomplete.",
        "The last message of the server was incomplete.",
        "Ping without a pong 0.25 s",
        "What to do If the server dropped it, look in its log",
        "Duration 3 min 5 s",
        "Idle before the end 2.5 s",
        "TCP ended by server (reset)",
        "From the client 1 frame, 100 bytes, the last 1.5 s before the end",
        "From the server 2 frames, 2,000 bytes",
        "Path /chat",
        "Trace 4bf92f3577b34da6a3ce929d0e0e4736",
        "Client 192.0.2.1:4444",
        "X-Forwarded-For 203.0.113.9",
        "Subprotocol chat.v2",
        "3.0000 s server → client text more follows 10 bytes",
        "0.0000 s client → server close 13 bytes",
        "2023-11-14 22:13:27.000 UTC",
    ):
        assert words in shown
    assert "The last message of the client was incomplete" not in shown  # its frame was


async def test_what_peers_chose_is_escaped() -> None:
    """Reason text, path, address, subprotocol and samples are shown as text on every page, never as markup."""
    fake = FakeSidecar()
    evil = "<img src=x onerror=alert(1)>\"'&"
    names = ("reason", "path", "client", "forwarded_for", "subprotocol", "trace_id", "route")
    fake.end("1011", Cause.INTERNAL_ERROR)
    fake.closes.add(
        make_report(1, **dict.fromkeys(names, evil), last_message={"client": evil, "server": "</script><script>"})
    )
    async with served(fake) as client:
        pages = [await (await client.get(path, headers=HTML)).text() for path in ("/", "/closes", "/closes/abcd-1")]
        filtered = await client.get("/closes", params={"route": '"><script>'}, headers=HTML)
        pages.append(await filtered.text())
    for page in pages:
        tags = Shown(page).tags
        assert "img" not in tags
        assert tags.count("script") - ('id="first"' in page) == 1
    assert evil in Shown(pages[2]).text


async def test_payload_shows_only_where_it_was_recorded() -> None:
    """A report without samples has no place for them; one with samples shows them."""
    fake = FakeSidecar()
    fake.closes.add(make_report(0))
    fake.closes.add(make_report(1, last_message={"client": '{"op":"say"}', "server": ""}))
    async with served(fake) as client:
        without = Shown(await (await client.get("/closes/abcd-0", headers=HTML)).text()).text
        sampled = Shown(await (await client.get("/closes/abcd-1", headers=HTML)).text()).text
    assert "Last message" not in without
    assert 'Last message of the client, first bytes {"op":"say"}' in sampled
    assert "Last message of the server" not in sampled


async def test_a_person_pages_through() -> None:
    """A page at a time; filters go with the link; every report comes once, even if new ones come meanwhile."""
    fake = FakeSidecar()
    for number in range(60):
        fake.closes.add(make_report(number, route="chat" if number % 2 else "feed"))
    seen: list[str] = []
    at: str | None = "/closes?route=chat"
    sizes = []
    async with served(fake) as client:
        while at is not None:
            page = await (await client.get(at, headers=HTML)).text()
            found = re.findall(r'aria-labelledby="s-([^"]*)"', page)
            sizes.append(len(found))
            seen += found
            fake.closes.add(make_report(100 + len(sizes), route="chat"))
            link = re.search(r'rel="next" href="([^"]*)"', page)
            at = link[1].replace("&amp;", "&") if link else None
    assert sizes == [PAGE, 5]
    assert seen == [f"abcd-{number:x}" for number in range(59, 0, -2)]


async def test_a_program_pages_through_if_it_wants() -> None:
    """``limit`` and ``next``, until there is no next."""
    async with served(a_mixed_world()) as client:
        first = await (await client.get("/closes?limit=2")).json()
        last = await (await client.get(first["next"])).json()
    assert (ids(first), ids(last), last["next"]) == (["abcd-2", "abcd-1"], ["abcd-0"], None)


async def test_going_on_from_a_report_that_is_gone() -> None:
    """Then nothing older is kept either: an empty list that says so, no error."""
    async with served(a_mixed_world()) as client:
        body = await (await client.get("/closes?before=abcd-99")).json()
        page = await (await client.get("/closes?before=abcd-99", headers=HTML)).text()
    assert body["closes"] == []
    assert "Nothing older than session abcd-99 is kept." in page


async def test_security_headers_on_every_kind_of_answer() -> None:
    """Nothing may be loaded, framed, sniffed or kept; no script but our own, no 'unsafe-inline' at all."""
    async with served(a_mixed_world()) as client:
        for path in ("/", "/closes", "/closes?format=html", "/closes/abcd-1", "/closes/none", "/closes?x=1"):
            answer = await client.get(path)
            for name, value in HEADERS.items():
                assert answer.headers[name] == value, (path, name)
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


async def test_head_has_no_body() -> None:
    """HEAD answers as GET would, without the reports; the connection goes on."""
    fake = a_mixed_world()
    async with served(fake) as client:
        for path in ("/", "/closes", "/closes?format=html", "/closes/abcd-1", "/events"):
            answer = await client.head(path)
            assert (answer.status, await answer.read()) == (200, b"")
        assert (await client.get("/livez")).status == 200


class CountingBook:
    """The book, with a count of the reports that were made ready for a reader."""

    def __init__(self, fake: FakeSidecar) -> None:
        self.made = 0
        for number in range(MAX_REPORTS):
            fake.closes.add(_Counted(self, make_report(number, frames=64)))  # type: ignore[arg-type]


class _Counted:
    def __init__(self, book: CountingBook, kept: CloseReport) -> None:
        self.fields = kept.fields
        self._book = book
        self._kept = kept

    def as_dict(self) -> dict[str, object]:
        self._book.made += 1
        return self._kept.as_dict()


@pytest.mark.parametrize("path", ["/closes", "/closes?format=html&limit=500"])
def test_reports_are_made_no_faster_than_they_are_read(path: str) -> None:
    """For a client that does not read, making stops where the kernel's buffer is full; others are served meanwhile."""

    async def check() -> None:
        fake = FakeSidecar()
        book = CountingBook(fake)
        async with served(fake) as client, non_reader(client, path):
            await until(lambda: book.made)
            made = -1
            while made != book.made:  # until it has stopped
                made = book.made
                for _ in range(20):
                    assert (await client.get("/livez")).status == 200
            assert 0 < made < MAX_REPORTS / 4

    asyncio.run(check())


async def test_a_client_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time is over its connection ends, and its place is free again."""
    monkeypatch.setattr(answers, "ANSWER_TIME", 0.2)
    monkeypatch.setattr(closes, "MAX_READERS", 1)
    fake = FakeSidecar()
    book = CountingBook(fake)
    async with served(fake) as client, non_reader(client, "/closes") as connection:
        await until(lambda: book.made)
        busy = await client.get("/closes")
        assert (busy.status, await busy.text()) == (503, "1 readers are being answered already\n")
        while (await client.get("/closes/abcd-1")).status == 503:
            pass
        made = book.made
        assert await closed_by_server(connection)
        assert book.made == made < MAX_REPORTS


@pytest.mark.slow
async def test_a_client_that_leaves_in_the_middle(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making stops, the place is free, nothing is logged as an error."""
    monkeypatch.setattr("exporter.admin.responses.SHARE", 1.0)
    fake = FakeSidecar()
    book = CountingBook(fake)
    async with served(fake) as client:
        async with non_reader(client, "/closes"):
            await until(lambda: book.made)
        for _ in range(closes.MAX_READERS + 1):
            answer = await client.get("/closes")
            assert len((await answer.json())["closes"]) == MAX_REPORTS
    assert not caplog.records


async def test_the_list_is_one_json_document_whatever_is_in_it() -> None:
    """Lone surrogates, quotes and line ends in texts do not break it."""
    fake = FakeSidecar()
    fake.closes.add(make_report(0, reason='\\udc80 " \n \u2028 ünïcödé'))
    async with served(fake) as client:
        raw = await (await client.get("/closes")).read()
    assert json.loads(raw)["closes"][0]["reason"] == '\\udc80 " \n \u2028 ünïcödé'
