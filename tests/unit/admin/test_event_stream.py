"""The landing page and /events."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from aiohttp import ClientResponse

from exporter.admin import event_stream as live
from exporter.admin.pages.layout import HEADERS
from exporter.admin.pages.meanings import CAUSES, GLOSSARY, explain, meaning_of
from exporter.admin.pages.wording import circumstances, duration, headline
from exporter.admin.state import LATEST
from exporter.protocol.close_codes import REGISTRY
from exporter.protocol.enums import Cause, Peer
from tests.waiting import until

from .harness import World, deaf, hung_up_on, in_loop, served, story


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
    found = re.search(r'<script type="application/json" id="first">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    state: dict[str, Any] = json.loads(found[1])
    return state


# The state.


@in_loop
async def test_the_two_big_numbers_tell_weather_from_a_fault() -> None:
    """1001 going-away on one side, internal errors on the other; neither counts what merely shares its code."""
    world = World()
    world.end("1001", Cause.GOING_AWAY, Peer.CLIENT, times=3)
    world.end("1001", Cause.GOING_AWAY, Peer.SERVER)
    world.end("1001", Cause.DRAIN, Peer.PROXY)
    world.end("1011", Cause.INTERNAL_ERROR, times=2)
    world.end("4500", Cause.INTERNAL_ERROR)  # graphql-ws
    world.end("1011", Cause.PING_TIMEOUT, times=5)
    async with served(world) as client:
        leaving, failing = first(await (await client.get("/")).text())["versus"]
    assert (leaving["hour"], leaving["ever"], leaving["by"]) == ("4", "4", "3 by the client, 1 by the server")
    assert leaving["more"] == "Not among these, with the same code: 1 drain."
    assert (failing["hour"], failing["ever"], failing["by"]) == ("3", "3", "0 by the client, 3 by the server")
    assert failing["more"] == "Not among these, with the same code: 5 ping-timeout."
    assert (leaving["minutes"][-1], failing["minutes"][-1]) == (4, 3)


@in_loop
async def test_causes_are_listed_once_seen_faults_first() -> None:
    """Each with its codes, who began, the last hour and all; a cause that was never seen has no row."""
    world = World()
    world.end("1001", Cause.GOING_AWAY, Peer.CLIENT)
    world.end("1006", Cause.CONNECTION_LOST, Peer.CLIENT)
    world.end("4500", Cause.INTERNAL_ERROR)
    world.end("1011", Cause.INTERNAL_ERROR, times=1200)
    async with served(world) as client:
        rows = first(await (await client.get("/")).text())["causes"]
    assert [row["key"] for row in rows] == ["internal-error", "connection-lost", "going-away"]
    assert [code["key"] for code in rows[0]["codes"]] == ["1011", "4500"]
    assert [code["href"] for code in rows[0]["codes"]] == ["#code-1011", "#code-4xxx"]
    assert (rows[0]["hour"], rows[0]["ever"], rows[0]["by"]) == ("1,201", "1,201", "server 1,201")


@in_loop
async def test_the_latest_stories() -> None:
    """Newest first, so many as the page holds, each with its link."""
    world = World()
    world.end("1011", Cause.INTERNAL_ERROR, times=LATEST + 5)
    async with served(world) as client:
        stories = first(await (await client.get("/")).text())["stories"]
        assert [told["key"] for told in stories] == [f"abcd-{n:x}" for n in range(LATEST + 4, 4, -1)]
        assert (await client.get(stories[0]["link"])).status == 200


@in_loop
async def test_the_page_stands_without_a_script() -> None:
    """What the first state says is in the HTML: status, numbers, rows, stories; and a note on what is missing."""
    world = World()
    world.active = 1234
    world.end("1001", Cause.GOING_AWAY, Peer.CLIENT, times=7)
    world.end("1006", Cause.CONNECTION_LOST, Peer.SERVER)
    async with served(world) as client:
        page = await (await client.get("/")).text()
    body = re.sub(r"<template>.*?</template>|<script.*?</script>|<style>.*?</style>", "", page, flags=re.DOTALL)
    assert '<span data-text="status">Ready</span>' in body
    assert '<b data-text="active">1,234</b>' in body
    assert '<b data-text="versus.0.hour">7</b>' in body
    assert '<b data-text="versus.1.hour">0</b>' in body
    assert '<b data-text="dropped.server.hour">1</b>' in body
    assert '<tr data-key="connection-lost">' in body
    assert 'href="/closes/abcd-0"' in body
    assert "<noscript>Without JavaScript this page stands still" in body
    assert '<th scope="row" data-text="key">0</th><td class="number" data-text="fault">1</td>' in body


@in_loop
async def test_status() -> None:
    """Ready, not ready and why, draining."""
    world = World()
    async with served(world) as client:

        async def status() -> tuple[str, str]:
            state = first(await (await client.get("/")).text())
            return state["standing"], state["status"]

        assert await status() == ("ready", "Ready")
        world.reasons = ["the app at <b> does not accept connections"]
        assert await status() == ("unready", "Not ready: the app at <b> does not accept connections")
        world.draining = True
        assert await status() == ("draining", "Draining: no new clients, sessions are being ended")


@in_loop
async def test_nothing_comes_from_outside() -> None:
    """One style, one script, both in the page and named by the policy; no address but our own paths."""
    async with served(World()) as client:
        page = await (await client.get("/")).text()
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//|@import|url\(|<link|<img|<iframe""", page)
    assert 'style="' not in page
    assert not re.search(r"\son[a-z]+=", page.partition("<body>")[2].partition("<script")[0])
    assert set(re.findall(r'href="([^"]*)"', page.partition("<main")[0])) == {"#main"}
    for path in re.findall(r'href="(/[^"]*)"', page):
        assert path == "" or path.split("/")[1] in ("closes", "metrics", "livez", "readyz", "drain")


