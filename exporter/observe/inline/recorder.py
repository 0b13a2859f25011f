"""Takes what the relay tells, and turns it into numbers and sentences: the observer of :mod:`exporter.relay.events`,
which it does not import; :mod:`exporter.app` introduces the two."""

from __future__ import annotations

from collections.abc import Callable
from os import urandom
from sys import intern
from time import monotonic, time
from typing import Final, Literal, Protocol

import structlog
from mypy_extensions import mypyc_attr

from exporter.observe.inline.history import ClosesPerMinute
from exporter.observe.inline.log_throttle import LogThrottle
from exporter.observe.inline.metrics import Metrics, RouteSeries, status_label
from exporter.observe.inline.recent_closes import CloseReport, Closes, describe
from exporter.observe.inline.reconnects import Reconnects
from exporter.observe.sanitize import path_of, sanitize, trace_id
from exporter.protocol.causes import is_abnormal
from exporter.protocol.classify import Ending
from exporter.protocol.close_codes import CloseCodeMap
from exporter.protocol.enums import PEERS, ConnectError, Peer, Unobserved
from exporter.protocol.http1_parser import Request, Response
from exporter.protocol.routes import Router
from exporter.protocol.session import Session

#: Characters of a sampled message in a story; ``--record-payload`` sets how many bytes are sampled.
MAX_SAMPLE = 65536

LogEndings = Literal["all", "abnormal", "none"]

_hex: Final = hex  # a built-in function is looked up each time


class Opening(Protocol):
    """An answered opening handshake, as the relay tells it."""

    request: Request
    response: Response
    client: str
    seconds: float


class Recorder:
    """Counts and logs for one sidecar.

    :param log_endings: which endings are worth a line.
    :param reconnects: recognises clients that come back.
    :param closes: takes the stories of abnormal endings.
    :param record_payload: bytes of each side's last message to keep for the story; 0 keeps none.
    :param log: a structlog logger.
    :param clock: monotonic seconds.
    :param history: counts endings by the minute.
    """

    def __init__(
        self,
        metrics: Metrics,
        router: Router,
        book: CloseCodeMap,
        log_endings: LogEndings = "abnormal",
        reconnects: Reconnects | None = None,
        closes: Closes | None = None,
        record_payload: int = 0,
        log: structlog.typing.FilteringBoundLogger | None = None,
        clock: Callable[[], float] = monotonic,
        history: ClosesPerMinute | None = None,
    ) -> None:
        self.metrics = metrics
        self.log = log or structlog.get_logger().bind()  # bound now, else each line would look for its method anew
        self.log_endings = log_endings
        self.clock = clock
        self.reconnects = reconnects if reconnects is not None else Reconnects()  # an empty one is false
        self.closes = closes if closes is not None else Closes()
        self.history = history if history is not None else ClosesPerMinute(clock)
        self._record_payload = record_payload
        self._router = router
        self._book = book
        self._last = 0  # the number of the session that began last
        self.run = urandom(4).hex()  # this start's part of every session's id
        self._throttle = LogThrottle(clock)

    def opened(self, opening: Opening) -> Record:
        """See :class:`exporter.relay.events.Observer`."""
        request, client, seconds = opening.request, opening.client, opening.seconds
        route = self._router.route(request.target)
        series = self.metrics.of[route]
        series.switched.step()
        series.handshake_duration.observe(seconds)
        series.active.step()
        now = self.clock()
        from_client, from_server = series.tallies
        session = Session(self._book, from_client, from_server, now, self._record_payload)
        self.metrics.sessions.add(session)
        key = self._returned(route, request, client, now - seconds)
        self._last += 1
        return Record(self, session, series, opening, self._last, key)

    def _returned(self, route: str, request: Request, client: str, now: float) -> int:
        """Note that a client asks again. Returns the key by which its next end is to be kept."""
        key = self.reconnects.key(request, client)
        if (back := self.reconnects.returned(key, now)) is not None:
            cause, delay = back
            self.metrics.returned(route, cause, delay)
        return key

    def refused(self, request: Request, status: int, seconds: float) -> None:
        """See :class:`exporter.relay.events.Observer`."""
        route = self._router.route(request.target)
        self.metrics.handshakes.labels(route, status_label(status)).inc()
        self.metrics.of[route].handshake_duration.observe(seconds)

    def aborted(self, request: Request) -> None:
        """See :class:`exporter.relay.events.Observer`."""
        self.metrics.handshakes.labels(self._router.route(request.target), "aborted").inc()

    def unobserved(self, reason: Unobserved, why: str) -> None:
        """See :class:`exporter.relay.events.Observer`."""
        self.metrics.unobserved.labels(reason).inc()
        self.log.warning("session.unobserved", reason=reason, why=sanitize(why))

    def connect_failed(self, error: ConnectError, why: str) -> None:
        """See :class:`exporter.relay.events.Observer`."""
        self.metrics.connect_errors.labels(error).inc()
        if times := self._throttle.due(f"connect_failed {error}"):
            self.log.warning("upstream.connect_failed", reason=error, why=sanitize(why), times=times)

    def accept_paused(self, why: str) -> None:
        """See :class:`exporter.relay.events.Observer`."""
        self.metrics.accept_pauses.inc()
        if times := self._throttle.due("accept_paused"):
            self.log.warning("accept.paused", why=sanitize(why), times=times)

    def tls_failed(self, why: str) -> None:
        """See :class:`exporter.relay.events.Observer`."""
        self.metrics.tls_errors.inc()
        self.log.debug("tls.failed", why=sanitize(why))

    def defect(self, error: Exception) -> None:
        """See :class:`exporter.relay.events.Observer`."""
        self.metrics.unobserved.labels(Unobserved.INTERNAL).inc()
        self.log.error("session.unobserved", reason=Unobserved.INTERNAL, exc_info=error)

    def is_worth_a_line(self, ending: Ending) -> bool:
        """Whether this ending is logged."""
        return self.log_endings == "all" or (self.log_endings == "abnormal" and is_abnormal(ending.cause))


