"""What the two autobahn servers share: what they do with a message, and their options."""

from __future__ import annotations

import argparse
from typing import Any


class Echo:
    """One per connection; to stand before either of autobahn's own protocols."""

    def onMessage(self: Any, payload: bytes, isBinary: bool) -> None:
        """Echo one message."""
        if payload == b"raise":
            raise RuntimeError("told to")
        if payload == b"close":
            self.sendClose(4001, "done")
        else:
            self.sendMessage(payload, isBinary)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Say what was seen."""
        print("saw", wasClean, code, reason, flush=True)


def factory(factory: Any, protocol: Any) -> tuple[Any, int]:
    """A factory of servers as the command line wants them, and the port."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--keepalive", type=float, default=0)
    options = parser.parse_args()
    made = factory(f"ws://127.0.0.1:{options.port}")
    made.protocol = protocol
    made.setProtocolOptions(
        autoPingInterval=options.keepalive / 4,
        autoPingTimeout=options.keepalive,
        closeHandshakeTimeout=30,  # its one second is too short for a busy machine
    )
    return made, options.port
