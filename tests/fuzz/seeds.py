"""The inputs that fuzzing starts from: ``python -m tests.fuzz.seeds`` writes them into the corpus.

A fuzzer finds its way from real traffic faster than from nothing: one seed for each kind of thing that happens.
"""

from __future__ import annotations

import struct
from pathlib import Path

from websockets.frames import Frame, Opcode

from exporter.protocol.enums import Peer
from tests.e2e.harness.wire import switching_protocols, upgrade_request
from tests.fuzz.script import Kind, record, step

CORPUS = Path(__file__).parent / "corpus"

_C, _S = Peer.CLIENT, Peer.SERVER


def frame(sender: Peer, opcode: int, payload: bytes = b"", fin: bool = True) -> bytes:
    """One frame; a client's is masked with a fixed key."""
    plain = Frame(Opcode(opcode), payload, fin=fin).serialize(mask=False)
    if sender is _S:
        return plain
    head, key = bytearray(plain[: len(plain) - len(payload)]), b"\x37\xfa\x21\x3d"
    head[1] |= 0x80
    return bytes(head) + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


def close(sender: Peer, code: int | None, reason: str = "") -> bytes:
    """A Close frame."""
    return frame(sender, 8, b"" if code is None else struct.pack("!H", code) + reason.encode())


def _streams(sender: Peer) -> dict[str, bytes]:
    return {
        "text": frame(sender, 1, b"hello"),
        "medium": frame(sender, 2, bytes(300)),
        "large": frame(sender, 2, bytes(66_000))[:200],
        "fragments": frame(sender, 1, b"a", fin=False) + frame(sender, 9, b"?") + frame(sender, 0, b"b"),
        "close": close(sender, 1011, "out of cheese") + frame(sender, 1, b"late"),
        "empty-close": close(sender, None),
        "keepalive": close(sender, 1011, "keepalive ping timeout"),
        "one-byte-close": bytes((0x88, 1, 3)),
        "long-control": bytes((0x89, 126, 0, 200)) + bytes(200),
        "control-without-fin": bytes((0x09, 0)),
        "top-bit": bytes((0x82, 127, 0x80)) + bytes(7),
        "reserved": bytes((0x83, 2, 1, 2, 0x8B, 1, 1)) + frame(sender, 10),
        "compressed": bytes((0xC1, 3, 1, 2, 3)),
        "dense": frame(sender, 9) * 20
        + frame(sender, 1) * 20
        + frame(sender, 0, fin=False) * 5
        + bytes((0x83, 0)) * 20,
        "http-text": frame(sender, 1, b"fine") + b"HTTP/1.1 500 Internal Server Error\r\n\r\n",
        "heartbeats": frame(sender, 1, b"2") + frame(sender, 1, b"3"),
    }


_REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
_GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
_TRAILERS = b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nExpires: 0\r\nDigest: x\r\n\r\n"
_HEADERS = (
    "X-Forwarded-For: 203.0.113.7\r\nUser-Agent: x\r\n"
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
)


