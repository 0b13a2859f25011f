"""Tunnels: every byte of a session both ways, observed but not held up; half-closes, resets, closing on purpose."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import sys
import termios
from fcntl import ioctl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.protocol.direction import new_frame_counts
from exporter.protocol.enums import Cause, Peer, Unobserved
from exporter.protocol.frame_runs import MAX_FRAMES
from exporter.protocol.frames import FrameScanner
from exporter.relay import tunnel as tunnel_module
from exporter.relay.kernel import READ_BULK
from exporter.relay.tcp_writer import HIGH_WATER
from exporter.relay.tunnel import close_frame
from tests.compiled import plain_only
from tests.unit.relay.harness import REQUEST, SWITCH, Bench, Ended, Watched, Wire, bench, ended
from tests.waiting import until
from tests.wire import BINARY, CONTINUATION, KEY, PING, TEXT, close, cut_at, cuts, frame, singly, streams

#: The most that is read at once.
ONE_READ = READ_BULK

HI, YO = frame(TEXT, b"hi", mask=KEY), frame(TEXT, b"yo")
OURS = close_frame(1001)


def scanner_of(watched: Watched, peer: Peer) -> FrameScanner:
    return watched.session.scanner(peer)


# Bytes.


@pytest.mark.parametrize("way", ["whole", "bytewise", "glued"])
async def test_frames_pass_both_ways_and_are_heard(way: str) -> None:
    """What leaves is what came, in both directions, and the frames of each are counted while the session lives."""
    async with bench() as b:
        client, server, watched = await b.session()
        for sender, receiver, data in ((client, server, HI), (server, client, YO)):
            segments = {"whole": [data, data], "bytewise": singly(data * 2), "glued": [data * 2]}[way]
            await sender.send(*segments)
            await receiver.expect(data * 2)
        for peer in (Peer.CLIENT, Peer.SERVER):
            await until(lambda peer=peer: scanner_of(watched, peer).frames == 2)
            assert scanner_of(watched, peer).payload == 4
        assert client.is_silent()
        assert server.is_silent()
        assert watched.endings == []


@pytest.mark.parametrize("size", [1, 125, 65536, 5_000_000])
async def test_large_and_small_frames_arrive_whole(size: int) -> None:
    """A payload of any size arrives as it was sent, both ways at once."""
    async with bench() as b:
        client, server, watched = await b.session()
        up, down = frame(BINARY, os.urandom(size), mask=KEY), frame(BINARY, os.urandom(size))
        got_up, got_down, *_ = await asyncio.gather(
            server.read(len(up)), client.read(len(down)), client.send(up), server.send(down)
        )
        assert got_up == up
        assert got_down == down
        assert scanner_of(watched, Peer.CLIENT).payload == scanner_of(watched, Peer.SERVER).payload == size


@pytest.mark.parametrize("glue", ["behind the 101", "before the 101", "with the request"])
async def test_early_frames_are_forwarded_and_heard_once(glue: str) -> None:
    """Frames that share a segment with the 101, or that the client sends before it, are passed on and counted once."""
    async with bench() as b:
        client, server = await b.pair()
        early = glue != "behind the 101"
        await client.send(*([REQUEST + HI] if glue == "with the request" else [REQUEST, HI][: 1 + early]))
        await server.expect(REQUEST + HI * early)
        await server.send(SWITCH + YO)
        await client.expect(SWITCH + YO)
        await until(lambda: b.observed.sessions)
        (watched,) = b.observed.sessions
        assert scanner_of(watched, Peer.SERVER).frames == 1
        assert scanner_of(watched, Peer.CLIENT).frames == early
        await client.send(HI)
        await server.expect(HI)
        assert scanner_of(watched, Peer.CLIENT).frames == early + 1


async def test_a_close_in_the_segment_of_the_101_decides() -> None:
    """A server that accepts and closes in one breath has its Close seen."""
    async with bench() as b:
        client, server = await b.pair()
        await client.send(REQUEST)
        await server.expect(REQUEST)
        await server.send(SWITCH + close(1008, b"not you"))
        server.fin()
        await client.expect(SWITCH + close(1008, b"not you"))
        client.close()
        await b.quiet()
        assert b.observed.endings == [Ended("1008", Cause.POLICY_VIOLATION, Peer.SERVER, False, "not you", True)]


def test_any_stream_in_any_segmentation_leaves_as_it_came() -> None:
    """For any bytes of both peers in any segmentation: what leaves is what came, and what was heard is what a scanner
    of the whole stream hears."""
    with asyncio.Runner() as runner:
        made = bench()
        b = runner.run(made.__aenter__())

        async def play(up: bytes, down: bytes, ours: list[int], theirs: list[int]) -> None:
            client, server, watched = await b.session()
            before = {peer: list(scanner_of(watched, peer).counts) for peer in (Peer.CLIENT, Peer.SERVER)}
            got_up, got_down, *_ = await asyncio.gather(
                server.read(len(up)),
                client.read(len(down)),
                client.send(*cut_at(up, ours)),
                server.send(*cut_at(down, theirs)),
            )
            assert got_up == up
            assert got_down == down
            client.fin()
            assert await server.rest() == b""
            server.close()
            assert await client.rest() == b""
            client.close()
            await b.ending(watched)
            for peer, stream in ((Peer.CLIENT, up), (Peer.SERVER, down)):
                whole = FrameScanner(new_frame_counts())
                whole.feed(stream, 0.0)
                scanner = scanner_of(watched, peer)
                whole.flush_counts()
                scanner.flush_counts()
                counts = [now - then for now, then in zip(scanner.counts, before[peer], strict=True)]
                assert (counts, scanner.remaining, scanner.pending, scanner.unobserved) == (
                    whole.counts, whole.remaining, whole.pending, whole.unobserved
                )  # fmt: skip
            assert b.observed.defects == []

        @settings(max_examples=60)
        @given(streams, streams, cuts, cuts)
        def any_stream(up: bytes, down: bytes, ours: list[int], theirs: list[int]) -> None:
            runner.run(play(up, down, ours, theirs))

        try:
            any_stream()
        finally:
            runner.run(made.__aexit__(None, None, None))


def test_any_bytes_from_the_first_leave_as_they_came() -> None:
    """For any bytes from the very first, HTTP or not, both ways in any segmentation: what leaves is what came."""
    with asyncio.Runner() as runner:
        made = bench()
        b = runner.run(made.__aenter__())

        async def play(up: bytes, down: bytes, ours: list[int], theirs: list[int]) -> None:
            client, server = await b.pair()
            await asyncio.gather(client.send(*cut_at(up, ours)), server.send(*cut_at(down, theirs)))
            client.fin()
            assert await server.rest() == up
            server.fin()
            assert await client.rest() == down
            client.close()
            server.close()
            assert b.observed.defects == []

        begins = st.sampled_from([b"", REQUEST, SWITCH, REQUEST[:40], b"\x16\x03\x01", b"HTTP/1.1 200 OK\r\n\r\n"])
        starts = st.tuples(begins, streams).map(b"".join)

        @settings(max_examples=60)
        @given(starts, starts, cuts, cuts)
        def any_bytes(up: bytes, down: bytes, ours: list[int], theirs: list[int]) -> None:
            runner.run(play(up, down, ours, theirs))

        try:
            any_bytes()
        finally:
            runner.run(made.__aexit__(None, None, None))


async def test_many_sessions_at_once_keep_their_bytes_apart() -> None:
    """Forty sessions echo random traffic at the same time; each gets its own bytes back."""
    async with bench() as b:
        opened = [await b.session() for _ in range(40)]

        async def echo(client: Wire, server: Wire, seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(5):
                data = frame(BINARY, chance.randbytes(chance.randrange(3000)), mask=KEY)
                await client.send(*cut_at(data, [chance.randrange(3000) for _ in range(3)]))
                await server.send(await server.read(len(data)))
                await client.expect(data)

        await asyncio.gather(*(echo(client, server, seed) for seed, (client, server, _) in enumerate(opened)))
        for *_, watched in opened:
            assert scanner_of(watched, Peer.CLIENT).frames == scanner_of(watched, Peer.SERVER).frames == 5


# Back-pressure.


@pytest.mark.parametrize("slow", [Peer.CLIENT, Peer.SERVER])
async def test_a_peer_that_stops_reading_costs_little(slow: Peer) -> None:
    """When one peer stops reading, the other is made to wait and we hold a few hundred KiB at most; once it reads
    again, everything arrives."""
    async with bench() as b:
        client, server, watched = await b.session()
        transports = {Peer.CLIENT: watched.tunnel.client.transport, Peer.SERVER: watched.tunnel.server.transport}
        reader, writer = (client, server) if slow is Peer.CLIENT else (server, client)
        to_reader, from_writer = transports[slow], transports[slow.other]

        data = random.Random(1).randbytes(48 << 20)
        digest = hashlib.sha256(data).digest()
        sending = asyncio.create_task(flood(writer, data))
        most = 0

        def is_held() -> bool:
            nonlocal most
            most = max(most, to_reader.get_write_buffer_size())
            return not from_writer._reading

        await until(is_held, "the fast peer is made to wait")
        assert not sending.done()
        assert HIGH_WATER < most <= HIGH_WATER + ONE_READ

        got = hashlib.sha256()
        left = len(data)
        while left:
            chunk = await reader.read(min(left, 1 << 20))
            got.update(chunk)
            left -= len(chunk)
            most = max(most, to_reader.get_write_buffer_size())
        await sending
        assert got.digest() == digest
        assert most <= HIGH_WATER + ONE_READ
        await writer.send(b"\x89\x00")
        await reader.expect(b"\x89\x00")
        assert watched.endings == []


async def flood(writer: Wire, data: bytes) -> None:
    """Send without a deadline: whoever is to be held up is."""
    await asyncio.get_running_loop().sock_sendall(writer.sock, data)


# The end of TCP.


@pytest.mark.parametrize("first", [Peer.CLIENT, Peer.SERVER])
async def test_a_half_close_passes_on_and_late_data_still_comes(first: Peer) -> None:
    """A peer that sends no more can still receive: its FIN passes on behind its data, and what the other sends
    afterwards, megabytes of it, arrives before TCP ends."""
    async with bench() as b:
        client, server, watched = await b.session()
        one, other = (client, server) if first is Peer.CLIENT else (server, client)
        await one.send(frame(BINARY, bytes(200_000)))
        one.fin()
        assert len(await other.rest()) == len(frame(BINARY, bytes(200_000)))
        assert one.is_silent()
        on_timeout = frame(BINARY, os.urandom(3_000_000))
        got, _ = await asyncio.gather(one.read(len(on_timeout)), other.send(on_timeout))
        assert got == on_timeout
        other.close()
        assert await one.rest() == b""
        ending = await b.ending(watched)
        assert (ending.code, ending.cause, ending.initiator) == ("1006", Cause.CONNECTION_LOST, first)
        one.close()


@pytest.mark.parametrize("first", [Peer.CLIENT, Peer.SERVER])
async def test_a_reset_ends_the_other_side(first: Peer) -> None:
    """A reset on one side ends the other, behind the data that came before it, and is told as a reset by that peer."""
    async with bench() as b:
        client, server, watched = await b.session()
        one, other = (client, server) if first is Peer.CLIENT else (server, client)
        await one.send(YO)
        await other.expect(YO)
        one.reset()
        with pytest.raises(ConnectionResetError):
            await other.rest()
        ending = await b.ending(watched)
        assert ending == Ended("1006", Cause.CONNECTION_RESET, first, False)
        await b.quiet()


async def test_the_usual_closing_handshake() -> None:
    """Close, answering Close, FIN, FIN: one clean ending, and both peers saw each other's bytes and nothing else."""
    async with bench() as b:
        client, server, watched = await b.session()
        await server.send(close(1001, b"bye"))
        await client.expect(close(1001, b"bye"))
        await client.send(close(1001, mask=KEY))
        await server.expect(close(1001, mask=KEY))
        server.close()
        assert await client.rest() == b""
        client.close()
        await b.quiet()
        assert watched.endings == [Ended("1001", Cause.GOING_AWAY, Peer.SERVER, True, "bye")]


