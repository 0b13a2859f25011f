"""The landing page and /events."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from aiohttp import ClientResponse

from exporter.admin import event_stream as live
from exporter.admin.pages.layout import DOCS, HEADERS
from exporter.admin.pages.wording import GLOSSARY, conclusion, duration, evidence, explain, headline, tone
from exporter.admin.state import MAX_GROUPS, State, snapshot
from exporter.protocol.close_codes import REGISTRY
from exporter.protocol.enums import Cause, Peer
from tests.waiting import until

from .harness import FakeSidecar, closed_by_server, make_report, non_reader, served


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second is 20 ms here; what is fixed is their proportion."""
    for name in ("INTERVAL", "FRESH", "HEARTBEAT", "READINESS"):
        monkeypatch.setattr(live, name, getattr(live, name) / 50)


async def event(answer: ClientResponse) -> dict[str, Any]:
    """The next state of a stream of events."""
    while True:
        line = await answer.content.readline()
        assert line, "the stream has ended"
        if line.startswith(b"data: "):
            state: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
            return state


def first(page: str) -> dict[str, Any]:
    """The state that the page's script begins with."""
    found = re.search(r'<script type="application/json" id="first"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert found is not None
    state: dict[str, Any] = json.loads(found[1])
    return state


# The state.


async def test_cards_tell_server_faults_from_going_away() -> None:
    """One card counts closes that are faults of the server, the other those that a rollout or a browser explains; each
    with its causes, and neither counts closes that only share a code."""
    fake = FakeSidecar()
    fake.end("1001", Cause.GOING_AWAY, Peer.CLIENT, times=3)
    fake.end("1001", Cause.DRAIN, Peer.PROXY)
    fake.end("1011", Cause.INTERNAL_ERROR, times=2)
    fake.end("4500", Cause.INTERNAL_ERROR)  # graphql-ws
    fake.end("1006", Cause.DROPPED_ON_MESSAGE, times=4)
    fake.end("1011", Cause.INTERNAL_ERROR, Peer.CLIENT)  # the client's own fault
    fake.end("1011", Cause.PING_TIMEOUT, times=5)
    async with served(fake) as client:
        state = first(await (await client.get("/")).text())
    faults, away = state["faults"], state["away"]
    assert (faults["hour"], faults["ever"], faults["any"]) == ("7", "7", True)
    assert faults["parts"] == [{"key": "dropped-on-message", "hour": "4"}, {"key": "internal-error", "hour": "3"}]
    assert (away["hour"], away["parts"]) == (
        "4", [{"key": "going-away", "hour": "3"}, {"key": "drain", "hour": "1"}],
    )  # fmt: skip
    assert (faults["minutes"][-1], away["minutes"][-1]) == (7, 4)


async def test_card_without_faults_says_so() -> None:
    """At 0 the first card reads "no faults", in the colour of normal closes."""
    fake = FakeSidecar()
    fake.end("1001", Cause.GOING_AWAY, Peer.CLIENT)
    async with served(fake) as client:
        page = await (await client.get("/")).text()
    assert first(page)["faults"] == {"hour": "no faults", "ever": "0", "any": False, "parts": [], "minutes": [0] * 5}
    assert '<b data-text="faults.hour">no faults</b>' in page


@pytest.mark.parametrize(
    ("cause", "initiator", "colour"),
    [
        (Cause.INTERNAL_ERROR, Peer.SERVER, "fault"),
        (Cause.CONNECTION_LOST, Peer.SERVER, "fault"),
        (Cause.CONNECTION_LOST, Peer.CLIENT, "other"),
        (Cause.UNAUTHORIZED, Peer.SERVER, "other"),
        (Cause.APPLICATION, Peer.SERVER, "other"),
        (Cause.GOING_AWAY, Peer.CLIENT, "expected"),
        (Cause.DRAIN, Peer.PROXY, "expected"),
        (Cause.NORMAL, Peer.SERVER, "normal"),
        (Cause.NO_STATUS, Peer.CLIENT, "normal"),
    ],
)
def test_tone_is_red_for_server_faults_alone(cause: Cause, initiator: Peer, colour: str) -> None:
    """No red for an expired token or a lost network of a client, no green for an unknown private code."""
    assert tone(cause, initiator) == colour


@pytest.mark.parametrize(("uptime", "minutes", "period"), [
    (90.0, 5, "last 5 minutes"), (299.0, 5, "last 5 minutes"), (300.0, 15, "last 15 minutes"),
    (900.0, 60, "last hour"), (90_000.0, 60, "last hour"),
])  # fmt: skip
def test_span_of_a_young_process_is_short(uptime: float, minutes: int, period: str) -> None:
    """The time axis fits the process's age."""
    state = State("1", "x", False, 0, uptime, {}, [{}] * 60)
    shown = snapshot(state, [], None)
    assert (len(shown["tones"]["fault"]), shown["span"], shown["period"]) == (minutes, minutes, period)


async def test_causes_are_listed_by_initiator_server_faults_first() -> None:
    """Each with its codes, the last hour and all; a cause that was never seen has no row."""
    fake = FakeSidecar()
    fake.end("1001", Cause.GOING_AWAY, Peer.CLIENT)
    fake.end("1006", Cause.CONNECTION_LOST, Peer.CLIENT)
    fake.end("4500", Cause.INTERNAL_ERROR)
    fake.end("1011", Cause.INTERNAL_ERROR, times=1200)
    async with served(fake) as client:
        rows = first(await (await client.get("/")).text())["causes"]
    assert [row["key"] for row in rows] == ["internal-error-server", "connection-lost-client", "going-away-client"]
    assert [code["key"] for code in rows[0]["codes"]] == ["1011", "4500"]
    assert [code["href"] for code in rows[0]["codes"]] == ["#code-1011", "#code-4xxx"]
    assert (rows[0]["hour"], rows[0]["ever"], rows[0]["by"]) == ("1,201", "1,201", "by server")


async def test_equal_closes_are_one_group() -> None:
    """Closes with the same code, cause, initiator and route are one row, the newest group first."""
    fake = FakeSidecar()
    for number in range(5):
        fake.closes.add(make_report(number, code="1006", close_code=None, cause=Cause.DROPPED_ON_MESSAGE))
    fake.closes.add(make_report(5, code="4xxx", close_code=4409, cause=Cause.APPLICATION, path="/a"))
    fake.closes.add(make_report(6, code="4xxx", close_code=4409, cause=Cause.APPLICATION, path="/b"))
    fake.closes.add(make_report(7, code="4xxx", close_code=4408, cause=Cause.APPLICATION))
    async with served(fake) as client:
        groups = first(await (await client.get("/")).text())["groups"]
        assert (await client.get(groups[0]["link"])).status == 200
        listed = await (await client.get(groups[2]["all"])).json()
    assert [(group["code"][0]["key"], group["times"], group["path"]) for group in groups] == [
        ("4408", "", "/chat"), ("4409", "2 times, last", "2 paths"), ("1006", "5 times, last", "/chat"),
    ]  # fmt: skip
    assert groups[2]["link"] == "/closes/abcd-4"
    assert len(listed["closes"]) == 5


async def test_groups_on_the_page_are_bounded() -> None:
    """The page shows the newest groups; the others are a link away."""
    fake = FakeSidecar()
    for number in range(MAX_GROUPS + 5):
        fake.closes.add(make_report(number, code="4xxx", close_code=4000 + number))
    async with served(fake) as client:
        groups = first(await (await client.get("/")).text())["groups"]
    assert [int(group["code"][0]["key"]) for group in groups] == list(range(4000 + MAX_GROUPS + 4, 4004, -1))


async def test_the_page_stands_without_a_script() -> None:
    """The first state is in the HTML: status, numbers, rows, groups; and a note on what needs a script."""
    fake = FakeSidecar()
    fake.active = 1234
    fake.end("1001", Cause.GOING_AWAY, Peer.CLIENT, times=7)
    fake.end("1006", Cause.CONNECTION_LOST, Peer.SERVER)
    async with served(fake) as client:
        page = await (await client.get("/")).text()
    body = re.sub(r"<template>.*?</template>|<script.*?</script>|<style>.*?</style>", "", page, flags=re.DOTALL)
    assert '<span data-text="status">Ready</span>' in body
    assert '<b data-text="active">1,234</b>' in body
    assert '<b data-text="away.hour">7</b>' in body
    assert '<b data-text="faults.hour">1</b>' in body
    assert '<tr data-key="connection-lost-server" data-tone="fault"' in body
    assert 'href="/closes/abcd-0"' in body
    assert "<noscript>Charts and live updates need JavaScript.</noscript>" in body
    assert '<th scope="row" data-text="key">0</th><td class="number" data-text="fault">1</td>' in body
    assert all(" hidden" in svg for svg in re.findall(r"<svg[^>]*>", body)), "no empty chart without a script"


async def test_status() -> None:
    """Ready, not ready and why, draining."""
    fake = FakeSidecar()
    async with served(fake) as client:

        async def status() -> tuple[str, str]:
            state = first(await (await client.get("/")).text())
            return state["standing"], state["status"]

        assert await status() == ("ready", "Ready")
        fake.reasons = ["the app at <b> does not accept connections"]
        assert await status() == ("unready", "Not ready: the app at <b> does not accept connections")
        fake.draining = True
        assert await status() == ("draining", "Draining: sessions are being closed, new clients are refused")


async def test_nothing_comes_from_outside() -> None:
    """One style, one script, both in the page and named by the policy; no address but our own paths."""
    async with served(FakeSidecar()) as client:
        page = await (await client.get("/")).text()
    assert not re.search(r"""(?:src)=["']?(?:https?:)?//|@import|url\(|<link|<img|<iframe""", page)
    assert all(link.startswith(DOCS) for link in re.findall(r"""href=["']?((?:https?:)?//[^"']*)""", page))
    assert 'style="' not in page
    assert not re.search(r"\son[a-z]+=", page.partition("<body>")[2].partition("<script")[0])
    assert set(re.findall(r'href="([^"]*)"', page.partition("<main")[0])) == {"#main"}
    for path in re.findall(r'href="(/[^"]*)"', page):
        assert path == "" or path.split("/")[1] in ("closes", "metrics", "livez", "readyz", "drain")


def test_every_close_code_has_a_meaning() -> None:
    """No registered code is without a sentence; private ones say what they are."""
    explained = {meaning.code for meaning in GLOSSARY}
    assert explained == {*map(str, REGISTRY), "invalid", "unknown", "3xxx", "4xxx"}
    for meaning in (*GLOSSARY, explain("4401"), explain("3999")):
        assert meaning.rows
        assert all(sentence.endswith(".") for _, sentence in meaning.rows)


# The sentences.


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({}, "The server sent Close 1011 Internal Error after 12.3 s"),
        (
            {"code": "4401", "close_code": 4401, "cause": "unauthorized"},
            "The server sent Close 4401 Private use after 12.3 s",
        ),
        (
            {"code": "4xxx", "close_code": 4409, "cause": "application", "initiator": "client"},
            "The client sent Close 4409 Private use after 12.3 s",
        ),
        (
            {"code": "invalid", "close_code": 999, "cause": "protocol-error"},
            "The server sent Close 999, which must not be sent, after 12.3 s",
        ),
        (
            {"code": "1005", "close_code": None, "cause": "no-status"},
            "The server sent an empty Close frame after 12.3 s",
        ),
        (
            {"code": "1006", "close_code": None, "cause": "app-down"},
            "The server's TCP connection ended without a Close frame after 12.3 s",
        ),
        (
            {"code": "1006", "close_code": None, "cause": "connection-reset", "initiator": "client",
             "tcp_ended_how": "reset"},
            "The client's TCP connection was reset without a Close frame after 12.3 s",
        ),
        (
            {"code": "unknown", "close_code": None, "cause": "unobserved"},
            "The server's TCP connection ended, no longer parsed, after 12.3 s",
        ),
        (
            {"code": "1001", "close_code": 1001, "cause": "drain", "initiator": "proxy"},
            "The sidecar closed the session in a drain, with Close 1001, after 12.3 s",
        ),
        (
            {"code": "1006", "close_code": None, "cause": "limit", "initiator": "proxy"},
            "The sidecar closed the session at its maximum age, without a Close frame, after 12.3 s",
        ),
        (
            {"code": "1006", "close_code": None, "cause": "relay-lost", "initiator": "proxy"},
            "A relay process of the sidecar died after 12.3 s",
        ),
    ],
)  # fmt: skip
def test_headline_of_each_end(changed: dict[str, Any], sentence: str) -> None:
    """Who closed the session, how, after how long."""
    assert headline(make_report(0, **changed).as_dict()) == sentence


