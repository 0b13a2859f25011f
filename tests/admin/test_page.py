"""The landing page: true numbers, and nothing that a peer could put into it."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from exporter.admin.page import HEADERS, State, render

STATE = State("1.2.3", "127.0.0.1:8080", ready=True, draining=False, active=3, uptime=3725.0, endings={})
ENDINGS = {
    ("/a", "1001", "going-away", "client"): 5,
    ("/b", "1001", "going-away", "client"): 2,
    ("/a", "1011", "internal-error", "server"): 9,
    ("/a", "4xxx", "application", "server"): 1,
    ("/a", "1001", "drain", "proxy"): 1,
    ("/a", "invalid", "protocol-error", "client"): 1,
}


class Page(HTMLParser):
    """The page's links, rows and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.rows: list[tuple[str, list[str]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if tag not in ("meta",):
            self.open.append(tag)
        if tag == "a":
            self.links.append(found["href"] or "")
        if tag == "tr":
            self.rows.append((found.get("class") or "", []))
        if tag in ("td", "th"):
            self.rows[-1][1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][1][-1] += data


def test_it_names_version_and_state_and_links_metrics() -> None:
    """Version, the app's address, how it is, for how long, how many connections; a link to /metrics."""
    page = Page(render(STATE))
    assert page.open == [], "every element is closed"
    assert "/metrics" in page.links
    assert all(link.startswith("/") for link in page.links)
    for words in ("1.2.3", "127.0.0.1:8080", "ready", "1 h 2 min", "3 WebSocket connections are open"):
        assert words in page.text
    assert "not ready" not in page.text
    assert "None has ended since the start." in page.text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ready": False}, "not ready"),
        ({"draining": True, "ready": False}, "draining"),
        ({"active": 1}, "1 WebSocket connection is open"),
        ({"active": 0}, "0 WebSocket connections are open"),
        ({"uptime": 61.9}, "1 min 1 s"),
        ({"uptime": 5.5}, "5 s"),
    ],
)
def test_it_says_how_things_are(change: dict[str, object], words: str) -> None:
    """Each state in words."""
    assert words in Page(render(replace(STATE, **change))).text  # type: ignore[arg-type]


def test_endings_are_summed_over_routes_the_most_frequent_first() -> None:
    """One row a code, cause and initiator, with the code's name and meaning where it has one, faults marked."""
    rows = Page(render(replace(STATE, endings=ENDINGS))).rows
    assert [cell[:20] for cell in rows[0][1]] == ["Code", "Cause", "Ended by", "Count", "Meaning"]
    table = {(cells[0], cells[1], cells[2]): (int(cells[3]), kind, cells[4]) for kind, cells in rows[1:]}
    assert [count for count, *_ in table.values()] == [9, 7, 1, 1, 1]
    assert table["1001 Going Away", "going-away", "client"][:2] == (7, "calm")
    assert table["1011 Internal Error", "internal-error", "server"][:2] == (9, "fault")
    assert table["1001 Going Away", "drain", "proxy"][:2] == (1, "calm")
    assert table["4xxx", "application", "server"][2] == ""
    assert "unexpected" in table["1011 Internal Error", "internal-error", "server"][2]
    assert ("invalid", "protocol-error", "client") in table


def test_whatever_is_shown_is_escaped() -> None:
    """No text can become markup, not even the operator's own."""
    evil = "<script>alert(1)</script>&\"'"
    page = render(replace(STATE, version=evil, upstream=evil, endings={("r", evil, evil, evil): 1}))
    assert "<script" not in page
    assert Page(page).text.count(evil) == 5


def test_nothing_may_be_loaded_or_framed() -> None:
    """The page needs nothing from anywhere, and its headers forbid the rest."""
    assert not {"script", "img", "iframe", "link", "form"} & set(Page(render(STATE)).tags)
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in HEADERS["Content-Security-Policy"]
    assert HEADERS["X-Content-Type-Options"] == "nosniff"
