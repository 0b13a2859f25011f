"""What leaves is what came: big, small, slow and broken things, byte for byte; both peers are raw."""

from __future__ import annotations

import random
import threading

import pytest
from websockets.frames import Opcode
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from tests.ports import free_port
from tests.waiting import WAIT_LIMIT, eventually

from .harness.sidecar import Sidecar, open_session
from .harness.wire import (
    Peer,
    RawApp,
    Sender,
    close_frame,
    frame,
    noise,
    random_segments,
    switching_protocols,
    upgrade_request,
)

KIB, MIB = 1024, 1024 * 1024

FRAMES = "websocket_frames_total"
PAYLOAD = "websocket_payload_bytes_total"
UNOBSERVED = "websocket_unobserved_connections_total"
HANDSHAKES = "websocket_handshakes_total"

FLOOD = 200 * MIB
RSS_BOUND_KIB = 4 * KIB
"""A few hundred KiB are expected; the allocator's arenas are not ours to count."""


def stream(size: int, *, masked: bool) -> tuple[bytes, int, int]:
    """About `size` bytes of binary frames of all sizes: the bytes, the frames, the payload's bytes."""
    dice = random.Random(size + masked)
    sizes = (0, 1, 125, 126, 127, 65_535, 65_536, 300_000)
    wire, frames, payload = bytearray(), 0, 0
    while len(wire) < size:
        body = noise(dice.choice(sizes))
        wire += frame(Opcode.BINARY, body, masked=masked)
        frames += 1
        payload += len(body)
    return bytes(wire), frames, payload


def send_segments(peer: Peer, data: bytes) -> None:
    """Send in odd pieces."""
    for segment in random_segments(data):
        peer.send(segment)


