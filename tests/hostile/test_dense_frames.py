"""Floods of tiny frames: no turn of the relay's event loop is long, and memory stays where it is."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress

import pytest

from tests.compiled import plain_only
from tests.e2e.harness.scrape import CLOSED
from tests.e2e.harness.sidecar import Sidecar, open_session
from tests.e2e.harness.wire import Peer, RawApp
from tests.hostile.harness import MAX_CLIENT, SLACK, growth, long_turns, timed
from tests.integration.faults.harness import troubled

#: Bytes of one flood.
FLOOD = 4 * 1024 * 1024

FLOODS = {
    "empty pings": b"\x89\x80\x01\x02\x03\x04",
    "empty pongs": b"\x8a\x80\x01\x02\x03\x04",
    "empty texts": b"\x81\x80\x01\x02\x03\x04",
    "reserved opcodes": b"\x83\x00",
    "text and ping": b"\x81\x80\x01\x02\x03\x04\x89\x80\x01\x02\x03\x04",
    "fragments": b"\x01\x80\x01\x02\x03\x04\x80\x80\x01\x02\x03\x04",
}


def drain(peer: Peer) -> None:
    """Take everything that comes."""
    with suppress(OSError):
        while peer.some():
            pass


def flood(sidecar: Sidecar, app: RawApp, pattern: bytes, clients: int) -> None:
    """Have some clients send a pattern over and over, all at once, to an app that takes it."""
    opened = [open_session(sidecar, app) for _ in range(clients)]
    data = pattern * (FLOOD // len(pattern) // clients)
    threads = [threading.Thread(target=drain, args=(server,), daemon=True) for _, server in opened]
    threads += [threading.Thread(target=client.send, args=(data,), daemon=True) for client, _ in opened]
    for thread in threads:
        thread.start()
    for thread in threads[len(opened) :]:
        thread.join()
    for client, _ in opened:
        client.close()
    for thread in threads[: len(opened)]:
        thread.join()
    for _, server in opened:
        server.close()


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize(
    ("clients", "flags"), [(1, ()), (8, ()), (8, ("--record-payload", "640"))], ids=["one", "eight", "sampled"]
)
def test_dense_frames_turns_stay_short(raw_app: RawApp, name: str, clients: int, flags: Sequence[str]) -> None:
    """While clients send the densest frames there are, no turn is long, memory is bounded, every frame is counted."""
    with timed(raw_app.port, *flags) as sidecar:
        before = sidecar.scrape()
        with growth(sidecar.relay_pid, clients * MAX_CLIENT + SLACK):
            flood(sidecar, raw_app, FLOODS[name], clients)
        added = sidecar.settled(before, endings=clients)
        assert long_turns(added) == 0
        assert added.value("websocket_frames_total", sender="client") >= FLOOD // 6 - 100


@plain_only
def test_dense_frames_of_too_many_clients_go_on_unobserved(raw_app: RawApp) -> None:
    """When the relay has too much to parse, further sessions are forwarded alone; each end is counted."""
    with troubled(raw_app.port, altered=["exporter.relay.tunnel_leg.MAX_BEHIND=2"]) as sidecar:
        before = sidecar.scrape()
        flood(sidecar, raw_app, FLOODS["reserved opcodes"], 8)
        added = sidecar.settled(before, endings=8)
        unobserved = added.value("websocket_unobserved_connections_total", reason="overload")
        assert unobserved >= 1
        assert added.value(CLOSED, cause="unobserved") == unobserved
        assert added.value("websocket_unobserved_connections_total") == unobserved
