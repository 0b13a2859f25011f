"""A connection of the relay's own: what it promises a protocol, on real sockets, whoever watches them."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import weakref
from collections.abc import Callable
from contextlib import suppress

import pytest

from exporter.relay import kernel
from exporter.relay import tcp as module
from exporter.relay.kernel import READ_BULK, READ_MEDIUM, READ_SMALL
from exporter.relay.poller import Poller
from exporter.relay.tcp import SHORT_READS, TcpTransport
from exporter.relay.tcp_writer import HIGH_WATER
from exporter.relay.transport import Transport, TransportProtocol
from tests.compiled import plain_only
from tests.unit.relay.harness import Wire, ended
from tests.unit.relay.test_legs import tcp_pair
from tests.waiting import until


class Kept(TransportProtocol):
    """A protocol that writes down what it is told, and does what the test wants when bytes come."""

    def __init__(self, on_data: Callable[[bytes], None] | None = None, keep_open: bool = True) -> None:
        self.observed: list[object] = []
        self.data = b""
        self.lost: list[Exception | None] = []
        self._on_data = on_data
        self._keep_open = keep_open
        self._inside = False

    def connection_made(self, stream: Transport) -> None:
        self.observed.append("made")

    def data_received(self, data: bytes) -> None:
        self._inside = True
        self.data += data
        try:
            if self._on_data is not None:
                self._on_data(data)
        finally:
            self._inside = False

    def eof_received(self) -> bool:
        self.observed.append("eof")
        return self._keep_open

    def pause_writing(self) -> None:
        self.observed.append("pause")

    def resume_writing(self) -> None:
        self.observed.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        assert not self._inside, "told of its end inside a call of its own"
        self.lost.append(error)


def connected(protocol: TransportProtocol) -> tuple[TcpTransport, Wire]:
    """A connection with ``protocol`` on it, and the far end."""
    ours, theirs = tcp_pair()
    return TcpTransport(Poller(), ours, protocol), Wire(theirs)


def come_at_once(wire: Wire, size: int) -> None:
    """Have ``size`` bytes come in one segment, so that all are there when they are looked at."""
    assert wire.sock.send(bytes(size)) == size


async def test_bytes_pass_both_ways() -> None:
    """What is written arrives, what arrives is told, and a FIN is told behind it; then closing is told, once."""
    kept = Kept()
    tcp, wire = connected(kept)
    tcp.write(b"out")
    await wire.expect(b"out")
    await wire.send(b"in", b"coming")
    wire.fin()
    await until(lambda: "eof" in kept.observed)
    assert kept.data == b"incoming"
    tcp.write(b"still heard")
    tcp.close()
    tcp.close()
    assert await wire.rest() == b"still heard"
    await until(lambda: kept.lost)
    tcp.abort()
    await asyncio.sleep(0)
    assert (kept.observed, kept.lost) == (["made", "eof"], [None])


async def test_what_the_kernel_does_not_take_waits() -> None:
    """Megabytes that nobody reads yet wait, in order; the protocol is asked to pause above the mark, and to resume when
    a quarter of it is left. A close waits for all of it."""
    kept = Kept()
    tcp, wire = connected(kept)
    sent = bytearray()
    while tcp.get_write_buffer_size() <= HIGH_WATER:
        piece = len(sent).to_bytes(8, "big") * 2000
        sent += piece
        tcp.write(piece)
    assert kept.observed == ["made", "pause"]
    tcp.write(b"the end")
    assert await wire.read(len(sent)) == sent
    await until(lambda: kept.observed == ["made", "pause", "resume"])
    tcp.write(bytes(8 << 20))
    tcp.close()
    assert tcp.get_write_buffer_size() > 0
    tcp.write(b"not any more")
    assert await wire.rest() == b"the end" + bytes(8 << 20)
    await until(lambda: kept.lost == [None])


async def test_a_paused_connection_reads_nothing() -> None:
    """While reading is paused bytes stay in the kernel, and come when it goes on."""
    kept = Kept()
    tcp, wire = connected(kept)
    tcp.pause_reading()
    tcp.pause_reading()
    await wire.send(b"later")
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert (kept.data, kept.observed) == (b"", ["made"])
    assert not tcp._reading
    tcp.resume_reading()
    wire.fin()
    await until(lambda: kept.observed == ["made", "eof"])
    assert kept.data == b"later"
    tcp.abort()
    await until(lambda: kept.lost == [None])


async def test_what_has_come_is_told_at_once() -> None:
    """Whatever waits in the kernel, up to the most that is read, is told in one piece, whether few bytes or many came
    before it."""
    pieces: list[int] = []
    tcp, wire = connected(Kept(lambda data: pieces.append(len(data))))
    sizes = [
        1,
        READ_SMALL - 1,
        READ_SMALL,
        READ_SMALL + 1,
        20_000,
        READ_SMALL,
        1,
        20_000,
        READ_SMALL,
        READ_SMALL,
        READ_SMALL - 1,
        2,
    ]
    for size in sizes:
        come_at_once(wire, size)
        await until(lambda size=size: sum(pieces) >= size)
        assert pieces == [size]
        pieces.clear()
    tcp.abort()


@plain_only
async def test_little_is_asked_for_where_little_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """After much, as much is asked for again although its tail was short; after many short reads, little, until more
    than that comes."""
    asked: list[int] = []

    def read(fd: int, most: int) -> bytes:
        asked.append(most)
        return os.read(fd, most)

    monkeypatch.setattr(module, "read", read)
    kept = Kept()
    tcp, wire = connected(kept)

    async def come(*sizes: int) -> list[int]:
        asked.clear()
        for size in sizes:
            before = len(kept.data)
            come_at_once(wire, size)
            await until(lambda before=before, size=size: len(kept.data) == before + size)
        return asked.copy()

    assert await come(1, 20_000) == [READ_SMALL, READ_SMALL, READ_MEDIUM]
    assert await come(*[20_000, 67] * 20) == [READ_BULK] * 40
    assert await come(20_000, *[100] * (SHORT_READS + 2)) == [READ_BULK] * (SHORT_READS + 1) + [READ_SMALL] * 2
    assert await come(READ_SMALL - 1, READ_SMALL, 67) == [READ_SMALL, READ_SMALL, READ_MEDIUM, READ_BULK]
    tcp.pause_reading()
    tcp.resume_reading()
    assert await come(20_000, 67) == [READ_SMALL, READ_MEDIUM, READ_BULK], "whoever had to pause begins anew"
    tcp.abort()


async def test_tcp_with_urgent_data_delivers_the_bytes_around_it() -> None:
    """Urgent data cuts a read short (tcp(7)); the bytes behind it come nevertheless, and so does a FIN."""
    kept = Kept()
    tcp, wire = connected(kept)
    wire.sock.send(b"before ")
    wire.sock.send(b"!", socket.MSG_OOB)
    wire.sock.send(b"behind")
    await until(lambda: kept.data == b"before behind")
    wire.sock.send(b", last ")
    wire.sock.send(b"!", socket.MSG_OOB)
    wire.sock.send(b"of all")
    wire.fin()
    await until(lambda: "eof" in kept.observed)
    assert kept.data == b"before behind, last of all"
    tcp.abort()


async def test_what_waits_does_not_keep_what_was_sent() -> None:
    """Of a write that was taken in part only the rest stays in memory, however large the whole was."""
    tcp, _ = connected(Kept())
    while not tcp.get_write_buffer_size():
        tcp.write(bytes(READ_BULK))
    assert tcp._waiting is not None
    assert [part.obj for part in tcp._waiting._parts] == [bytes(tcp.get_write_buffer_size())]
    tcp.abort()


async def test_a_reset_behind_few_bytes_is_told_behind_them() -> None:
    """A peer that resets right behind what it said is heard, and its reset is told as one, however much it said."""
    for size in (READ_SMALL - 1, READ_SMALL, READ_SMALL + 1):
        kept = Kept()
        tcp, wire = connected(kept)
        tcp.pause_reading()
        await wire.send(bytes(size))
        wire.reset()
        tcp.resume_reading()
        await until(lambda kept=kept: kept.lost)
        assert (len(kept.data), [type(error) for error in kept.lost]) == (size, [ConnectionResetError])


@plain_only
@pytest.mark.parametrize("then", [BlockingIOError(), ConnectionResetError(), b""], ids=repr)
async def test_few_bytes_that_were_all_are_told_before_what_comes_next(
    then: BaseException | bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly as many bytes as were asked for are told although nothing, a reset or a FIN is all that follows."""
    asked: list[int] = []

    def read(fd: int, most: int) -> bytes:
        asked.append(most)
        if len(asked) == 1:
            return bytes(READ_SMALL)
        if isinstance(then, BaseException):
            raise then
        return then

    kept = Kept()
    tcp, wire = connected(kept)
    monkeypatch.setattr(module, "read", read)
    await wire.send(b"ready")
    await until(lambda: kept.data)
    if isinstance(then, ConnectionResetError):
        await until(lambda: kept.lost == [then])
    elif isinstance(then, bytes):
        await until(lambda: kept.observed == ["made", "eof"])
    assert (kept.data, asked[0]) == (bytes(READ_SMALL), READ_SMALL)
    assert asked[1] > READ_SMALL
    tcp.abort()


