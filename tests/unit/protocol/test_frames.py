"""The frame scanner, on every kind of frame, in every segmentation."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets import frames as field_library

from exporter.protocol.direction import PAYLOAD, new_frame_counts
from exporter.protocol.frame_header import Control, Events, Opcode, Unparseable
from exporter.protocol.frames import MAX_PENDING, FrameScanner
from tests.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    body,
    clean_frames,
    close,
    cut_at,
    cuts,
    frame,
    pieces,
    singly,
    streams,
)

TOP_BIT = "a length with its top bit set"
TOO_LONG = "a control frame of over 125 bytes"
NO_FIN = "a control frame without FIN"

CLOSE_BODIES = (
    b"",
    b"\x03",
    body(1000),
    body(1011, b"keepalive ping timeout"),
    body(1001, b"x" * 123),
    body(1002, b"\xff\xfe\x80"),
)


@dataclass(frozen=True)
class Case:
    """A row: bytes, and what must be known after them. ``then`` is boundary, inside (a frame), resting or lost."""

    name: str
    data: bytes
    frames: dict[int, int]
    payload: int
    heard: tuple[Control | Unparseable, ...] = ()
    then: str = "boundary"


@dataclass
class Result:
    """Everything that a scanner tells of a stream."""

    heard: Events = field(default_factory=list)
    frames: int = 0
    payload: int = 0
    tally: dict[int, int] = field(default_factory=dict)
    state: tuple[object, ...] = ()
    memory: dict[str, object] = field(default_factory=dict)


def scan(segments: list[bytes]) -> Result:
    """Feed ``segments`` to a fresh scanner, watching that it keeps little."""
    tally = new_frame_counts()
    scanner = FrameScanner(tally)
    result = Result()
    for now, segment in enumerate(segments):
        result.heard += scanner.feed(segment, float(now)) or []
        while scanner.backlog:
            assert not scanner.at_boundary
            result.heard += scanner.resume(float(now)) or []
        assert len(scanner.pending) <= MAX_PENDING
    scanner.flush_counts()
    result.frames, result.payload = scanner.frames, scanner.payload
    result.tally = {slot: count for slot, count in enumerate(tally) if count}
    result.state = (scanner.remaining, scanner.pending, scanner.unobserved, scanner.at_boundary)
    result.memory = {name: getattr(scanner, name) for name in ("remaining", "pending", "unobserved", "fragmented")}
    assert scanner.frames == sum(tally[:PAYLOAD])
    assert scanner.payload == tally[PAYLOAD]
    return result


def data_frames() -> list[Case]:
    rows = []
    for opcode in (TEXT, BINARY, CONTINUATION):
        for mask in (b"", KEY):
            for length in (0, 1, 124, 125, 126, 127, 65535, 65536):
                name = f"{Opcode(opcode).name.lower()}, {length} bytes{', masked' if mask else ''}"
                rows.append(Case(name, frame(opcode, bytes(length), mask=mask), {opcode: 1}, length))
            for length, form in ((0, 16), (0, 64), (5, 16), (5, 64), (125, 16), (126, 64), (65535, 64)):
                name = f"{Opcode(opcode).name.lower()}, {length} bytes in {form} bits{', masked' if mask else ''}"
                rows.append(Case(name, frame(opcode, bytes(length), mask=mask, form=form), {opcode: 1}, length))
    return rows


def compressed_frames() -> list[Case]:
    packer = zlib.compressobj(wbits=-15)
    deflated = (packer.compress(b"compress me " * 50) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
    size = len(deflated)
    rows = [
        Case(
            f"permessage-deflate{', masked' if mask else ''}",
            frame(TEXT, deflated, rsv=4, mask=mask),
            {TEXT: 1},
            size,
        )
        for mask in (b"", KEY)
    ]
    rows.append(
        Case(
            "permessage-deflate in fragments",
            frame(TEXT, deflated[:10], rsv=4, fin=False, mask=KEY) + frame(CONTINUATION, deflated[10:], mask=KEY),
            {TEXT: 1, CONTINUATION: 1},
            size,
        )
    )
    rows += [Case(f"reserved bits {rsv:03b}", frame(BINARY, b"abc", rsv=rsv), {BINARY: 1}, 3) for rsv in range(1, 8)]
    rows.append(
        Case("reserved bits on a ping", frame(PING, b"abc", rsv=7), {PING: 1}, 3, (Control(PING, b"abc"),)),
    )
    return rows


def reserved_opcodes() -> list[Case]:
    rows = []
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        for mask in (b"", KEY):
            for length in (0, 5, 125, 300, 70000):
                name = f"reserved {opcode:#x}, {length} bytes{', masked' if mask else ''}"
                rows.append(Case(name, frame(opcode, bytes(length), mask=mask), {opcode: 1}, length))
        rows.append(Case(f"reserved {opcode:#x} without FIN", frame(opcode, b"ab", fin=False), {opcode: 1}, 2))
    return rows


def control_frames() -> list[Case]:
    rows = []
    for opcode in (PING, PONG):
        for mask in (b"", KEY):
            for length in (0, 1, 2, 125):
                payload = bytes(range(length))
                rows.append(
                    Case(
                        f"{Opcode(opcode).name.lower()}, {length} bytes{', masked' if mask else ''}",
                        frame(opcode, payload, mask=mask),
                        {opcode: 1},
                        length,
                        (Control(opcode, payload),),
                    )
                )
    for mask in (b"", KEY):
        rows += [
            Case(
                f"close, {len(payload)} bytes{', masked' if mask else ''}",
                frame(CLOSE, payload, mask=mask),
                {CLOSE: 1},
                len(payload),
                (Control(CLOSE, payload),),
                "resting",
            )
            for payload in CLOSE_BODIES
        ]
    rows.append(
        Case(
            "a message in fragments with a ping and a pong between them",
            frame(TEXT, b"ab", fin=False) + frame(PING, b"p") + frame(CONTINUATION, b"c", fin=False)
            + frame(PONG) + frame(CONTINUATION, b"def"),
            {TEXT: 1, CONTINUATION: 2, PING: 1, PONG: 1},
            7,
            (Control(PING, b"p"), Control(PONG, b"")),
        )
    )  # fmt: skip
    rows.append(
        Case(
            "bytes after a Close are not judged",
            close(1000) + frame(TEXT, b"late") + close(1011) + frame(PING, bytes(125), fin=False) + b"\x81\xff\xff",
            {CLOSE: 1},
            2,
            (Control(CLOSE, body(1000)),),
            "resting",
        )
    )
    return rows


def losing_frames() -> list[Case]:
    rows = []
    for opcode in (CLOSE, PING, PONG):
        name = Opcode(opcode).name.lower()
        for mask in (b"", KEY):
            for form, length in ((16, 126), (64, 70000), (16, 5)):
                rows.append(
                    Case(
                        f"{name} with a length in {form} bits of {length}{', masked' if mask else ''}",
                        frame(opcode, bytes(length), mask=mask, form=form) + frame(TEXT, b"unheard"),
                        {},
                        0,
                        (Unparseable(TOO_LONG),),
                        "lost",
                    )
                )
            rows.append(
                Case(
                    f"{name} without FIN{', masked' if mask else ''}",
                    frame(opcode, b"ab", fin=False, mask=mask) + frame(TEXT, b"unheard"),
                    {},
                    0,
                    (Unparseable(NO_FIN),),
                    "lost",
                )
            )
    for opcode in (TEXT, BINARY, CONTINUATION, 3, 11):
        rows += [
            Case(
                f"opcode {opcode:#x} with a length of {length}",
                frame(opcode, b"abc", form=64, length=length),
                {},
                0,
                (Unparseable(TOP_BIT),),
                "lost",
            )
            for length in (2**63, 2**64 - 1)
        ]
    rows.append(
        Case(
            "what was heard before the loss is told before it",
            frame(TEXT, b"fine") + frame(PING, b"fine") + frame(PING, b"", fin=False),
            {TEXT: 1, PING: 1},
            8,
            (Control(PING, b"fine"), Unparseable(NO_FIN)),
            "lost",
        )
    )
    return rows


def unfinished_frames() -> list[Case]:
    rows = []
    for mask in (b"", KEY):
        masked = ", masked" if mask else ""
        header = len(frame(BINARY, b"", mask=mask, form=64))
        huge = frame(BINARY, b"abc", mask=mask, form=64, length=2**63 - 1)
        rows.append(Case(f"2^63-1 bytes of which 3 came{masked}", huge, {BINARY: 1}, 3, (), "inside"))
        rows.append(Case(f"2^63-1 bytes of which none came{masked}", huge[:header], {BINARY: 1}, 0, (), "inside"))
        rows.append(Case(f"a header that stops one byte short{masked}", huge[: header - 1], {}, 0, (), "inside"))
        rows.append(Case(f"one byte of a header{masked}", huge[:1], {}, 0, (), "inside"))
        whole = close(1011, b"boom", mask)
        rows += [
            Case(f"{size} of {len(whole)} bytes of a Close{masked}", whole[:size], {}, 0, (), "inside")
            for size in range(1, len(whole))
        ]
    return rows


CASES = [
    *data_frames(),
    *compressed_frames(),
    *reserved_opcodes(),
    *control_frames(),
    *losing_frames(),
    *unfinished_frames(),
]

BEFORE = frame(PING, b"be", mask=KEY) + frame(TEXT, b"fore")
AFTER = frame(BINARY, b"after", mask=KEY)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_frame_is_counted_and_told_as_it_is(case: Case, way: str) -> None:
    """A frame is counted once by its opcode, its payload by what came, and a control frame is told unmasked."""
    follows = case.then != "inside"
    result = scan(pieces(way, case.data, BEFORE, AFTER if follows else b""))

    frames, payload, heard = Counter(case.frames), case.payload, list(case.heard)
    if way == "glued":
        frames += Counter({PING: 1, TEXT: 1})
        payload += 6
        heard.insert(0, Control(PING, b"be"))
        if case.then == "boundary":
            frames[BINARY] += 1
            payload += 5
    assert result.heard == heard
    assert result.tally == {**frames, **({PAYLOAD: payload} if payload else {})}
    skip, pending, lost, at_boundary = result.state
    assert at_boundary == (case.then == "boundary")
    assert lost == (case.then == "lost")
    if case.then != "inside":
        assert pending == b""
        assert skip == (0 if case.then == "boundary" else -1)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_frame_is_read_alike_after_one_of_its_kind(case: Case) -> None:
    """What came before changes nothing: after a frame of the same kind, whole or cut in two near its beginning, a frame
    is heard and counted as it is the first time."""
    opcode = case.data[0] & 0x0F if case.data[0] & 0x0F in (TEXT, BINARY) else TEXT
    for cut in range(min(len(case.data), 18)):
        result = scan([frame(opcode, b"like"), case.data[:cut], case.data[cut:]])
        assert result.heard == list(case.heard), cut
        assert result.tally == Counter(case.frames) + Counter({opcode: 1, PAYLOAD: 4 + case.payload}), cut
        assert result.state[2:] == (case.then == "lost", case.then == "boundary"), cut


def test_a_scanner_that_lost_track_tells_so_once_and_counts_no_more() -> None:
    """After a loss nothing is told, counted or kept, however much still comes."""
    tally = new_frame_counts()
    scanner = FrameScanner(tally)
    assert scanner.feed(frame(PING, fin=False), 1.0) == [Unparseable(NO_FIN)]
    scanner.flush_counts()
    before = list(tally)
    for data in (frame(TEXT, b"x"), close(1000), frame(PING, fin=False), b"\x81", b""):
        assert scanner.feed(data, 2.0) is None
    scanner.flush_counts()
    assert tally == before
    assert (scanner.pending, scanner.unobserved, scanner.at_boundary) == (b"", True, False)


def test_the_age_of_the_last_frame_stands_still_after_the_close() -> None:
    """``last`` is when bytes last came that were listened to: None before any, and unmoved after a Close."""
    scanner = FrameScanner(new_frame_counts())
    assert scanner.last is None
    scanner.feed(frame(TEXT, b"a"), 3.0)
    assert scanner.last == 3.0
    scanner.feed(frame(BINARY, bytes(70000))[:9], 4.0)
    assert scanner.last == 4.0
    scanner.feed(bytes(10), 5.0)
    assert scanner.last == 5.0
    scanner.stop()
    scanner.feed(b"more", 6.0)
    assert scanner.last == 5.0


def test_bytes_and_frames_move_while_a_frame_is_under_way() -> None:
    """A long payload counts as it comes, not at its end: 64 KiB of a gigabyte are 64 KiB."""
    tally = new_frame_counts()
    scanner = FrameScanner(tally)
    scanner.feed(frame(BINARY, b"", form=64, length=2**30), 0.0)
    scanner.flush_counts()
    assert (tally[BINARY], tally[PAYLOAD]) == (1, 0)
    for step in range(1, 5):
        scanner.feed(bytes(16384), 0.0)
        scanner.flush_counts()
        assert (tally[BINARY], tally[PAYLOAD]) == (1, step * 16384)
    assert not scanner.at_boundary


@pytest.mark.parametrize("first", [opcode for opcode in range(16) if opcode != CLOSE])
def test_what_is_not_settled_is_counted_once(first: int) -> None:
    """However often a scanner settles, whatever comes first and whichever opcodes alternate, each frame is in the tally
    once."""
    kinds = [first, TEXT, TEXT, BINARY, PING, BINARY, TEXT, 0x3, CONTINUATION, TEXT]
    stream = [frame(kind, bytes(at)) for at, kind in enumerate(kinds)]
    for often in (1, 2, 3, len(stream)):
        for chunks in (stream, [b"".join(stream)]):
            tally = new_frame_counts()
            scanner = FrameScanner(tally)
            for at, chunk in enumerate(chunks, 1):
                scanner.feed(chunk, 0.0)
                if at % often == 0:
                    scanner.flush_counts()
            scanner.flush_counts()
            assert {opcode: count for opcode, count in enumerate(tally[:PAYLOAD]) if count} == Counter(kinds)
            assert tally[PAYLOAD] == scanner.payload == sum(range(len(kinds)))


def test_runs_of_frames_between_others_are_all_found() -> None:
    """Runs of data frames of all lengths, a ping or a fragment between them: in one chunk as alone."""
    for run in (1, 2, 3, 7, 60, 64, 65, 200):
        frames = []
        for at in range(4 * run):
            frames.append(frame(BINARY if at % 5 else TEXT, bytes(at * 7 % 300), mask=KEY if at % 3 else b""))
            if at % run == 0:
                frames.append(frame(PING, b"x") if at % 2 else frame(TEXT, b"begun", fin=False))
        whole, alone = scan([b"".join(frames)]), scan(frames)
        assert (whole.heard, whole.tally, whole.state) == (alone.heard, alone.tally, alone.state)


def test_a_tally_is_shared() -> None:
    """Two scanners add to one tally, while each keeps its own count."""
    tally = new_frame_counts()
    first, second = FrameScanner(tally), FrameScanner(tally)
    first.feed(frame(TEXT, b"abc"), 0.0)
    second.feed(frame(TEXT, b"de"), 0.0)
    for scanner in (first, second, second):
        scanner.flush_counts()
    assert (tally[TEXT], tally[PAYLOAD]) == (2, 5)
    assert (first.payload, second.payload) == (3, 2)


@given(streams, cuts)
def test_facts_do_not_depend_on_the_segmentation(stream: bytes, where: list[int]) -> None:
    """For any bytes in any segmentation: the same facts, counts and state as for the whole, nothing raised, and never
    more kept than one control frame."""
    whole = scan([stream])
    assert scan(cut_at(stream, where)) == whole
    assert scan(singly(stream)) == whole


@given(st.binary(max_size=2000), cuts)
def test_random_bytes_harm_nothing(stream: bytes, where: list[int]) -> None:
    """Bytes that were never WebSocket are taken like any others."""
    assert scan(cut_at(stream, where)) == scan([stream])


@given(st.lists(clean_frames, max_size=10), cuts)
def test_a_boundary_is_known_after_every_whole_frame(sent: list[bytes], where: list[int]) -> None:
    """After whole frames the scanner stands at a boundary, having counted exactly these."""
    result = scan(cut_at(b"".join(sent), where))
    assert result.frames == len(sent)
    assert result.state == (0, b"", False, True)


@given(
    st.lists(
        st.tuples(st.sampled_from([TEXT, BINARY, CONTINUATION, PING, PONG]), st.binary(max_size=125), st.booleans()),
        max_size=8,
    ),
    cuts,
)
def test_frames_of_the_fields_library_are_read_as_written(
    sent: list[tuple[int, bytes, bool]], where: list[int]
) -> None:
    """Frames that the `websockets` library serialises come out with the opcodes and control payloads that went in."""
    stream = b"".join(
        field_library.Frame(field_library.Opcode(opcode), payload).serialize(mask=mask)
        for opcode, payload, mask in sent
    )
    result = scan(cut_at(stream, where))
    assert result.frames == len(sent)
    assert result.payload == sum(len(payload) for _, payload, _ in sent)
    assert result.heard == [Control(opcode, payload) for opcode, payload, _ in sent if opcode in (PING, PONG)]


@pytest.mark.parametrize("cut", range(1, 8))
def test_being_inside_a_message_does_not_depend_on_the_segmentation(cut: int) -> None:
    """A fragmented message is ended by its last continuation only; a whole message out of place does not end it."""
    scanner = FrameScanner(new_frame_counts())
    scanner.feed(frame(TEXT, b"begun", fin=False), 0.0)
    assert scanner.fragmented
    for segment in cut_at(frame(TEXT, b"whole"), [cut]):
        scanner.feed(segment, 0.0)
    assert scanner.fragmented
    for segment in cut_at(frame(CONTINUATION, b"last"), [cut]):
        scanner.feed(segment, 0.0)
    assert not scanner.fragmented
