"""What must hold whatever peers send. Each target takes any bytes and raises AssertionError if it does not hold.

    scanner   the scanner agrees with a second reading of the RFC, however the bytes are cut; it keeps little
    http      every handshake is told once and answered once; frames after the 101 are the bytes that were sent
    session   each session has exactly one ending, of a bounded kind, whatever the order of events
    relay     the bytes that leave are the bytes that came; one ending, counted once; buffers are bounded; all ends
    text      nothing that a peer chose can break a log line
    inject    a manifest is changed, or refused with one line; what was put in can be taken out again

No target knows how its inputs are made: :mod:`tests.fuzz.__main__` plays a corpus, atheris or hypothesis against them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec

from exporter.observe.recent_closes import MAX_TEXT, sanitize
from exporter.protocol.classify import classify
from exporter.protocol.close_codes import CloseCodeMap
from exporter.protocol.direction import PAYLOAD, new_frame_counts
from exporter.protocol.enums import PEERS, Cause, Peer, TcpEndKind
from exporter.protocol.evidence import Circumstances
from exporter.protocol.frame_header import Control, Unparseable
from exporter.protocol.frame_runs import MAX_CONTROLS, MAX_FRAMES
from exporter.protocol.frames import MAX_PENDING, FrameScanner
from exporter.protocol.http1 import (
    MAX_EARLY,
    HandshakeTracker,
    ParseFailed,
    UpgradeAborted,
    Upgraded,
    UpgradeRejected,
    UpgradeRequested,
)
from exporter.protocol.labels import known_label_sets
from exporter.protocol.presets import PRESETS
from exporter.protocol.record import SessionRecord
from exporter.protocol.record_format import pack as pack_record
from exporter.protocol.record_format import unpack as unpack_record
from exporter.protocol.session import CloseReceived, Session, WentUnobserved
from exporter.relay.client_connection import trace_id
from exporter.relay.tcp_writer import HIGH_WATER
from tests.fuzz.harness import ManualLoop, Sums, World
from tests.fuzz.reference import read
from tests.fuzz.script import Kind, moves

#: Bytes that we may add ourselves: a Close, or a 502 or 503.
OUR_ANSWER = 300

Pollable = Callable[[bytes], None]


def scanner(data: bytes) -> None:
    """The first byte is how the rest is cut into chunks; if it is odd, the rest comes 64 times over: dense frames."""
    stride = data[0] if data else 0
    stream = data[1:] * (64 if stride & 1 else 1)
    step = 64 * stride + 1 if stride & 1 else stride + 1
    tally = new_frame_counts()
    ours = FrameScanner(tally)
    seen: list[Control | Unparseable] = []
    at = 0
    while at < len(stream):
        size = 1 + (at * 7 + stride) % step
        before = ours.frames
        events = ours.feed(stream[at : at + size], at / 1000)
        seen += events or ()
        while ours.backlog:
            assert not ours.at_boundary
            assert events is not None, "a backlog is reported"
            assert MAX_FRAMES <= ours.frames - before <= 5 * MAX_FRAMES, "one call is bounded"
            assert len(events) <= MAX_CONTROLS
            before = ours.frames
            events = ours.resume(at / 1000)
            seen += events or ()
        at += size
        assert len(ours.pending) <= MAX_PENDING
    theirs = read(stream)
    assert ours.frames == len(theirs.frames)
    ours.flush_counts()
    assert ours.payload == theirs.payload == tally[PAYLOAD]
    assert tally[:PAYLOAD] == [theirs.frames.count(opcode) for opcode in range(PAYLOAD)]
    controls = [(item.opcode, item.payload) for item in seen if isinstance(item, Control)]
    assert controls[-MAX_CONTROLS:] == theirs.controls[-MAX_CONTROLS:]
    remaining = iter(theirs.controls)
    assert all(control in remaining for control in controls), "in order, none made up"
    assert ours.unobserved == theirs.lost == any(isinstance(item, Unparseable) for item in seen)
    assert sum(isinstance(item, Unparseable) for item in seen) <= 1
    over = theirs.lost or 8 in theirs.frames
    assert ours.at_boundary == (not over and len(stream) in theirs.boundaries)


def http(data: bytes) -> None:
    """A script of what client and server send before the 101."""
    handshake = HandshakeTracker(max_head=8192)
    sent = {peer: bytearray() for peer in PEERS}
    asked = answered = 0
    last: object = None
    for move in moves(data):
        if move.kind is not Kind.DATA or not move.data:
            continue
        was_over = handshake.finished
        sent[move.peer] += move.data
        events = handshake.request(move.data) if move.peer is Peer.CLIENT else handshake.response(move.data)
        assert not (was_over and events), "no event after the end"
        for event in events:
            assert not isinstance(last, Upgraded | ParseFailed), "no event after the last"
            last = event
            asked += isinstance(event, UpgradeRequested)
            answered += isinstance(event, UpgradeRejected | UpgradeAborted | Upgraded)
            assert asked - answered in (0, 1)
            if isinstance(event, Upgraded):
                assert sent[Peer.CLIENT].endswith(event.client)
                assert sent[Peer.SERVER].endswith(event.server)
                assert event.response.status == 101
        assert len(handshake._parked) <= MAX_EARLY
        assert handshake.finished == isinstance(last, Upgraded | ParseFailed)
    for event in handshake.eof():
        assert isinstance(event, UpgradeAborted)
        answered += 1
    assert asked == answered, "every handshake is answered once"
    assert handshake.eof() == []


@cache
def _book() -> CloseCodeMap:
    preset = PRESETS["graphql-ws"]
    return CloseCodeMap(preset.codes, preset.ranges)


@cache
def _known() -> frozenset[tuple[str, Cause, Peer]]:
    return frozenset(known_label_sets(_book()))


def session(data: bytes) -> None:
    """A script of frames, ends of TCP, and our own doing; one of an odd length is Engine.IO's."""
    ours = Session(new_frame_counts(), new_frame_counts(), SessionRecord(engine_io=len(data) % 2 == 1))
    closes: list[Peer] = []
    unobserved = 0
    first: object = None
    for number, move in enumerate(moves(data)):
        match move.kind:
            case Kind.DATA:
                for event in ours.feed(move.peer, move.data, number):
                    if isinstance(event, CloseReceived):
                        closes.append(event.sender)
                        first = first or (event.sender if not ours.ended_by_proxy else Peer.PROXY)
                    unobserved += isinstance(event, WentUnobserved)
            case Kind.FIN | Kind.RESET:
                ours.eof(move.peer, TcpEndKind.FIN if move.kind is Kind.FIN else TcpEndKind.RESET, number)
            case Kind.TURN:
                was_closing = ours.is_closing
                ours.end_by_proxy(
                    Cause.DRAIN if move.peer is Peer.CLIENT else Cause.LIMIT, 1001 if move.count else None
                )
                if not was_closing:
                    assert ours.ended_by_proxy
                    first = Peer.PROXY
    assert len(closes) == len(set(closes)), "one Close a peer"
    assert unobserved <= 1
    assert ours.unobserved == bool(unobserved)
    if not ours.is_closing:
        ours.eof(Peer.CLIENT, TcpEndKind.FIN, 1000.0)
        first = Peer.CLIENT
    record = ours.finish(1000.0)
    packed = pack_record(record)
    assert pack_record(unpack_record(packed)) == packed
    for accepts in (True, False, None):
        ending = classify(record, Circumstances(app_accepts=accepts), _book())
        assert (ending.code, ending.cause, ending.initiator) in _known()
        if first is not None and not record.http_text:
            assert ending.initiator == first
        assert not ending.clean or (set(closes) == set(PEERS) or ending.initiator is Peer.PROXY)