async def test_a_reset_is_told_with_its_error() -> None:
    """A peer's reset ends the connection with the error, once, whether it is noticed reading or writing."""
    for notice in (lambda tcp: None, lambda tcp: tcp.pause_reading()):
        kept = Kept()
        tcp, wire = connected(kept)
        notice(tcp)
        wire.reset()
        while not kept.lost:
            tcp.write(b"x")
            await asyncio.sleep(0.001)
        assert [type(error) for error in kept.lost] in ([ConnectionResetError], [BrokenPipeError])
        tcp.write(b"into the void")
        tcp.close()
        assert tcp.is_closing()


async def test_a_protocol_that_does_not_stay_open_is_closed_by_a_fin() -> None:
    """``eof_received`` that answers false closes, as asyncio has it."""
    kept = Kept(keep_open=False)
    _, wire = connected(kept)
    wire.fin()
    assert await wire.rest() == b""
    await until(lambda: kept.lost == [None])


@pytest.mark.parametrize("end", [TcpTransport.close, TcpTransport.abort])
async def test_it_may_be_closed_from_inside(end: Callable[[TcpTransport], None]) -> None:
    """A protocol that ends its connection while it is told of bytes is told of the end afterwards, and of no more
    bytes."""
    ours, theirs = tcp_pair()
    kept = Kept(lambda data: end(tcp))
    tcp = TcpTransport(Poller(), ours, kept)
    wire = Wire(theirs)
    wire.sock.send(b"first")
    with suppress(ConnectionError):  # it may have been aborted by then
        wire.sock.send(b"second")
    await until(lambda: kept.lost == [None])
    assert kept.data in (b"first", b"firstsecond")
    assert await ended(wire) == b""


