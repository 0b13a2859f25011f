"""Sessions for the observer's tests, played without sockets: openings, bytes, ends, on a clock that stands still."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partialmethod
from typing import Any

from exporter.observe.inline.metrics import Metrics
from exporter.observe.inline.recorder import LogEndings, Record, Recorder
from exporter.protocol.close_codes import CloseCodeMap
from exporter.protocol.enums import Cause, Peer, TcpEndKind
from exporter.protocol.http1_parser import Request, Response
from exporter.protocol.routes import Router

ROUTES = ("/chat/*", "/feed")
CODES = {4401: Cause.UNAUTHORIZED}


@dataclass
class Opening:
    """An answered opening handshake."""

    request: Request
    response: Response
    client: str = "192.0.2.7:40000"
    seconds: float = 0.003


def opening(target: str = "/chat/1?token=secret", **request: Any) -> Opening:
    asked = Request(method="GET", target=target, upgrade=True, websocket=True, **request)
    return Opening(asked, Response(status=101, subprotocol="chat.v2"))


@dataclass
class Lines:
    """A logger that keeps its lines: (level, event, fields)."""

    lines: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def _add(self, level: str, event: str, fields: dict[str, Any] | None = None, **more: Any) -> None:
        self.lines.append((level, event, {**(fields or {}), **more}))

    info = partialmethod(_add, "info")
    warning = partialmethod(_add, "warning")
    error = partialmethod(_add, "error")


class Stage:
    """A recorder with a clock that the test moves."""

    def __init__(self, log_endings: LogEndings = "abnormal", log: Any = None) -> None:
        self.now = 1024.0
        self.lines = Lines()
        book = CloseCodeMap(CODES)
        router = Router(ROUTES)
        self.metrics = Metrics(router.names, book, "1.2.3", "python")
        self.recorder = Recorder(self.metrics, router, book, log_endings, log=log or self.lines, clock=lambda: self.now)

    def play(
        self,
        opened: Opening | None = None,
        client: bytes = b"",
        server: bytes = b"",
        end: tuple[Peer, TcpEndKind] = (Peer.CLIENT, TcpEndKind.FIN),
        seconds: float = 2.5,
        app_alive: bool = True,
    ) -> Record:
        """One session: what each peer sends, the server first; whose TCP ends how, after how long."""
        record = self.recorder.opened(opened or opening())
        record.session.feed(Peer.SERVER, server, self.now)
        record.session.feed(Peer.CLIENT, client, self.now + 1)
        self.now += seconds
        record.session.eof(*end)
        record.closed(record.session.end(app_alive), self.now)
        return record

    def value(self, name: str, **labels: str) -> float:
        """One series' value; fails if there is no such series."""
        for _ in self.metrics.flush_counts():
            pass
        value = self.metrics.registry.get_sample_value(name, labels)
        assert value is not None, f"no series {name}{labels}"
        return value

    def series(self) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        """Every series that exists."""
        return {
            (sample.name, tuple(sorted(sample.labels.items())))
            for family in self.metrics.registry.collect()
            for sample in family.samples
        }