@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("initiator", Peer)
def test_conclusion_of_every_cause_is_whole_sentences(cause: Cause, initiator: Peer) -> None:
    """Every cause has a reason and a next step, for its initiator alone."""
    text = conclusion(make_report(0, cause=cause, initiator=initiator, confidence="likely").as_dict())
    assert text.startswith("Most likely: ")
    assert text.endswith(".")
    if initiator is not Peer.PROXY:
        assert f"By the {initiator.other}: " not in text


def test_conclusion_begins_with_the_confidence() -> None:
    """What was measured is stated, a likely cause begins with "Most likely", a suspect close says so."""
    dropped = {"code": "1006", "close_code": None, "cause": Cause.DROPPED_ON_MESSAGE}
    assert conclusion(make_report(0, **dropped, confidence="likely").fields).startswith(
        "Most likely: the server dropped"
    )
    assert conclusion(make_report(0, **dropped, confidence="shown").fields).startswith("The server dropped")
    assert conclusion(make_report(0, cause=Cause.NORMAL, suspect=True).fields).startswith("Suspect: ")


def test_conclusion_of_a_lost_connection_is_for_its_initiator() -> None:
    """The next step of a close by the client is not that of one by the server."""
    lost = {"code": "1006", "close_code": None, "cause": Cause.CONNECTION_LOST}
    by_client = conclusion(make_report(0, **lost, initiator=Peer.CLIENT).fields)
    by_server = conclusion(make_report(0, **lost, initiator=Peer.SERVER).fields)
    assert "exception" in by_server
    assert "exception" not in by_client