def _openings() -> dict[str, bytes]:
    asked = record(_C, upgrade_request("/chat/1?token=x", _HEADERS))
    opened = asked + record(_S, switching_protocols())
    return {
        "switched": opened + record(_C, frame(_C, 1, b"hi")) + record(_S, close(_S, 1001)),
        "glued": record(_C, upgrade_request() + frame(_C, 1, b"early"))
        + record(_S, switching_protocols() + close(_S, 1011)),
        "unanswered": asked,
        "refused": asked + record(_S, _REFUSAL) + record(_C, _GET) + record(_S, _CHUNKED),
        "second-try": asked + record(_S, _REFUSAL) + opened,
        "interim": asked + record(_S, b"HTTP/1.1 103 Early Hints\r\n\r\n" + switching_protocols()),
        "pipelined": record(_C, _GET * 3 + upgrade_request()) + record(_S, _CHUNKED * 3 + switching_protocols()),
        "head": record(_C, b"HEAD / HTTP/1.1\r\n\r\n") + record(_S, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
        "tls": record(_C, bytes.fromhex("16030100f8010000f40303")),
        "http2": record(_C, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        "garbage": record(_C, b"\x00\xff\xfe"),
        "h2c": record(_C, b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        + record(_S, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
        "connect": record(_C, b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n") + record(_S, b"HTTP/1.1 200 OK\r\n\r\nx"),
        "long-head": record(_C, b"GET / HTTP/1.1\r\nX: ") + bytes((0 | 9 << 3, 100)) + b"x" * 100,
        "trailers": record(_C, b"POST / HTTP/1.1\r\n" + _TRAILERS) + record(_S, b"HTTP/1.1 200 OK\r\n" + _TRAILERS),
        "long-trailer": record(_C, b"POST / HTTP/1.1\r\n" + _TRAILERS[:-4]) + bytes((0 | 9 << 3, 100)) + b"x" * 100,
        "tiny-chunks": record(_C, b"POST / HTTP/1.1\r\n" + _TRAILERS[:30])
        + bytes((0 | 9 << 3, 12))
        + b"1\r\na\r\n2\r\nb",
        "body": record(_C, b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody") + record(_S, _CHUNKED),
    }


def _sessions() -> dict[str, bytes]:
    seeds = {f"client-{name}": record(_C, data) for name, data in _streams(_C).items()}
    seeds |= {f"server-{name}": record(_S, data) for name, data in _streams(_S).items()}
    seeds["clean"] = record(_S, close(_S, 1000)) + record(_C, close(_C, 1000)) + step(_S, Kind.FIN) + step(_C, Kind.FIN)
    seeds["reset"] = record(_C, frame(_C, 1, b"x")) + step(_S, Kind.RESET) + step(_C, Kind.FIN)
    seeds["drained"] = step(_C, Kind.TURN, 1) + record(_C, close(_C, 1001)) + step(_C, Kind.FIN)
    seeds["cut-off"] = record(_S, close(_S, 1011, "x")[:-1]) + step(_S, Kind.FIN)
    return seeds


def _relays() -> dict[str, bytes]:
    flood = bytes((1 | 9 << 3, 254)) + frame(_S, 2, bytes(250))  # 130 KB
    opened = record(_C, upgrade_request("/chat/1", _HEADERS)) + record(_S, switching_protocols())
    seeds = {f"opening-{name}": b"\0" + data for name, data in _openings().items()}
    seeds |= {f"session-{name}": b"\0" + opened + data for name, data in _sessions().items()}
    seeds |= {
        "no-app": b"\1" + record(_C, upgrade_request()),
        "late-app": b"\2" + record(_C, upgrade_request()) + step(_C, Kind.TURN, 6) + record(_S, switching_protocols()),
        "full": b"\14" + record(_C, upgrade_request()),
        "slow-reader": b"\0" + opened + step(_C, Kind.TURN, 2) + flood * 4 + record(_S, frame(_S, 1, b"more"))
        + step(_C, Kind.TURN, 3) + step(_S, Kind.FIN),
        "drain": b"\0" + opened + step(_C, Kind.TURN, 4) + record(_C, close(_C, 1001)) + step(_C, Kind.FIN),
        "drain-inside-a-frame": b"\0" + opened + record(_S, frame(_S, 2, bytes(100))[:50]) + step(_C, Kind.TURN, 4)
        + record(_S, bytes(52) + frame(_S, 1, b"dropped")) + record(_C, close(_C, 1001)),
        "drain-unanswered": b"\0" + opened + step(_C, Kind.TURN, 4) + step(_C, Kind.TURN, 1) + step(_S, Kind.FIN),
        "cut": b"\0" + opened + record(_S, frame(_S, 2, bytes(100))[:50]) + step(_C, Kind.TURN, 5),
        "half-closed": b"\0" + opened + step(_C, Kind.FIN) + record(_S, frame(_S, 1, b"tail")) + step(_S, Kind.FIN),
        "reset-with-data": b"\0" + opened + step(_S, Kind.TURN, 2) + record(_C, close(_C, 1001)) + step(_C, Kind.RESET),
        "silent": b"\0" + step(_C, Kind.TURN, 1),
        "dense-pings": b"\0" + opened + bytes((0 | 9 << 3, 252)) + frame(_C, 9) * 42 + step(_C, Kind.RESET),
        "dense-then-drain": b"\0" + opened + bytes((1 | 9 << 3, 252)) + frame(_S, 9) * 126 + step(_C, Kind.TURN, 4),
        "reset-before-101": b"\0" + record(_C, upgrade_request("/chat/1", _HEADERS)) + step(_S, Kind.RESET),
    }  # fmt: skip
    return seeds


_DEPLOYMENT = b"""apiVersion: apps/v1
kind: Deployment
metadata: {name: chat}
spec:
  selector: {matchLabels: {app: chat}}
  template:
    metadata: {labels: {app: chat}}
    spec:
      containers:
      - name: chat
        image: chat:1
        ports: [{containerPort: 8080}]
"""
_SERVICE = b"""apiVersion: v1
kind: Service
metadata: {name: chat}
spec: {selector: {app: chat}, ports: [{port: 80, targetPort: 8080}]}
"""


def seeds() -> dict[str, dict[str, bytes]]:
    """Every seed, by target and name."""
    return {
        "scanner": {
            f"{peer}-{name}-{stride}": bytes((stride,)) + data
            for stride in (0, 5, 255)
            for peer in (_C, _S)
            for name, data in _streams(peer).items()
        },
        "http": _openings(),
        "session": _sessions(),
        "relay": _relays(),
        "text": {"path": b"/a?b=c", "break": b"x\r\ny\x1b[31m", "bidi": "\u202eabc".encode(), "long": b"x" * 400},
        "inject": {
            "deployment": _DEPLOYMENT,
            "with-service": _DEPLOYMENT + b"---\n" + _SERVICE,
            "list": b"apiVersion: v1\nkind: List\nitems: [{kind: Pod, spec: {containers: [{name: a}]}}]\n",
            "anchors": b"a: &a {b: 1}\nc: *a\n",
            "empty": b"---\n...\n",
        },
    }


def main() -> None:
    """Write them all."""
    for target, inputs in seeds().items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in inputs.items():
            (folder / f"seed-{name}").write_bytes(data)


if __name__ == "__main__":
    main()