@mypyc_attr(acyclic=True)
class Record:
    """One session: what it was at its opening, for the line that tells its ending.

    There are thousands of these, mostly idle: what sessions have in common they share (path and subprotocol are
    interned, which lasts as long as a session that has them), and what can be made later is (:attr:`id`).
    """

    __slots__ = (
        "_client", "_forwarded_for", "_key", "_number", "_path", "_recorder", "_series", "_subprotocol", "_trace_id",
        "session",
    )  # fmt: skip

    def __init__(
        self, recorder: Recorder, session: Session, series: RouteSeries, opening: Opening, number: int, key: int
    ) -> None:
        self._number = number
        self.session = session
        self._recorder = recorder
        self._series = series
        self._key = key
        self._client = opening.client
        request, subprotocol = opening.request, opening.response.subprotocol
        self._path = intern(path_of(request.target))
        self._forwarded_for = request.forwarded_for and sanitize(request.forwarded_for)  # most are empty
        self._subprotocol = subprotocol and intern(sanitize(subprotocol))
        self._trace_id = request.traceparent and trace_id(request.traceparent)

    @property
    def id(self) -> str:
        """What the session is called in log lines and stories: unlike any other's, also after a restart."""
        return f"{self._recorder.run}-{_hex(self._number)[2:]}"

    def ping_answered(self, sender: Peer, seconds: float) -> None:
        """See :class:`exporter.relay.events.Watch`."""
        self._recorder.metrics.ping_rtt.labels(self._series.route, sender).spread.observe(seconds)

    def unobserved(self, reason: Unobserved, why: str) -> None:
        """See :class:`exporter.relay.events.Watch`."""
        self._recorder.metrics.unobserved.labels(reason).inc()
        self._recorder.log.warning(
            "session.unobserved", session_id=self.id, route=self._series.route, reason=reason, why=sanitize(why)
        )

    def closed(self, ending: Ending, now: float) -> None:
        """See :class:`exporter.relay.events.Watch`."""
        recorder = self._recorder
        try:
            recorder.metrics.ended(self._series.route, ending, now - self.session.began, self._trace_id)
            if (idle := self.session.idle_before_drop) is not None:
                recorder.metrics.idle_before_drop.labels(self._series.route, ending.initiator).spread.observe(idle)
            recorder.reconnects.ended(self._key, ending.cause, now)
            recorder.history.add(ending)
        finally:
            self._series.active.inc(-1.0)
            recorder.metrics.sessions.discard(self.session)
            self.session.flush_counts()
        worth = recorder.is_worth_a_line(ending)
        if not is_abnormal(ending.cause):
            if worth:
                recorder.log.info("session.closed", fields=self.line(ending, now))
            return
        line = {**self.line(ending, now), **self.circumstances(now)}
        ring = self.session.ring
        recorder.closes.add(CloseReport(line | {"ended_at": time()}, bytes(ring.slots), ring.at, now))
        if worth:
            recorder.log.warning("session.closed", fields=line, last_frames=describe(ring.frames(), now))

    def circumstances(self, now: float) -> dict[str, object]:
        """What else is known of an abnormal ending: what was under way when it came."""
        session = self.session
        cut = session.cut
        found: dict[str, object] = {
            "tcp_ended_by": cut.initiator if cut else None,
            "tcp_ended_how": cut.how if cut else None,
            "idle_s": None if cut is None or cut.idle is None else _rounded(cut.idle),
            "ping_unanswered_s": _rounded(cut.unanswered) if cut else 0.0,
            "cut_in_frame": [str(peer) for peer in PEERS if session.scanner(peer).in_frame],
            "cut_in_message": [str(peer) for peer in PEERS if session.scanner(peer).fragmented],
        }
        samples = {str(peer): session.scanner(peer).sample for peer in PEERS}
        if any(samples.values()):
            found["last_message"] = {peer: sanitize(sample.decode("utf-8", "backslashreplace"), MAX_SAMPLE)
                                     for peer, sample in samples.items()}  # fmt: skip
        return found

    def line(self, ending: Ending, now: float) -> dict[str, object]:
        """The fields of the line that tells the ending."""
        client, server = self.session.client, self.session.server
        return {
            "session_id": self.id,
            "route": self._series.route,
            "path": self._path,
            "code": ending.code,
            "cause": ending.cause,
            "initiator": ending.initiator,
            "clean": ending.clean,
            "reason": ending.reason and sanitize(ending.reason),
            "duration_s": _rounded(now - self.session.began),
            "frames": {"client": client.frames, "server": server.frames},
            "bytes": {"client": client.payload, "server": server.payload},
            "last_frame_age_s": {"client": _age(client.last, now), "server": _age(server.last, now)},
            "subprotocol": self._subprotocol,
            "client": self._client,
            "forwarded_for": self._forwarded_for,
            "trace_id": self._trace_id,
        }


def _age(when: float | None, now: float) -> float | None:
    """Seconds from ``when`` until ``now``, as they are told; None for never."""
    return None if when is None else _rounded(now - when)


def _rounded(seconds: float) -> float:
    """To milliseconds. What round() does with them, by decimal digits, takes 2,400 instructions a number."""
    return int(seconds * 1000 + 0.5) / 1000
