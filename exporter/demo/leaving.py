"""The ways in which visitors leave a chat, and how each looks on the wire."""

from __future__ import annotations

import json
import random
import socket
import struct
from enum import StrEnum

from websockets.asyncio.client import ClientConnection
from websockets.frames import CloseCode

from exporter.demo.app import MAX_MESSAGE

#: This chat's own code for "signed out"; 4000 to 4999 belong to applications (RFC 6455, section 7.4.2).
SIGNED_OUT_CODE = 4001

#: SO_LINGER on, zero seconds: closing the socket sends a reset in place of a FIN (socket(7)).
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Leaving(StrEnum):
    """One way to leave."""

    FINISHED = "finished"  # Close 1000
    TAB_CLOSED = "tab-closed"  # Close 1001, as browsers send on navigation, reload and a closed tab
    PAGE_CLOSED_IT = "page-closed-it"  # an empty Close, as a page's ws.close() sends: 1005
    SIGNED_OUT = "signed-out"  # Close 4001
    UNPLUGGED = "unplugged"  # TCP ends with FIN, no Close: 1006
    CRASHED = "crashed"  # TCP ends with a reset, no Close: 1006
    SHOUTED = "shouted"  # a message too big: the server closes with 1009
    BARGED_IN = "barged-in"  # speaks outside a room: the server closes with 1008


#: How often each is chosen, in parts of all: mostly weather, a little of everything.
WEIGHTS: dict[Leaving, int] = {
    Leaving.FINISHED: 30,
    Leaving.TAB_CLOSED: 40,
    Leaving.PAGE_CLOSED_IT: 10,
    Leaving.SIGNED_OUT: 8,
    Leaving.UNPLUGGED: 5,
    Leaving.CRASHED: 4,
    Leaving.SHOUTED: 1,
    Leaving.BARGED_IN: 2,
}


def choose(rng: random.Random) -> Leaving:
    """Draw a way to leave."""
    return rng.choices([*WEIGHTS], weights=[*WEIGHTS.values()])[0]


async def leave(connection: ClientConnection, way: Leaving) -> None:
    """End ``connection`` that way and wait until it has ended.

    :raises websockets.ConnectionClosed: when the server ended it first.
    """
    match way:
        case Leaving.FINISHED:
            await connection.close(CloseCode.NORMAL_CLOSURE)
        case Leaving.TAB_CLOSED:
            await connection.close(CloseCode.GOING_AWAY)
        case Leaving.SIGNED_OUT:
            await connection.close(SIGNED_OUT_CODE, "signed out")
        case Leaving.PAGE_CLOSED_IT:
            async with connection.send_context():  # close() always names a code
                connection.protocol.send_close()
        case Leaving.UNPLUGGED:
            connection.transport.abort()
        case Leaving.CRASHED:
            sock: socket.socket = connection.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            connection.transport.abort()
        case Leaving.SHOUTED:
            await connection.send(json.dumps({"type": "say", "text": "A" * (MAX_MESSAGE + 1)}))
        case Leaving.BARGED_IN:
            await connection.send(json.dumps({"type": "leave"}))
            await connection.send(json.dumps({"type": "say", "text": "and another thing"}))
    await connection.wait_closed()
