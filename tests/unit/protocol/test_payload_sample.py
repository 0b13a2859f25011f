"""Payload sampling, which is off unless asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.protocol.direction import PAYLOAD, new_frame_counts
from exporter.protocol.enums import PEERS, Peer
from exporter.protocol.flight_recorder import unpack
from exporter.protocol.session import Session
from tests.wire import cut_at, cuts

KEY = b"\x11\x22\x33\x44"


def frame(first: int, payload: bytes, masked: bool = False) -> bytes:
    size = len(payload)
    mask = 0x80 if masked else 0
    head = bytes((first, mask | size)) if size < 126 else bytes((first, mask | 126)) + size.to_bytes(2, "big")
    if not masked:
        return head + payload
    return head + KEY + bytes(byte ^ KEY[n & 3] for n, byte in enumerate(payload))


CASES = {
    "one frame": ([frame(0x81, b"hello")], b"hello"),
    "masked": ([frame(0x82, b"hello", masked=True)], b"hello"),
    "the last message": ([frame(0x81, b"first"), frame(0x81, b"second", masked=True)], b"second"),
    "fragments with a ping between": (
        [frame(0x01, b"ab"), frame(0x89, b"ping"), frame(0x80, b"cd", masked=True)],
        b"abcd",
    ),
    "cut at the limit": ([frame(0x81, b"x" * 300, masked=True)], b"x" * 8),
    "an empty message": ([frame(0x81, b"before"), frame(0x81, b"")], b""),
    "nothing after a Close": ([frame(0x81, b"kept"), frame(0x88, b""), frame(0x81, b"not")], b"kept"),
    "nothing after a control frame without FIN": ([frame(0x81, b"kept"), b"\x09\x00", frame(0x81, b"not")], b"kept"),
    "nothing of a length with its top bit set": ([frame(0x81, b"kept"), b"\x82\x7f\xff" + bytes(7) + b"not"], b"kept"),
    "long header": ([frame(0x82, b"0123456789" * 20)], b"01234567"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("step", [1, 2, 3, 7, 10_000])
def test_the_first_bytes_of_the_last_message_are_kept(name, step):
    """Unmasked, over fragments, cut at the limit, however the bytes are cut into segments."""
    frames, expected = CASES[name]
    stream = b"".join(frames)
    session = Session(new_frame_counts(), new_frame_counts(), sample=8)
    for at in range(0, len(stream), step):
        session.feed(Peer.CLIENT, stream[at : at + step], 1.0)
    assert session.client.sample == expected
    assert session.server.sample == b""


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("step", [1, 5, 10_000])
def test_sampling_changes_no_count(name, step):
    """Frames, payload bytes, control frames and the flight recorder are the same with and without it."""
    stream = b"".join(CASES[name][0]) + frame(0x88, b"\x03\xe8bye", masked=True) + b"after"
    told = []
    for sample in (0, 8):
        tally = new_frame_counts()
        session = Session(tally, new_frame_counts(), sample=sample)
        facts = [
            f for at in range(0, len(stream), step) for f in session.feed(Peer.CLIENT, stream[at : at + step], 1.0)
        ]
        session.flush_counts()
        told.append((facts, tally, session.client.frames, session.client.payload, unpack(session.ring.in_order())))
    assert told[0] == told[1]
    assert told[0][1][PAYLOAD] > 0


def test_nothing_is_kept_by_default():
    """Without the setting no scanner has a sample, whatever passed."""
    session = Session(new_frame_counts(), new_frame_counts())
    for peer in PEERS:
        session.feed(peer, frame(0x81, b"private"), 1.0)
        assert session.scanner(peer).sample == b""


SENT = st.lists(
    st.tuples(
        st.sampled_from([0x81, 0x82, 0x01, 0x00, 0x80, 0x89, 0x8A, 0x83, 0x8B]),
        st.one_of(st.binary(max_size=6), st.binary(min_size=120, max_size=130)),
        st.booleans(),
    ).map(lambda sent: (sent[0], sent[1][:125], sent[2]) if sent[0] in (0x89, 0x8A) else sent),
    max_size=12,
)


@given(SENT, cuts, st.integers(1, 200))
def test_sample_of_any_frames_in_any_segmentation_is_the_last_message(sent, where, limit):
    """The sample is made of the payloads of the last text or binary frame and the continuations after it."""
    expected = b""
    for first, payload, _ in sent:
        if first & 0x0F in (1, 2):
            expected = b""
        if first & 0x0F <= 2:
            expected += payload
    stream = b"".join(frame(*each) for each in sent)
    for segments in ([stream], cut_at(stream, where)):
        session = Session(new_frame_counts(), new_frame_counts(), sample=limit)
        for segment in segments:
            session.feed(Peer.CLIENT, segment, 1.0)
        assert session.client.sample == expected[:limit]
