"""Takes what the relay tells, and turns it into numbers and sentences: the observer of :mod:`exporter.relay.events`,
which it does not import; :mod:`exporter.app` introduces the two."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from os import urandom
from time import monotonic
from typing import Literal, Protocol

import structlog

from exporter.observe.metrics import Metrics, status_label
from exporter.observe.text import path_of, safe, trace_id
from exporter.protocol.causes import Ending
from exporter.protocol.closecodes import CodeBook
from exporter.protocol.http1 import Request, Response
from exporter.protocol.routes import Router
from exporter.protocol.session import Session
from exporter.protocol.words import PEERS, ConnectError, Peer, Unobserved

#: Seconds between lines that say that accepting was paused: a full house pauses many times a minute.
PAUSE_LINES = 10.0

LogEndings = Literal["all", "abnormal", "none"]


class Opening(Protocol):
    """An answered opening handshake, as the relay tells it."""

    request: Request
    response: Response
    client: str
    seconds: float


class Recorder:
    """Counts and logs for one sidecar.

    :param log_endings: which endings are worth a line.
    :param log: a structlog logger.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        metrics: Metrics,
        router: Router,
        book: CodeBook,
        log_endings: LogEndings = "abnormal",
        log: structlog.typing.FilteringBoundLogger | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.metrics = metrics
        self.log = log or structlog.get_logger()
        self.log_endings = log_endings
        self.clock = clock
        self._router = router
        self._book = book
        self._ids = count(1)
        self._run = urandom(4).hex()
        self._pause_told = float("-inf")

    def opened(self, opening: Opening) -> Record:
        """See :class:`exporter.relay.events.Observer`."""
        route = self._router.route(opening.request.target)
        metrics = self.metrics
        metrics.handshakes.labels(route, "101").inc()
        metrics.handshake_duration.labels(route).observe(opening.seconds)
        metrics.active.labels(route).inc()
        session = Session(self._book, metrics.tallies[route, Peer.CLIENT], metrics.tallies[route, Peer.SERVER])
        return Record(self, session, route, opening, f"{self._run}-{next(self._ids):x}")

    def refused(self, request: Request, status: int, seconds: float) -> None:
        """See :class:`exporter.relay.events.Observer`."""
        route = self._router.route(request.target)
        self.metrics.handshakes.labels(route, status_label(status)).inc()
        self.metrics.handshake_duration.labels(route).observe(seconds)

    def aborted(self, request: Request) -> None:
        """See :class:`exporter.relay.events.Observer`."""
        self.metrics.handshakes.labels(self._router.route(request.target), "aborted").inc()

    def unobserved(self, reason: Unobserved, why: str) -> None:
        """See :class:`exporter.relay.events.Observer`."""
        self.metrics.unobserved.labels(reason).inc()
        self.log.warning("session.unobserved", reason=reason, why=safe(why))

    def connect_failed(self, error: ConnectError, why: str) -> None:
        """See :class:`exporter.relay.events.Observer`."""
        self.metrics.connect_errors.labels(error).inc()
        self.log.warning("upstream.connect_failed", reason=error, why=safe(why))

    def accept_paused(self, why: str) -> None:
        """See :class:`exporter.relay.events.Observer`."""
        self.metrics.accept_pauses.inc()
        now = self.clock()
        if now - self._pause_told >= PAUSE_LINES:
            self._pause_told = now
            self.log.warning("accept.paused", why=safe(why))

    def defect(self, error: Exception) -> None:
        """See :class:`exporter.relay.events.Observer`."""
        self.metrics.unobserved.labels(Unobserved.INTERNAL).inc()
        self.log.error("session.unobserved", reason=Unobserved.INTERNAL, exc_info=error)

    def is_worth_a_line(self, ending: Ending) -> bool:
        """Whether this ending is logged."""
        return self.log_endings == "all" or (self.log_endings == "abnormal" and not ending.cause.is_normal)


class Record:
    """One session: what it was at its opening, for the line that tells its ending."""

    __slots__ = (
        "_began", "_client", "_forwarded_for", "_path", "_recorder", "_route", "_subprotocol", "_trace_id", "id",
        "session",
    )  # fmt: skip

    def __init__(self, recorder: Recorder, session: Session, route: str, opening: Opening, id: str) -> None:
        self.id = id
        self.session = session
        self._recorder = recorder
        self._route = route
        self._began = recorder.clock()
        self._client = opening.client
        self._path = path_of(opening.request.target)
        self._forwarded_for = safe(opening.request.forwarded_for)
        self._subprotocol = safe(opening.response.subprotocol)
        self._trace_id = trace_id(opening.request.traceparent) if opening.request.traceparent else ""

    def unobserved(self, reason: Unobserved, why: str) -> None:
        """See :class:`exporter.relay.events.Watch`."""
        self._recorder.metrics.unobserved.labels(reason).inc()
        self._recorder.log.warning(
            "session.unobserved", session_id=self.id, route=self._route, reason=reason, why=safe(why)
        )

    def closed(self, ending: Ending, now: float) -> None:
        """See :class:`exporter.relay.events.Watch`."""
        recorder = self._recorder
        try:
            recorder.metrics.ended(self._route, ending, now - self._began)
        finally:
            recorder.metrics.active.labels(self._route).dec()
        if recorder.is_worth_a_line(ending):
            log = recorder.log.info if ending.cause.is_normal else recorder.log.warning
            log("session.closed", **self.line(ending, now))

    def line(self, ending: Ending, now: float) -> dict[str, object]:
        """The fields of the line that tells the ending."""
        scanners = {str(peer): self.session.scanner(peer) for peer in PEERS}
        return {
            "session_id": self.id,
            "route": self._route,
            "path": self._path,
            "code": ending.code,
            "cause": ending.cause,
            "initiator": ending.initiator,
            "clean": ending.clean,
            "reason": safe(ending.reason),
            "duration_s": round(now - self._began, 3),
            "frames": {peer: scanner.frames for peer, scanner in scanners.items()},
            "bytes": {peer: scanner.payload for peer, scanner in scanners.items()},
            "last_frame_age_s": {
                peer: None if scanner.last is None else round(now - scanner.last, 3)
                for peer, scanner in scanners.items()
            },
            "subprotocol": self._subprotocol,
            "client": self._client,
            "forwarded_for": self._forwarded_for,
            "trace_id": self._trace_id,
        }