def test_every_cause_and_code_has_a_meaning() -> None:
    """No cause and no registered code is without a sentence; private ones say what they are."""
    assert set(CAUSES) == set(Cause)
    for cause in Cause:
        assert meaning_of(cause).text.endswith(".")
    explained = {meaning.code for meaning in GLOSSARY}
    assert explained == {*map(str, REGISTRY), "invalid", "unknown", "3xxx", "4xxx"}
    for meaning in (*GLOSSARY, explain("4401"), explain("3999")):
        assert meaning.rows
        assert all(sentence.endswith(".") for _, sentence in meaning.rows)


# The sentences.


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "The server sent Close 1011 Internal Error after 12.3 s"),
        ({"code": "4401", "cause": "unauthorized"}, "The server sent Close 4401 Private use after 12.3 s"),
        (
            {"code": "4xxx", "cause": "application", "initiator": "client"},
            "The client sent a Close with a code of its own (4xxx) after 12.3 s",
        ),
        ({"code": "invalid", "cause": "protocol-error"}, "The server sent a Close that no peer may send after 12.3 s"),
        (
            {"code": "1006", "cause": "app-down"},
            "The server's TCP connection ended without a Close frame, and the app took no connections, after 12.3 s",
        ),
        (
            {"code": "1006", "cause": "connection-reset", "initiator": "client", "tcp_ended_how": "reset"},
            "The client's TCP connection was reset without a Close frame after 12.3 s",
        ),
        (
            {"code": "unknown", "cause": "unobserved"},
            "The server's TCP connection ended, no longer understood, after 12.3 s",
        ),
        (
            {"code": "1001", "cause": "drain", "initiator": "proxy"},
            "The sidecar ended it in a drain, with Close 1001 after 12.3 s",
        ),
        (
            {"code": "1006", "cause": "limit", "initiator": "proxy"},
            "The sidecar ended it at the greatest age that is allowed, without a Close frame after 12.3 s",
        ),
        ({"code": "1011", "cause": "ping-timeout"}, "The server sent Close 1011 Internal Error after 12.3 s"),
    ],
)
def test_headlines(changed: dict[str, Any], said: str) -> None:
    """Who ended it, how, after how long."""
    assert headline(story(0, **changed).as_dict()) == said