def test_a_defect_ends_that_connection_alone() -> None:
    """A protocol that raises is ended with what it raised, the loop is told, and its neighbour goes on."""

    async def play() -> None:
        blamed: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: blamed.append(context["exception"]))

        def fail(data: bytes) -> None:
            raise ZeroDivisionError

        poller = Poller()
        bad, good = Kept(fail), Kept()
        wires = []
        for kept in (bad, good):
            ours, theirs = tcp_pair()
            TcpTransport(poller, ours, kept)
            wires.append(Wire(theirs))
        for wire in wires:
            await wire.send(b"hello")
        await until(lambda: good.data)
        await until(lambda: blamed)
        assert [type(error) for error in blamed] == [ZeroDivisionError]
        assert await ended(wires[0]) == b""
        assert [type(error) for error in bad.lost] == [ZeroDivisionError]
        assert good.lost == []
        wires[1].close()

    asyncio.run(play())


async def test_another_protocol_takes_over() -> None:
    """From :meth:`set_protocol` on the other one is told, the end included."""
    first, second = Kept(), Kept()
    tcp, wire = connected(first)
    tcp.set_protocol(second)
    assert tcp.get_protocol() is second
    await wire.send(b"for the second")
    await until(lambda: second.data)
    wire.close()
    await until(lambda: second.observed == ["eof"])
    tcp.close()
    await until(lambda: second.lost)
    assert (first.data, first.lost) == (b"", [])