async def test_a_close_just_before_a_reset_is_not_lost() -> None:
    """An app that says 1011 and resets while its client still sends: the Close that explains it is seen and counted,
    every time."""
    async with bench() as b:
        for _ in range(30):
            client, server, watched = await b.session()
            # Both happen before the relay's loop runs again: it finds a broken connection with a Close still in it.
            client.sock.send(HI * 100)
            server.sock.send(close(1011, b"boom"))
            server.reset()
            ending = await b.ending(watched)
            assert (ending.code, ending.cause, ending.initiator) == ("1011", Cause.INTERNAL_ERROR, Peer.SERVER)
            client.close()
        await b.quiet()


async def test_an_early_fin_of_the_client_is_its_own_ending() -> None:
    """A client that ends TCP before the 101, and gets it nevertheless, has a session, ended by the client."""
    async with bench() as b:
        client, server = await b.pair()
        await client.send(REQUEST)
        client.fin()
        assert await server.rest() == REQUEST
        await server.send(SWITCH + YO)
        await client.expect(SWITCH + YO)
        server.close()
        assert await client.rest() == b""
        await b.quiet()
        assert b.observed.aborts == 0
        assert b.observed.endings == [Ended("1006", Cause.CONNECTION_LOST, Peer.CLIENT, False)]
        client.close()