@cache
def _loop() -> ManualLoop:
    return ManualLoop()


@cache
def _sums() -> Sums:
    return Sums()


def relay(data: bytes) -> None:
    """The first byte sets the scene; the rest is a script for both peers and the world."""
    scene = data[0] if data else 0
    loop, sums = _loop(), _sums()
    opened, dropped, defects = sums.opened, sums.dropped, sums.defects
    world = World(loop, sums, failing=scene & 1 > 0, on_timeout=scene & 2 > 0, full=scene & 12 == 12)
    largest = _play(world, data[1:])
    world.finish()
    try:
        _check_bytes(world, largest)
        assert world.errors == [], world.errors
        assert world.context.is_quiet, "everything that opened has ended"
        records = sums.receive()
        assert sums.active == 0
        assert sums.opened - opened == len(records), "one record a session"
        assert sums.opened - opened <= 1
        assert (sums.dropped, sums.defects) == (dropped, defects)
        for record in records:
            ending = classify(record, Circumstances(), _book())
            assert (ending.code, ending.cause, ending.initiator) in _known()
    finally:
        world.close()


def _play(world: World, script: bytes) -> int:
    largest = 0
    for move in moves(script):
        here = world.client if move.peer is Peer.CLIENT else world.server
        largest = max(largest, len(move.data))
        if here is None:
            continue
        match move.kind:
            case Kind.DATA:
                world.do(lambda here=here, data=move.data: here.receive(data))  # type: ignore[misc]
            case Kind.FIN:
                world.do(here.receive_fin)
            case Kind.RESET:
                world.do(here.break_off)
            case Kind.TURN:
                match move.count:
                    case 0:
                        world.wait(1.0)
                    case 1:
                        world.wait(11.0)
                    case 2 | 3:
                        world.do(lambda here=here, on=move.count == 2: here.hold_up(on))  # type: ignore[misc]
                    case 4:
                        world.drain()
                    case 5:
                        world.cut()
                    case 6:
                        world.connect()
                    case 7:
                        world.do(world.relay.close_idle)
                    case 8:
                        world.do(world.relay.close_rest)
    return largest