def test_evidence_joins_what_was_seen() -> None:
    """The reason text, the classifier's evidence, and incomplete frames or messages."""
    seen = make_report(0, reason="boom", evidence=["a"], cut_in_frame=["client"], cut_in_message=["client", "server"])
    assert evidence(seen.fields) == [
        "the reason text was “boom”", "a", "the last frame of the client was incomplete",
        "the last message of the server was incomplete",
    ]  # fmt: skip
    assert evidence(make_report(0).fields) == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "less than 1 ms"),
        (0.0004, "less than 1 ms"),
        (0.0123, "0.0123 s"),
        (9.999, "10 s"),
        (12.34, "12.3 s"),
        (59.96, "1 min"),
        (182, "3 min 2 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (273600, "3 d 4 h"),
        (259201, "3 d"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    """Two units at most, the larger first."""
    assert duration(seconds) == said


# Events.


async def test_events_begin_with_the_state_and_follow_it() -> None:
    """The first event comes at once, another whenever something has changed."""
    fake = FakeSidecar()
    async with served(fake) as client, client.get("/events") as answer:
        assert answer.content_type == "text/event-stream"
        assert answer.headers["Cache-Control"] == HEADERS["Cache-Control"] == "no-store"
        assert (await event(answer))["active"] == "0"
        fake.active = 5
        assert (await event(answer))["active"] == "5"
        fake.end("1011", Cause.INTERNAL_ERROR)
        state = await event(answer)
        assert (state["faults"]["hour"], state["abnormal"]) == ("1", 1)
        assert state["groups"][0]["link"] == "/closes/abcd-0"
        fake.reasons = ["the app is away"]
        assert (await event(answer))["standing"] == "unready"


async def test_the_page_and_the_events_say_the_same() -> None:
    """The state in the page is what the next event says, but for the moment."""
    fake = FakeSidecar()
    fake.end("1006", Cause.CONNECTION_LOST)
    async with served(fake) as client:
        shown = first(await (await client.get("/")).text())
        async with client.get("/events") as answer:
            told = await event(answer)
    assert {**shown, "now": 0} == {**told, "now": 0}


async def test_no_event_without_a_change() -> None:
    """While nothing changes only a comment is sent now and then, and no state is made."""
    fake = FakeSidecar()
    async with served(fake) as client, client.get("/events") as answer:
        await event(answer)
        made = fake.states_made
        assert (await answer.content.readline()) == b"\n"
        for _ in range(2):
            assert (await answer.content.readline()) == b": no change\n"
            assert (await answer.content.readline()) == b"\n"
        assert fake.states_made == made


async def test_at_most_one_event_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the state changes, it is made and sent once an interval, for all listeners together."""
    ticks = 0
    waited = asyncio.wait_for

    async def counted(awaitable: Any, timeout: float) -> Any:
        nonlocal ticks
        if timeout == live.INTERVAL:
            ticks += 1
        return await waited(awaitable, timeout)

    monkeypatch.setattr(live.asyncio, "wait_for", counted)
    fake = FakeSidecar()
    async with served(fake) as client, client.get("/events") as one, client.get("/events") as other:
        told = 0
        while told < 10:
            for answer in (one, other):
                fake.active += 1
                await event(answer)
                told += 1
        assert told <= ticks + 2  # an event each before the first wait
        assert fake.states_made <= told


async def test_listeners_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than there are places is told so with 503 and when to come back; a place that is left is free."""
    monkeypatch.setattr(live, "MAX_LISTENERS", 2)
    async with served(FakeSidecar()) as client, client.get("/events") as one:
        await event(one)
        async with client.get("/events") as two:
            await event(two)
            refused = await client.get("/events")
            assert (refused.status, await refused.text()) == (503, "2 listeners are connected already\n")
            assert refused.headers["Retry-After"] == "15"
        while (again := await client.get("/events")).status == 503:
            again.close()
        assert (await event(again))["active"] == "0"
        again.close()


async def test_a_listener_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection ends and its place is free; the listener beside it gets every state meanwhile."""
    monkeypatch.setattr(live, "WRITE_TIME", 0.2)
    fake = FakeSidecar()
    for number in range(MAX_GROUPS):
        fake.closes.add(
            make_report(number, path="/" + "x" * 4000, close_code=4000 + number)
        )  # large states, to fill the buffers soon
    hub = fake.admin._events
    async with served(fake) as client, non_reader(client, "/events") as connection, client.get("/events") as reader:
        await until(lambda: hub.listeners == 2)
        events = 0
        while hub.listeners == 2:
            fake.active += 1
            await event(reader)
            events += 1
        assert events > 2
        fake.active += 1
        assert (await event(reader))["active"] == f"{fake.active:,}"
        assert await closed_by_server(connection)


async def test_listeners_do_not_hold_up_the_end() -> None:
    """When the server closes, streams end by themselves at once."""
    fake = FakeSidecar()
    async with served(fake) as client:
        answer = await client.get("/events")
        await event(answer)
        fake.admin._events.close()
        while await answer.content.readline():
            pass
        await until(lambda: fake.admin._events.listeners == 0)