def test_ten_mebibytes_both_ways_at_once(raw_sidecar: Sidecar, raw_app: RawApp) -> None:
    """10 MiB of frames each way in odd segments arrive exactly; every frame and payload byte is counted."""
    before = raw_sidecar.scrape()
    up, up_frames, up_payload = stream(10 * MIB, masked=True)
    down, down_frames, down_payload = stream(10 * MIB, masked=False)
    client, server = open_session(raw_sidecar, raw_app)
    received: dict[str, bytes] = {}
    threads = [
        threading.Thread(target=send_segments, args=(client, up)),
        threading.Thread(target=send_segments, args=(server, down)),
        threading.Thread(target=lambda: received.update(up=server.exactly(len(up)))),
        threading.Thread(target=lambda: received.update(down=client.exactly(len(down)))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert received["up"] == up
    assert received["down"] == down

    live = raw_sidecar.scrape().since(before)
    assert live.by(FRAMES, "sender") == {"client": up_frames, "server": down_frames}
    assert live.by(FRAMES, "opcode") == {"binary": up_frames + down_frames}
    assert live.by(PAYLOAD, "sender") == {"client": up_payload, "server": down_payload}
    assert live.endings() == {}
    client.close()
    server.close()
    assert raw_sidecar.settled(before).nonzero(UNOBSERVED) == {}


@pytest.mark.parametrize("first", ["client", "server"])
def test_half_close_passes_on(raw_sidecar: Sidecar, raw_app: RawApp, first: str) -> None:
    """A peer that has said its last (FIN) still gets the 1 MiB that the other one is sending."""
    before = raw_sidecar.scrape()
    client, server = open_session(raw_sidecar, raw_app)
    quiet, talker = (client, server) if first == "client" else (server, client)
    quiet.half_close()
    assert talker.rest() == b""
    data = frame(Opcode.BINARY, noise(MIB), masked=talker is client)
    sender = Sender(talker, data)
    sender.start()
    assert quiet.exactly(len(data)) == data
    sender.join()
    talker.close()
    assert quiet.rest() == b""
    quiet.close()
    assert raw_sidecar.settled(before).endings() == {("1006", "connection-lost", first): 1}


def test_byte_by_byte(raw_sidecar: Sidecar, raw_app: RawApp) -> None:
    """A session sent one byte at a time, the handshake included, is forwarded and judged as any other."""
    before = raw_sidecar.scrape()
    client = Peer.connect(raw_sidecar.port)
    up = upgrade_request() + frame(Opcode.TEXT, b"hello", masked=True)
    down = switching_protocols() + frame(Opcode.PONG, b"", masked=False)
    down += close_frame(1012, "bye", masked=False)
    for byte in up:
        client.send(bytes([byte]))
    server = raw_app.accept()
    assert server.exactly(len(up)) == up
    for byte in down:
        server.send(bytes([byte]))
    assert client.exactly(len(down)) == down
    client.close()
    server.close()
    added = raw_sidecar.settled(before)
    assert added.endings() == {("1012", "service-restart", "server"): 1}
    assert added.by(FRAMES, "opcode") == {"text": 1, "pong": 1, "close": 1}


def test_early_frames_are_seen_once(raw_sidecar: Sidecar, raw_app: RawApp) -> None:
    """Frames glued to the client's request, before any 101, and frames glued to the 101 count once."""
    before = raw_sidecar.scrape()
    up = upgrade_request() + frame(Opcode.TEXT, b"early", masked=True) + frame(Opcode.PING, b"!", masked=True)
    down = switching_protocols() + frame(Opcode.BINARY, b"\x00" * 300, masked=False)
    down += close_frame(1013, masked=False)
    client = Peer.connect(raw_sidecar.port)
    client.send(up)
    server = raw_app.accept()
    server.send(down)
    assert server.exactly(len(up)) == up
    assert client.exactly(len(down)) == down
    answer = close_frame(1013, masked=True)
    client.send(answer)
    assert server.exactly(len(answer)) == answer
    server.close()
    client.close()
    added = raw_sidecar.settled(before)
    assert added.endings() == {("1013", "try-again-later", "server"): 1}
    assert added.by(FRAMES, "opcode") == {"text": 1, "ping": 1, "binary": 1, "close": 2}
    assert added.by(PAYLOAD, "sender") == {"client": 5 + 1 + 2, "server": 300 + 2}


def test_a_client_that_left_before_the_101(raw_sidecar: Sidecar, raw_app: RawApp) -> None:
    """A client that ends TCP before the 101 and gets it nevertheless had a session, which it ended itself."""
    before = raw_sidecar.scrape()
    client = Peer.connect(raw_sidecar.port)
    client.send(upgrade_request())
    server = raw_app.accept()
    client.half_close()
    assert server.rest() == upgrade_request()
    server.send(switching_protocols())
    assert client.until(b"\r\n\r\n") == switching_protocols()
    server.close()
    client.close()
    assert raw_sidecar.settled(before).endings() == {("1006", "connection-lost", "client"): 1}


def test_an_upgrade_without_answer_is_aborted(raw_sidecar: Sidecar, raw_app: RawApp) -> None:
    """An upgrade that ends with no answer at all is a handshake with status `aborted`, and no session."""
    before = raw_sidecar.scrape()
    client = Peer.connect(raw_sidecar.port)
    client.send(upgrade_request())
    server = raw_app.accept()
    server.until(b"\r\n\r\n")
    server.close()
    assert client.rest() == b""
    client.close()
    eventually(lambda: raw_sidecar.scrape().since(before).value(HANDSHAKES), "the handshake is counted")
    added = raw_sidecar.scrape().since(before)
    assert added.by(HANDSHAKES, "status") == {"aborted": 1}
    assert added.endings() == {}


EXCHANGES = [
    # request, answer: one of each way in which HTTP/1.1 says where a body ends (RFC 9112, section 6.3)
    (b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    (
        b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ),
    (b"HEAD /c HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    (b"GET /d HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    (b"PUT /e HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", b"HTTP/1.1 204 No Content\r\n\r\n"),
    (
        b"POST /f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nGET \r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </s>\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
    ),
]


def test_a_hundred_requests_then_an_upgrade(raw_sidecar: Sidecar, raw_app: RawApp) -> None:
    """A kept-alive connection carries plain HTTP, uncounted, until its hundred-and-first request upgrades."""
    before = raw_sidecar.scrape()
    client = Peer.connect(raw_sidecar.port)
    server: Peer | None = None
    for turn in range(100):
        request, answer = EXCHANGES[turn % len(EXCHANGES)]
        client.send(request)
        server = server or raw_app.accept()
        assert server.exactly(len(request)) == request
        server.send(answer)
        assert client.exactly(len(answer)) == answer
    assert server is not None
    assert raw_sidecar.scrape().since(before).nonzero(HANDSHAKES) == {}

    client.send(upgrade_request("/late"))
    assert server.accept_handshake() == upgrade_request("/late")
    client.until(b"\r\n\r\n")
    server.send(close_frame(1011, masked=False))
    client.exactly(4)
    client.close()
    server.close()
    added = raw_sidecar.settled(before)
    assert added.endings() == {("1011", "internal-error", "server"): 1}
    assert added.by(HANDSHAKES, "status") == {"101": 1}
    assert added.nonzero(UNOBSERVED) == {}


def test_a_refused_upgrade_then_another(raw_sidecar: Sidecar, raw_app: RawApp) -> None:
    """A 401 to an upgrade is a handshake without a session; the same connection may try again."""
    before = raw_sidecar.scrape()
    client = Peer.connect(raw_sidecar.port)
    client.send(upgrade_request())
    server = raw_app.accept()
    server.until(b"\r\n\r\n")
    refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"
    server.send(refusal)
    assert client.exactly(len(refusal)) == refusal
    client.send(upgrade_request())
    server.accept_handshake()
    client.until(b"\r\n\r\n")
    client.close()
    server.rest()
    server.close()
    added = raw_sidecar.settled(before)
    assert added.by(HANDSHAKES, "status") == {"401": 1, "101": 1}
    assert added.endings() == {("1006", "connection-lost", "client"): 1}


STRANGERS = [
    ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    ("http2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04\x00\x00\x00\x00\x00"),
    ("http1", b"\x00\xff\x00\xfenot http at all\r\n\r\n"),
]


@pytest.mark.parametrize(("reason", "opening"), STRANGERS, ids=[row[0] for row in STRANGERS])
def test_a_strange_protocol_passes_through(raw_sidecar: Sidecar, raw_app: RawApp, reason: str, opening: bytes) -> None:
    """What is not HTTP/1.1 is forwarded untouched and counts as unobserved: no handshake, no ending."""
    before = raw_sidecar.scrape()
    up, down = opening + noise(100_000), noise(100_000)
    client = Peer.connect(raw_sidecar.port)
    sender = Sender(client, up)
    sender.start()
    server = raw_app.accept()
    assert server.exactly(len(up)) == up
    sender.join()
    sender = Sender(server, down)
    sender.start()
    assert client.exactly(len(down)) == down
    sender.join()
    client.half_close()
    assert server.rest() == b""
    server.close()
    assert client.rest() == b""
    client.close()
    added = raw_sidecar.scrape().since(before)
    assert added.by(UNOBSERVED, "reason") == {reason: 1}
    assert added.nonzero(HANDSHAKES) == {}
    assert added.endings() == {}


BROKEN = [
    ("a Ping of 126 bytes", bytes([0x89, 126, 0, 126]) + bytes(126)),
    ("a fragmented Close", bytes([0x08, 2, 3, 243])),
    ("a length with its top bit set", bytes([0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 1])),
]


@pytest.mark.parametrize(("name", "broken"), BROKEN, ids=[row[0] for row in BROKEN])
def test_a_frame_that_cannot_be_followed(raw_sidecar: Sidecar, raw_app: RawApp, name: str, broken: bytes) -> None:
    """After such a frame the traffic goes on untouched, and the session ends as unknown, once."""
    before = raw_sidecar.scrape()
    client, server = open_session(raw_sidecar, raw_app)
    down = frame(Opcode.TEXT, b"fine", masked=False) + broken + noise(MIB)
    sender = Sender(server, down)
    sender.start()
    assert client.exactly(len(down)) == down, name
    sender.join()
    client.send(up := frame(Opcode.BINARY, noise(100_000), masked=True))
    assert server.exactly(len(up)) == up
    client.close()
    assert server.rest() == b""
    server.close()
    added = raw_sidecar.settled(before)
    assert added.endings() == {("unknown", "unobserved", "client"): 1}
    assert added.by(UNOBSERVED, "reason") == {"frame": 1}


def test_compressed_messages_are_counted() -> None:
    """permessage-deflate, `websockets` on both ends: frames are counted, and the ending is understood."""

    def echo(websocket: ServerConnection) -> None:
        for message in websocket:
            websocket.send(message)

    port = free_port()
    with serve(echo, "127.0.0.1", port) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        sidecar = Sidecar(port)
        try:
            before = sidecar.scrape()
            with connect(sidecar.url, ping_interval=None, close_timeout=WAIT_LIMIT) as client:
                assert client.response is not None
                assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
                for _ in range(10):
                    client.send("la " * 10_000)
                    assert client.recv(timeout=WAIT_LIMIT) == "la " * 10_000
            added = sidecar.settled(before)
            assert added.endings() == {("1000", "normal", "client"): 1}
            assert added.value(FRAMES, sender="client", opcode="text") == 10
            assert added.value(FRAMES, sender="server", opcode="text") >= 10
            assert added.value(PAYLOAD, sender="client") < 30_000, "bytes as they are on the wire"
        finally:
            sidecar.stop()
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("flooder", ["client", "server"])
def test_a_slow_reader_costs_little(raw_app: RawApp, flooder: str) -> None:
    """Back-pressure: 200 MiB offered to a peer that does not read stay with their sender, then all arrive."""
    sidecar = Sidecar(raw_app.port)
    try:
        client, server = open_session(sidecar, raw_app, receive_buffer=64 * KIB)
        sender_end, reader_end = (client, server) if flooder == "client" else (server, client)
        warm_up = frame(Opcode.BINARY, noise(MIB), masked=flooder == "client")
        thread = Sender(sender_end, warm_up)
        thread.start()
        reader_end.exactly(len(warm_up))
        thread.join()
        rss = sidecar.process.rss_kib()

        thread = Sender(sender_end, warm_up, FLOOD // MIB)
        thread.start()
        assert stalled(thread), "the flood must not vanish into the sidecar's memory"
        assert sidecar.process.rss_kib() - rss < RSS_BOUND_KIB

        left = thread.offered
        while left:
            data = reader_end.exactly(min(left, MIB))
            left -= len(data)
        thread.join()
        assert sidecar.process.rss_kib() - rss < RSS_BOUND_KIB
        client.close()
        server.close()
    finally:
        sidecar.stop()


def stalled(sender: Sender) -> bool:
    """Wait until the sender makes no headway any more; False if it got rid of everything."""
    seen, since = -1, 0

    def no_headway() -> bool:
        nonlocal seen, since
        since = since + 1 if sender.taken == seen else 0
        seen = sender.taken
        return since > 30 or not sender.is_alive()

    eventually(no_headway, "the flood comes to a halt", 60)
    return sender.is_alive() and sender.taken < sender.offered
