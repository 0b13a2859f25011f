"""A second reading of RFC 6455, section 5.2: slow, whole, and written without a look at the scanner it checks."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Reading:
    """What a direction's bytes mean.

    :ivar frames: opcodes of the frames whose header (for Close, Ping and Pong: whose whole frame) is there, in order.
    :ivar payload: payload bytes that were passed; of an unfinished Close, Ping or Pong none.
    :ivar controls: (opcode, unmasked payload) of the whole Close, Ping and Pong frames.
    :ivar lost: the bytes cannot be followed to their end.
    :ivar boundaries: offsets at which a frame may begin.
    """

    frames: list[int] = field(default_factory=list)
    payload: int = 0
    controls: list[tuple[int, bytes]] = field(default_factory=list)
    lost: bool = False
    boundaries: set[int] = field(default_factory=lambda: {0})


def read(data: bytes) -> Reading:
    """Read a direction from its first frame up to its Close frame, its end, or what cannot be followed."""
    reading = Reading()
    at = 0
    while at + 2 <= len(data):
        final, opcode = data[at] >= 0x80, data[at] % 16
        masked, size = data[at + 1] >= 0x80, data[at + 1] % 128
        known_control = opcode in (8, 9, 10)
        if known_control and (not final or size > 125):
            reading.lost = True
            return reading
        more = {126: 2, 127: 8}.get(size, 0)
        body = at + 2 + more + 4 * masked
        if body > len(data):
            return reading
        if more:
            size = int.from_bytes(data[at + 2 : at + 2 + more], "big")
        if size >= 1 << 63:
            reading.lost = True
            return reading
        payload = data[body : body + size]
        if known_control:
            if len(payload) < size:
                return reading
            key = data[body - 4 : body] if masked else bytes(4)
            plain = bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))
            reading.controls.append((opcode, plain))
        reading.frames.append(opcode)
        reading.payload += len(payload)
        at = body + size
        if at <= len(data):
            reading.boundaries.add(at)
        if opcode == 8:
            return reading
    return reading
