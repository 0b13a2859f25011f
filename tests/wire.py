"""The wire, for tests: frames written by hand after RFC 6455, section 5.2, and the three ways in which bytes arrive.

Every wire case is played *whole* (one segment), *bytewise* (one segment a byte) and *glued* (one segment together with
the traffic before and after it).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from hypothesis import strategies as st

WAYS = ("whole", "bytewise", "glued")

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

#: A masking key (the one of RFC 6455, section 5.7).
KEY = bytes.fromhex("37fa213d")


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes = b"",
    form: int = 0,
    length: int | None = None,
) -> bytes:
    """One frame.

    :param form: bits that the length is written in, 7, 16 or 64; 0 is the shortest that fits.
    :param length: the length that the header announces, if it is not the payload's.
    """
    announced = len(payload) if length is None else length
    form = form or (7 if announced < 126 else 16 if announced < 65536 else 64)
    masked = 0x80 if mask else 0
    head = bytes((fin << 7 | rsv << 4 | opcode,))
    match form:
        case 7:
            head += bytes((masked | announced,))
        case 16:
            head += bytes((masked | 126,)) + announced.to_bytes(2, "big")
        case _:
            head += bytes((masked | 127,)) + announced.to_bytes(8, "big")
    return head + mask + masking(payload, mask)


def masking(payload: bytes, key: bytes) -> bytes:
    """Mask or unmask (RFC 6455, section 5.3); an empty key leaves the payload as it is."""
    return bytes(byte ^ key[index % 4] for index, byte in enumerate(payload)) if key else payload


def body(code: int | None = None, reason: bytes = b"") -> bytes:
    """The payload of a Close frame."""
    return b"" if code is None else code.to_bytes(2, "big") + reason


def close(code: int | None = None, reason: bytes = b"", mask: bytes = b"") -> bytes:
    """A Close frame."""
    return frame(CLOSE, body(code, reason), mask=mask)


def singly(data: bytes) -> list[bytes]:
    """``data`` byte by byte."""
    return [data[at : at + 1] for at in range(len(data))]


def pieces(way: str, data: bytes, before: bytes = b"", after: bytes = b"") -> list[bytes]:
    """The segments in which ``data`` arrives; only the glued way has neighbours."""
    return {"whole": [data], "bytewise": singly(data), "glued": [before + data + after]}[way]


def cut_at(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """``data`` cut at these offsets, which may repeat and lie anywhere."""
    marks = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(marks)]


#: Offsets at which to cut a stream.
cuts = st.lists(st.integers(0, 10_000), max_size=30)

_frames = st.builds(
    frame,
    st.sampled_from([CONTINUATION, TEXT, BINARY, PING, PONG, TEXT, BINARY, CLOSE, *range(16)]),
    st.one_of(st.binary(max_size=8), st.binary(min_size=120, max_size=130), st.binary(max_size=300)),
    fin=st.sampled_from([True, True, True, False]),
    rsv=st.sampled_from([0, 0, 4, 2, 1, 7]),
    mask=st.sampled_from([b"", KEY, b"\0\0\0\0", b"\xff\x00\x81\x88"]),
    form=st.sampled_from([0, 0, 0, 16, 64]),
)
_odd = st.one_of(
    st.binary(max_size=40),
    st.builds(frame, st.integers(0, 15), st.binary(max_size=20), form=st.just(64), length=st.integers(0, 2**64 - 1)),
)

#: Streams of one direction: mostly frames, so that the scanner gets far, with anything at all in between.
streams = st.lists(st.one_of(_frames, _frames, _frames, _odd), max_size=12).map(b"".join)
#: Streams that a correct peer could send: followed to their end.
clean_frames = st.builds(
    frame,
    st.sampled_from([CONTINUATION, TEXT, BINARY, 0x3, 0xB]),
    st.one_of(st.binary(max_size=8), st.binary(max_size=300)),
    fin=st.booleans(),
    mask=st.sampled_from([b"", KEY]),
    form=st.sampled_from([0, 0, 16, 64]),
)
