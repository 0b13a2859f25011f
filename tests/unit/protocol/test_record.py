"""The packed session record: what goes in comes out, and nothing else is accepted."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.protocol.enums import Cause, Peer, TcpEndKind
from exporter.protocol.flight_recorder import FRAMES, SLOT
from exporter.protocol.record import (
    MAX_ADDRESS,
    MAX_FORWARDED_FOR,
    MAX_PATH,
    MAX_REASON,
    MAX_SAMPLE,
    MAX_SUBPROTOCOL,
    MAX_TRACE_ID,
    CloseFrame,
    PeerRecord,
    SessionRecord,
)
from exporter.protocol.record_format import MAX_SIZE, VERSION, pack, unpack

UNSIGNED_64 = st.integers(0, 2**64 - 1)
SECONDS = st.floats(allow_nan=False)
MAYBE_SECONDS = st.none() | SECONDS


def texts(limit: int) -> st.SearchStrategy[str]:
    """Texts that fit a limit as UTF-8."""
    return st.text(max_size=limit).filter(lambda text: len(text.encode()) <= limit)


CLOSES = st.builds(CloseFrame, st.none() | st.just(-1) | st.integers(0, 65535), texts(MAX_REASON), SECONDS)
PEERS = st.builds(
    PeerRecord,
    UNSIGNED_64, UNSIGNED_64, MAYBE_SECONDS, MAYBE_SECONDS, UNSIGNED_64, st.integers(-1, 15), UNSIGNED_64,
    UNSIGNED_64, st.none() | CLOSES, MAYBE_SECONDS, st.booleans(), st.booleans(), st.booleans(), MAYBE_SECONDS,
    st.binary(max_size=MAX_SAMPLE),
)  # fmt: skip
RECORDS = st.builds(
    SessionRecord,
    st.integers(0, 65535), UNSIGNED_64, st.integers(0, 65535), SECONDS, SECONDS, SECONDS, UNSIGNED_64, PEERS, PEERS,
    st.none() | st.sampled_from(Peer), st.none() | st.sampled_from(Peer), st.sampled_from(TcpEndKind),
    st.none() | st.sampled_from(Cause), st.integers(0, 65535), st.booleans(), st.booleans(), texts(MAX_PATH),
    texts(MAX_ADDRESS), st.integers(0, 65535), texts(MAX_FORWARDED_FOR), texts(MAX_SUBPROTOCOL), texts(MAX_TRACE_ID),
    st.integers(0, FRAMES).map(lambda frames: bytes(range(SLOT)) * frames),
)  # fmt: skip


def largest() -> SessionRecord:
    """A record whose every part is over its limit."""
    text = "\U0001f600\udcff" * 2000
    peers = [
        PeerRecord(close=CloseFrame(4000, text, 1.0), sample=b"\xff" * 10_000, last_opcode=1),
        PeerRecord(close=CloseFrame(4001, "a" + text, 2.0), sample=b"\xff" * 10_000, last_opcode=1),
    ]
    return SessionRecord(
        client=peers[0], server=peers[1], path=text, peer_address=text, forwarded_for=text,
        subprotocol=text, trace_id=text, frames=bytes(range(SLOT)) * 1000,
    )  # fmt: skip


@given(RECORDS)
def test_record_within_limits_is_unpacked_as_it_was_packed(record):
    """Every field of a record survives the way from relay to observer."""
    assert unpack(pack(record)) == record


def test_record_over_every_limit_is_cut_to_fit():
    """A packed record has at most 4,096 bytes, and its texts end with a whole character."""
    packed = pack(largest())
    assert len(packed) <= MAX_SIZE
    record = unpack(packed)
    limits = {
        "path": MAX_PATH, "peer_address": MAX_ADDRESS, "forwarded_for": MAX_FORWARDED_FOR,
        "subprotocol": MAX_SUBPROTOCOL, "trace_id": MAX_TRACE_ID,
    }  # fmt: skip
    for name, limit in limits.items():
        text = getattr(record, name)
        assert limit - 4 < len(text.encode()) <= limit
        assert getattr(largest(), name).encode(errors="backslashreplace").startswith(text.encode())
    assert len(record.frames) == FRAMES * SLOT
    for peer in (record.client, record.server):
        assert len(peer.sample) == MAX_SAMPLE
        assert peer.close is not None
        assert MAX_REASON - 4 < len(peer.close.reason.encode()) <= MAX_REASON


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [("192.0.2.7", 5000, "192.0.2.7:5000"), ("2001:db8::1", 5000, "[2001:db8::1]:5000"), ("", 0, "")],
)
def test_record_address_of_ipv6_has_brackets(host, port, text):
    """A record's address has the port, an IPv6 one has brackets, and that of a Unix socket is empty."""
    assert SessionRecord(peer_address=host, peer_port=port).address == text


@given(st.text())
def test_record_with_any_text_is_cut_at_a_character(text):
    """A cut text is the beginning of what it was."""
    path = unpack(pack(SessionRecord(path=text))).path
    whole = text.encode(errors="backslashreplace").decode()
    assert whole.startswith(path)
    assert path == whole or len(path.encode()) > MAX_PATH - 4


@given(RECORDS, st.data())
def test_record_cut_short_or_too_long_is_refused(record, data):
    """A message that is no whole record raises ValueError."""
    packed = pack(record)
    with pytest.raises(ValueError, match="record"):
        unpack(packed[: data.draw(st.integers(0, len(packed) - 1))])
    with pytest.raises(ValueError, match="record"):
        unpack(packed + b"x")


@pytest.mark.parametrize("version", [0, 1, 255])
def test_record_of_another_version_is_refused(version):
    """A relay of another version is not misread."""
    with pytest.raises(ValueError, match="version"):
        unpack(bytes((version,)) + pack(SessionRecord())[1:])


@given(RECORDS, st.lists(st.tuples(st.integers(0, MAX_SIZE), st.integers(0, 255)), min_size=1, max_size=8))
def test_record_with_altered_bytes_is_a_record_or_refused(record, changes):
    """Whatever bytes come, unpack returns a record or raises ValueError."""
    packed = bytearray(pack(record))
    for at, byte in changes:
        packed[at % len(packed)] = byte
    with contextlib.suppress(ValueError):
        assert isinstance(unpack(bytes(packed)), SessionRecord)


@given(st.binary(max_size=MAX_SIZE + 1))
def test_record_of_random_bytes_is_a_record_or_refused(message):
    """Noise raises ValueError and nothing else."""
    with contextlib.suppress(ValueError):
        assert isinstance(unpack(bytes((VERSION,)) + message), SessionRecord)