def _check_bytes(world: World, largest: int) -> None:
    """What left is a beginning of what came; all of it, unless somebody ended the connection before."""
    client, server = world.client, world.server
    if server is None:
        assert bytes(client.written[:9]) in (b"", b"HTTP/1.1 "), "our own answer"
        return
    if server.written != client.read[: len(server.written)]:
        _check_ours(bytes(server.written), bytes(client.read), bytes((0x88, 0x82)))
    if client.written != server.read[: len(client.written)]:
        _check_ours(bytes(client.written), bytes(server.read), bytes((0x88, 0x02)))
    for transport, source in ((client, server), (server, client)):
        assert transport.most_buffered <= HIGH_WATER + largest + source.salvaged + OUR_ANSWER


def _check_ours(out: bytes, came: bytes, head: bytes) -> None:
    """``out`` is a beginning of ``came`` and one Close of ours, at a frame boundary, and nothing after it."""
    size = 4 if head[1] < 0x80 else 8
    before, close = out[:-size], out[-size:]
    assert close[:2] == head, "a Close of ours ends it"
    assert before == came[: len(before)]
    heads = [found.end() for found in re.finditer(rb"\r\n\r\n", before)]  # one of them, or of bodies, is the last
    assert any(len(before) - end in read(before[end:]).boundaries for end in heads), "a frame was cut in two"


def text(data: bytes) -> None:
    """Text of a peer, as the log shows it."""
    for chosen in (data.decode("latin-1"), data.decode("utf-8", "replace"), data.decode("utf-8", "backslashreplace")):
        shown = sanitize(chosen)
        assert shown.isprintable(), "a line break or a terminal's control would act"
        assert len(shown) <= MAX_TEXT * 10, "cut, each character escaped at most"
        assert trace_id(chosen) == "" or len(trace_id(chosen)) == 32


def inject(data: bytes) -> None:
    """A manifest, in whatever shape."""
    package = "exporter.kubernetes"
    ours, errors = import_module(f"{package}.inject"), import_module(f"{package}.errors")
    settings = import_module(f"{package}.settings").Settings(image="x:1")
    given = data.decode("utf-8", "replace")
    try:
        (injected,) = ours.inject([("fuzz.yaml", given)], settings, lambda text: None)
    except errors.ManifestError as error:
        said = str(error)
    else:
        said = ""
        assert ours.inject([("fuzz.yaml", injected)], settings, lambda text: None) == [injected], "twice is once"
        ours.remove([("fuzz.yaml", injected)], lambda text: None)
    assert "\n" not in said


TARGETS: Mapping[str, Pollable] = {
    target.__name__: target
    for target in (scanner, http, session, relay, text, *([inject] if find_spec("exporter.kubernetes") else []))
}