# What cannot be followed, and defects of ours.


@pytest.mark.parametrize("sender", [Peer.CLIENT, Peer.SERVER])
async def test_what_cannot_be_followed_flows_on(sender: Peer) -> None:
    """After a frame that cannot be followed every byte still passes both ways; it is told once and ends unobserved."""
    async with bench() as b:
        client, server, watched = await b.session()
        one, other = (client, server) if sender is Peer.CLIENT else (server, client)
        bad = frame(PING, bytes(10), fin=False)
        await one.send(bad, YO, bad)
        await other.expect(bad + YO + bad)
        back = frame(BINARY, os.urandom(100_000))  # a frame: this direction is still followed
        got, _ = await asyncio.gather(one.read(len(back)), other.send(back))
        assert got == back
        assert b.observed.lost == [Unobserved.FRAME]
        one.close()
        assert await other.rest() == b""
        other.close()
        ending = await b.ending(watched)
        assert ending.initiator is sender
        assert (ending.code, ending.cause) == ("unknown", Cause.UNOBSERVED)
        assert b.observed.defects == []


class Broken(Exception):
    """A defect of ours."""


@plain_only
@pytest.mark.parametrize("broken", ["feed", "handle"])
async def test_a_defect_while_listening_does_not_touch_the_traffic(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When our own code fails on a frame, it is told once and the session goes on unheard, both ways."""
    async with bench() as b:

        def fail(*args: object) -> None:
            raise Broken

        if broken == "feed":
            monkeypatch.setattr("exporter.protocol.frames.FrameScanner._single_frame", fail)
        else:
            monkeypatch.setattr("exporter.protocol.session.Session.handle", fail)
        client, server, watched = await b.session()
        ping = frame(PING, b"p", mask=KEY)
        await client.send(ping)
        await server.expect(ping)
        for _ in range(3):
            await client.send(HI, ping)
            await server.expect(HI + ping)
            await server.send(YO, close(1000))
            await client.expect(YO + close(1000))
        assert b.observed.defects == ["Broken"]
        client.close()
        assert await server.rest() == b""
        server.close()
        await b.ending(watched)
        await b.quiet()


# Ending on purpose: section by section what a drain and a limit do to one session.


async def finish(b: Bench, watched: Watched, timeout: float = 10.0, code: int = 1001) -> None:
    """End a session on purpose, as a drain does."""
    watched.tunnel.close(Cause.DRAIN, code, timeout)


async def answered(
    b: Bench, client: Wire, server: Wire, watched: Watched, code: int = 1001, late: bytes = b""
) -> Ended:
    """Let the client answer the Close that it has got and the app end TCP after ``late``; return the ending."""
    await client.send(close(code, mask=KEY))
    await server.expect(close(code, mask=KEY))
    await server.send(late)
    server.close()
    assert await client.rest() == b""
    client.close()
    return await b.ending(watched)


@pytest.mark.parametrize("code", [1001, 1012])
async def test_an_idle_session_is_told_and_closes_in_order(code: int) -> None:
    """The client gets one Close; its answer reaches the app; the app's answer is consumed; one clean ending of ours."""
    async with bench() as b:
        client, server, watched = await b.session()
        await finish(b, watched, code=code)
        await client.expect(close(code))
        assert server.is_silent(), "the app hears from its client first"
        await client.send(HI, close(code, mask=KEY))
        await server.expect(HI + close(code, mask=KEY))
        await server.send(YO, close(code))
        server.close()
        assert await client.rest() == b"", "the app's answer is consumed"
        client.close()
        ending = await b.ending(watched)
        assert ending == Ended(str(code), Cause.DRAIN, Peer.PROXY, clean=True)
        await b.quiet()
        assert len(watched.endings) == 1


async def test_the_close_stands_between_fragments() -> None:
    """Between the fragments of a message is a boundary: the Close goes there, and the rest of the message nowhere."""
    async with bench() as b:
        client, server, watched = await b.session()
        await server.send(frame(TEXT, b"begun", fin=False))
        await client.expect(frame(TEXT, b"begun", fin=False))
        await finish(b, watched)
        await client.expect(OURS)
        await server.send(frame(CONTINUATION, b"never seen"))
        assert (await answered(b, client, server, watched)).code == "1001"


@pytest.mark.parametrize("cut", [1, 2, 3, 9, 10, 50, 109])
async def test_inside_a_frame_the_close_waits(cut: int) -> None:
    """Inside a header or a payload nothing is said; at the frame's end, with others glued behind it, one Close is, and
    nothing of the others."""
    data = frame(BINARY, bytes(range(100)), form=64)
    async with bench() as b:
        client, server, watched = await b.session()
        await server.send(data[:cut])
        await client.expect(data[:cut])
        await finish(b, watched)
        middle = (cut + len(data)) // 2
        await server.send(data[cut:middle])
        await client.expect(data[cut:middle])
        assert client.is_silent()
        await server.send(data[middle:] + YO + YO + frame(PING, b"x"))
        await client.expect(data[middle:] + OURS)
        assert await answered(b, client, server, watched, late=YO) == Ended("1001", Cause.DRAIN, Peer.PROXY, clean=True)


async def test_a_close_that_comes_while_we_wait_for_a_boundary_keeps_its_cause() -> None:
    """While we wait for the end of the app's frame its client closes: that Close decides, and ours is never sent."""
    async with bench() as b:
        client, server, watched = await b.session()
        await server.send(YO[:2])
        await client.expect(YO[:2])
        await finish(b, watched)
        await client.send(close(1000, b"mine", KEY))
        await server.expect(close(1000, b"mine", KEY))
        await server.send(YO[2:] + close(1000))
        await client.expect(YO[2:] + close(1000))
        server.close()
        assert await client.rest() == b""
        client.close()
        assert await b.ending(watched) == Ended("1000", Cause.NORMAL, Peer.CLIENT, True, "mine")


async def test_half_a_close_of_the_app_is_waited_for() -> None:
    """A Close of the app of which half has passed is let through and decides; ours is not sent behind it."""
    async with bench() as b:
        client, server, watched = await b.session()
        theirs = close(1011, b"boom")
        await server.send(theirs[:3])
        await client.expect(theirs[:3])
        await finish(b, watched)
        await server.send(theirs[3:])
        await client.expect(theirs[3:])
        assert await answered(b, client, server, watched, code=1011) == Ended(
            "1011", Cause.INTERNAL_ERROR, Peer.SERVER, True, "boom"
        )


async def test_a_silent_client_lets_the_app_be_told() -> None:
    """A client that does not answer in time: the app gets a masked Close 1001 and both connections are closed."""
    async with bench() as b:
        client, server, watched = await b.session()
        await finish(b, watched, timeout=0.05)
        observed = await server.read(8)
        assert observed[:2] == b"\x88\x82"
        assert bytes(a ^ k for a, k in zip(observed[6:], observed[2:6], strict=False)) == (1001).to_bytes(2, "big")
        assert await server.rest() == b""
        await server.send(close(1001))
        server.close()
        assert await client.rest() == OURS
        client.close()
        ending = await b.ending(watched)
        assert ending == Ended("1001", Cause.DRAIN, Peer.PROXY, clean=False, close_unanswered=True)


async def test_an_app_that_ignores_our_close_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither peer reacts: both TCP connections end all the same, and the ending is told once."""
    monkeypatch.setattr(tunnel_module, "FINAL_CLOSE_TIMEOUT", 0.05)
    async with bench() as b:
        client, server, watched = await b.session()
        await finish(b, watched, timeout=0.05)
        assert (await b.ending(watched)).cause is Cause.DRAIN
        assert len(await ended(server)) == 8
        assert await ended(client) == OURS
        await b.quiet()
        assert len(watched.endings) == 1


async def test_a_client_stuck_inside_a_frame_gets_no_close_put_behind_it() -> None:
    """A client that stopped inside a frame: the app's connection ends without a Close of ours; 1001 was ours to it."""
    async with bench() as b:
        client, server, watched = await b.session()
        await client.send(HI[:-1])
        await server.expect(HI[:-1])
        await finish(b, watched, timeout=0.05)
        assert await ended(server) == b""
        assert await ended(client) == OURS
        assert await b.ending(watched) == Ended("1001", Cause.DRAIN, Peer.PROXY, False, close_unanswered=True)


async def test_a_server_stuck_inside_a_frame_ends_without_a_close() -> None:
    """An app that stopped inside a frame: its client gets no Close, and the ending is 1006, drain, proxy."""
    async with bench() as b:
        client, server, watched = await b.session()
        await server.send(YO[:-1])
        await client.expect(YO[:-1])
        await finish(b, watched, timeout=0.05)
        assert len(await ended(server)) in (0, 8)
        server.close()
        assert await ended(client) == b""
        assert await b.ending(watched) == Ended("1006", Cause.DRAIN, Peer.PROXY, clean=False)


async def test_an_unobserved_session_ends_without_a_close() -> None:
    """Where the server's direction is not understood no Close is sent into it: 1006, drain, proxy."""
    async with bench() as b:
        client, server, watched = await b.session()
        bad = frame(PING, fin=False)
        await server.send(bad)
        await client.expect(bad)
        await client.send(bad)
        await server.expect(bad)
        await finish(b, watched, timeout=0.05)
        assert await ended(client) == b""
        assert await ended(server) == b""
        assert await b.ending(watched) == Ended("1006", Cause.DRAIN, Peer.PROXY, clean=False)


async def test_a_session_that_is_closing_keeps_its_cause() -> None:
    """A peer's Close, even unanswered, is the ending; a drain only bounds how long TCP may stay."""
    async with bench() as b:
        client, server, watched = await b.session()
        await server.send(close(1011, b"boom"))
        await client.expect(close(1011, b"boom"))
        await finish(b, watched, timeout=0.05)
        assert await ended(client) == b""
        assert await ended(server) == b""
        assert await b.ending(watched) == Ended("1011", Cause.INTERNAL_ERROR, Peer.SERVER, False, "boom", True)


async def test_a_second_finish_has_no_effect() -> None:
    """However often a session is told to end, its client gets one Close and the first cause stands."""
    async with bench() as b:
        client, server, watched = await b.session()
        for cause in (Cause.LIMIT, Cause.DRAIN, Cause.DRAIN):
            watched.tunnel.close(cause, 1001, 10.0)
        await client.expect(OURS)
        assert await answered(b, client, server, watched) == Ended("1001", Cause.LIMIT, Peer.PROXY, clean=True)


async def test_an_app_that_was_held_up_is_heard_again() -> None:
    """A client that does not read holds its app up; once our Close is said, what the app sends is taken off its hands
    and listened to, and the client still finds all that came before, then the Close."""
    async with bench() as b:
        client, server, watched = await b.session()
        from_server = watched.tunnel.server.transport
        data, sent = frame(BINARY, bytes(60_000)), 0
        while from_server._reading:
            await server.send(data)
            sent += 1
            await until(lambda n=sent: scanner_of(watched, Peer.SERVER).frames == n or not from_server._reading)
        if not scanner_of(watched, Peer.SERVER).at_boundary:
            pytest.fail("the app is to be held up between two frames")
        await finish(b, watched)
        await server.send(YO, close(1001))
        await until(lambda: watched.session.has_closed(Peer.SERVER), "the app's answer is heard")
        assert await client.read(len(data) * sent + len(OURS)) == data * sent + OURS
        assert await answered(b, client, server, watched) == Ended("1001", Cause.DRAIN, Peer.PROXY, clean=True)


async def test_nothing_a_client_sent_is_lost_to_a_drain() -> None:
    """Messages under way from the client when our Close goes out all reach the app, before its answering Close."""
    async with bench() as b:
        client, server, watched = await b.session()
        await finish(b, watched)
        sent = frame(BINARY, os.urandom(500_000), mask=KEY) + HI * 50 + close(1001, mask=KEY)
        got, _ = await asyncio.gather(server.read(len(sent)), client.send(sent))
        assert got == sent
        server.close()
        assert await client.rest() == OURS
        client.close()
        assert (await b.ending(watched)).clean


@plain_only
async def test_a_defect_while_a_close_waits_for_its_boundary(monkeypatch: pytest.MonkeyPatch) -> None:
    """If listening fails just when we look for a boundary, no byte is lost or doubled and the defect is told."""
    async with bench() as b:
        client, server, watched = await b.session()
        await server.send(YO[:1])
        await client.expect(YO[:1])
        await finish(b, watched)

        def fail(*args: object) -> None:
            raise Broken

        monkeypatch.setattr("exporter.protocol.frames.FrameScanner._scan", fail)
        await server.send(YO[1:] + YO, YO)
        await client.expect(YO[1:] + YO + YO)
        await client.send(HI)
        await server.expect(HI)
        assert b.observed.defects == ["Broken"]
        client.close()
        server.close()
        await b.ending(watched)


@pytest.mark.parametrize("mask", [b"", KEY])
def test_our_close_frame_is_a_close_frame(mask: bytes) -> None:
    """What we send is what RFC 6455, section 5.5.1, says: a code, no reason, masked towards the app only."""
    assert close_frame(1001, mask) == close(1001, mask=mask)


# Floods.


def undelivered(wire: Wire) -> int:
    """Bytes that the other end has not acknowledged (tcp(7), TIOCOUTQ)."""
    return int.from_bytes(ioctl(wire.sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)


@pytest.mark.parametrize("pattern", [frame(PING, b"", mask=KEY), frame(TEXT, b"", mask=KEY), b"\x83\x00"])
async def test_dense_frames_are_observed_in_bounded_portions(pattern: bytes) -> None:
    """However many frames one read brings, a turn of the loop observes a few thousand; all are forwarded at once, all
    are counted in the end, also when the client ends meanwhile."""
    async with bench() as b:
        client, server, watched = await b.session()
        data = pattern * (1_000_000 // len(pattern))
        sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(client.sock, data))
        most, last = 0, 0

        def look() -> bool:
            nonlocal most, last
            frames = scanner_of(watched, Peer.CLIENT).frames
            most, last = max(most, frames - last), frames
            return frames == len(data) // len(pattern)

        reading = asyncio.create_task(server.read(len(data)))
        while not look():
            await asyncio.sleep(0)
        await sending
        client.fin()
        assert await reading == data
        assert MAX_FRAMES <= most <= len(data) // len(pattern) // 4
        assert await server.rest() == b""
        await b.ending(watched)
        client.close()
        server.close()


async def test_close_behind_dense_frames_is_seen_although_the_client_resets() -> None:
    """A Close that lies in a backlog when its sender resets is observed before the end of TCP."""
    async with bench() as b:
        client, server, watched = await b.session()
        flood = frame(PING, b"", mask=KEY) * 10_000 + close(1000, mask=KEY)
        await client.send(flood)
        await until(lambda: not undelivered(client), "the relay's kernel has it all")
        client.reset()
        assert await server.read(len(flood)) == flood
        ending = await b.ending(watched)
        assert (ending.code, ending.initiator) == ("1000", Peer.CLIENT)
        server.close()


async def test_fin_of_an_app_whose_client_does_not_read_is_counted() -> None:
    """An app's FIN is noticed while its client takes nothing: the session is counted, and the client gets it all."""
    async with bench() as b:
        client, server, watched = await b.session()
        from_server = watched.tunnel.server.transport
        data, sent = frame(BINARY, bytes(60_000)), 0
        while from_server._reading:
            await server.send(data)
            sent += 1
            await until(lambda n=sent: scanner_of(watched, Peer.SERVER).frames == n or not from_server._reading)
        await server.send(data)
        server.fin()
        ending = await b.ending(watched)
        assert (ending.code, ending.initiator) == ("1006", Peer.SERVER)
        assert await client.read(len(data) * (sent + 1)) == data * (sent + 1)
        assert await client.rest() == b""
        client.close()
        server.close()
