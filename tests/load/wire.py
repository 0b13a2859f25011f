"""What the load's clients and its app agree on, so that every byte is checked at both ends.

A session is a number of rounds. In each the client sends one binary frame of a fixed size with random content, masked
with the key zero (RFC 6455, section 5.3, allows any). The app answers with a frame of the same size that begins with
the CRC-32 of everything it has received in this session; the client compares it with what it sent. At the end the
client says in its Close what it received, likewise as a CRC-32, and the app compares: its answering Close is 1000, or
4000 if a byte was lost or altered on the way back.
"""

from __future__ import annotations

import struct

#: Bytes of a frame's payload.
SIZE = 128
#: Frames: FIN and opcode 2, payload length in the next two bytes.
CLIENT_HEAD = bytes((0x82, 0x80 | 126)) + struct.pack("!H", SIZE) + bytes(4)
SERVER_HEAD = bytes((0x82, 126)) + struct.pack("!H", SIZE)
CLIENT_FRAME = len(CLIENT_HEAD) + SIZE
SERVER_FRAME = len(SERVER_HEAD) + SIZE

GOOD, BAD = 1000, 4000


def client_close(code: int, reason: bytes) -> bytes:
    """A Close, masked with the key zero."""
    return bytes((0x88, 0x80 | (2 + len(reason)))) + bytes(4) + struct.pack("!H", code) + reason


def server_close(code: int) -> bytes:
    """A Close."""
    return b"\x88\x02" + struct.pack("!H", code)


def checksum(crc: int) -> bytes:
    """A CRC as it goes over the wire."""
    return struct.pack("!I", crc)