async def test_addresses_are_those_of_both_ends_while_it_lives() -> None:
    """The peer's address, then our own; none once the connection is gone."""
    kept = Kept()
    tcp, wire = connected(kept)
    assert tcp.addresses() == (wire.sock.getsockname(), wire.sock.getpeername())
    tcp.close()
    await until(lambda: kept.lost)
    assert tcp.addresses() == (None, None)


async def test_a_fin_of_ours_is_sent_once_and_leaves_the_rest_alone() -> None:
    """Our direction ends, a second FIN is harmless, and what the peer sends is still read."""
    kept = Kept()
    tcp, wire = connected(kept)
    tcp.write_eof()
    tcp.write_eof()
    assert await wire.rest() == b""
    assert not tcp.is_closing()
    await wire.send(b"still heard")
    await until(lambda: kept.data == b"still heard")
    tcp.abort()
    wire.close()


async def test_what_the_kernel_holds_of_a_broken_connection_is_read() -> None:
    """Bytes that came before a reset, and were not read because reading was paused, can still be had; then nothing."""
    tcp, wire = connected(Kept())
    tcp.pause_reading()
    await wire.send(b"\x88\x02\x03\xf3")
    assert b"".join(tcp.read_remaining()) == b"\x88\x02\x03\xf3"
    await wire.send(b"last words")
    wire.reset()
    assert b"".join(tcp.read_remaining()) == b"last words"
    assert b"".join(tcp.read_remaining()) == b""
    tcp.abort()


async def test_no_more_is_salvaged_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading what is left is bounded, in steps of one read."""
    monkeypatch.setattr(module, "MAX_SALVAGE", 1000)
    monkeypatch.setattr(kernel, "CHUNK", 400)
    tcp, wire = connected(Kept())
    tcp.pause_reading()
    await wire.send(bytes(5000))
    assert [len(unlink) for unlink in tcp.read_remaining()] == [400, 400, 400]
    wire.close()
    tcp.abort()


async def test_silence_is_the_time_since_bytes_came() -> None:
    """The kernel's word for TCP; nothing is known of a Unix socket."""
    tcp, wire = connected(Kept())
    await wire.send(b"x")
    await asyncio.sleep(0.1)
    assert 0.05 < tcp.idle_seconds() < 5
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    unix = TcpTransport(Poller(), ours, Kept())
    assert unix.idle_seconds() == 0.0
    for made in (tcp, unix):
        made.abort()
    theirs.close()
    wire.close()


async def test_an_ended_connection_leaves_no_cycle() -> None:
    """What was told of its end is not held by the connection any more, nor the other way round."""
    kept = Kept()
    tcp, wire = connected(kept)
    kept.transport = tcp  # type: ignore[attr-defined]
    tcp.abort()
    lost = kept.lost
    await until(lambda: lost)
    gone = weakref.ref(kept)
    gc.disable()
    try:
        del kept, tcp
        await asyncio.sleep(0)
        assert gone() is None
    finally:
        gc.enable()
    wire.close()