def test_an_idle_drop_names_who_is_known_to_cut_there() -> None:
    """At 60 s it is likely nginx or an ALB; at no known time nobody is named."""
    cut = {"code": "1006", "cause": "idle-timeout", "idle_s": 60.4}
    assert "Nothing had passed either way for 1 min, a limit known from nginx, AWS ALB." in circumstances(
        story(0, **cut).as_dict()
    )
    lost = cut | {"cause": "connection-lost", "idle_s": 47.0}
    assert "Nothing had passed either way for 47.0 s." in circumstances(story(0, **lost).as_dict())


def test_what_passed_just_before() -> None:
    """The last frame that is no Close; a session without frames has none."""
    assert circumstances(story(0, reason="boom").as_dict()) == [
        "It said “boom”.",
        "The last frame before was text from the server, 12 bytes, 1 s earlier.",
    ]
    assert circumstances(story(0, frames=0).as_dict()) == []


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


@in_loop
async def test_events_begin_with_the_state_and_follow_it() -> None:
    """The first event comes at once, another whenever something has changed."""
    world = World()
    async with served(world) as client, client.get("/events") as answer:
        assert answer.content_type == "text/event-stream"
        assert answer.headers["Cache-Control"] == HEADERS["Cache-Control"] == "no-store"
        assert (await event(answer))["active"] == "0"
        world.active = 5
        assert (await event(answer))["active"] == "5"
        world.end("1011", Cause.INTERNAL_ERROR)
        state = await event(answer)
        assert (state["versus"][1]["hour"], state["abnormal"]) == ("1", 1)
        assert state["stories"][0]["link"] == "/closes/abcd-0"
        world.reasons = ["the app is away"]
        assert (await event(answer))["standing"] == "unready"


@in_loop
async def test_the_page_and_the_events_say_the_same() -> None:
    """The state in the page is what the next event says, but for the moment."""
    world = World()
    world.end("1006", Cause.CONNECTION_LOST)
    async with served(world) as client:
        shown = first(await (await client.get("/")).text())
        async with client.get("/events") as answer:
            told = await event(answer)
    assert {**shown, "now": 0} == {**told, "now": 0}


@in_loop
async def test_no_event_without_a_change() -> None:
    """While nothing changes only a comment is sent now and then, and no state is made."""
    world = World()
    async with served(world) as client, client.get("/events") as answer:
        await event(answer)
        made = world.states_made
        assert (await answer.content.readline()) == b"\n"
        for _ in range(2):
            assert (await answer.content.readline()) == b": no change\n"
            assert (await answer.content.readline()) == b"\n"
        assert world.states_made == made


@in_loop
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
    world = World()
    async with served(world) as client, client.get("/events") as one, client.get("/events") as other:
        told = 0
        while told < 10:
            for answer in (one, other):
                world.active += 1
                await event(answer)
                told += 1
        assert told <= ticks + 2  # an event each before the first wait
        assert world.states_made <= told


@in_loop
async def test_listeners_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than there are places is told so with 503 and when to come back; a place that is left is free."""
    monkeypatch.setattr(live, "MAX_LISTENERS", 2)
    async with served(World()) as client, client.get("/events") as one:
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


@in_loop
async def test_a_listener_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection ends and its place is free; the listener beside it gets every state meanwhile."""
    monkeypatch.setattr(live, "WRITE_TIME", 0.2)
    world = World()
    for number in range(LATEST):
        world.closes.add(story(number, path="/" + "x" * 4000))  # large states, to fill the buffers soon
    hub = world.admin._events
    async with served(world) as client, deaf(client, "/events") as connection, client.get("/events") as reader:
        await until(lambda: hub.listeners == 2)
        events = 0
        while hub.listeners == 2:
            world.active += 1
            await event(reader)
            events += 1
        assert events > 2
        world.active += 1
        assert (await event(reader))["active"] == f"{world.active:,}"
        assert await hung_up_on(connection)


@in_loop
async def test_listeners_do_not_hold_up_the_end() -> None:
    """When the server closes, streams end by themselves at once."""
    world = World()
    async with served(world) as client:
        answer = await client.get("/events")
        await event(answer)
        world.admin._events.close()
        while await answer.content.readline():
            pass
        await until(lambda: world.admin._events.listeners == 0)
