"""The last closes, for people without a Prometheus at hand: reports of abnormal ones, and counts by the minute.

Both are bounded: :data:`MAX_REPORTS` reports, :data:`REPORTS_PER_SECOND` new ones a second, and one bucket of bounded
label values for each of the last :data:`MINUTES` minutes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic, time
from typing import Any, Final

from exporter.protocol.causes import is_abnormal
from exporter.protocol.classify import Ending
from exporter.protocol.enums import PEERS, Peer
from exporter.protocol.evidence import last_passed
from exporter.protocol.flight_recorder import unpack
from exporter.protocol.frame_header import Opcode
from exporter.protocol.record import SessionRecord

#: Reports that are kept: about 3 KB each, 1.5 MB in all.
MAX_REPORTS = 500
#: New reports a second at most; the others are counted as suppressed.
REPORTS_PER_SECOND = 100
#: Characters of a peer's text at most. A Close reason has at most 123 bytes (RFC 6455, section 5.5).
MAX_TEXT = 256
#: Characters of a sampled message in a report.
MAX_SAMPLE = 2048
#: The last hour: the current minute and the 59 before it.
MINUTES = 60

#: Label values of a close: code, cause, initiator.
Kind = tuple[str, str, str]

_CLIENT, _SERVER = map(str, PEERS)
_PROXY: Final = Peer.PROXY  # looked up once: Python 3.11 takes a detour to an enum's members
_OPCODES = {int(opcode): opcode.name.lower() for opcode in Opcode}


def sanitize(text: str, limit: int = MAX_TEXT) -> str:
    """Return ``text`` cut to ``limit`` characters, line breaks, terminal controls and bidi marks escaped."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def close_fields(record: SessionRecord, ending: Ending, route: str) -> dict[str, Any]:
    """Return the fields that the log line and the report of a close share."""
    client, server, closed_at = record.client, record.server, record.closed_at
    return {
        "session_id": record.session_id,
        "route": route,
        "path": sanitize(record.path),
        "code": ending.code,
        "close_code": ending.close_code,
        "cause": ending.cause,
        "initiator": ending.initiator,
        "clean": ending.clean,
        "reason": sanitize(ending.reason),
        "duration_s": _rounded(closed_at - record.opened_at),
        "frames": {_CLIENT: client.frames, _SERVER: server.frames},
        "bytes": {_CLIENT: client.payload, _SERVER: server.payload},
        "last_frame_age_s": {
            _CLIENT: _age(client.last_frame_at, closed_at),
            _SERVER: _age(server.last_frame_at, closed_at),
        },
        "subprotocol": sanitize(record.subprotocol),
        "client": sanitize(record.address),
        "forwarded_for": sanitize(record.forwarded_for),
        "trace_id": record.trace_id,
    }


@dataclass(frozen=True, slots=True)
class CloseReport:
    """The report of one close.

    :ivar fields: those of the log line, the evidence, and ``ended_at`` in seconds since 1970.
    :ivar frames: the flight recorder's slots, oldest first.
    :ivar closed_at: monotonic time of the close.
    """

    fields: dict[str, Any]
    frames: bytes
    closed_at: float

    def as_dict(self) -> dict[str, Any]:
        """Return the fields with ``last_frames``, ready for JSON."""
        frames = [
            {
                "sender": str(frame.sender),
                "opcode": _OPCODES.get(frame.opcode, "reserved"),
                "fin": frame.fin,
                "length": frame.length,
                "age_s": round(max(0.0, self.closed_at - frame.at), 4),
            }
            for frame in unpack(self.frames)
        ]
        return {**self.fields, "last_frames": frames}


def report(record: SessionRecord, ending: Ending, route: str, ended_at: float) -> CloseReport:
    """Return the report of a close that happened ``ended_at`` seconds after 1970."""
    fields = close_fields(record, ending, route) | {
        "ended_at": round(ended_at, 4),
        "suspect": ending.suspect,
        "confidence": ending.confidence,
        "evidence": list(ending.evidence),
        "tcp_ended_by": record.tcp_end,
        "tcp_ended_how": record.tcp_end_kind if record.tcp_end is not None else None,
        "idle_s": _rounded(idle_seconds(record)),
        "ping_unanswered_s": _ping_unanswered(record, ending.initiator),
        "cut_in_frame": [str(peer) for peer in PEERS if record.peer(peer).in_frame],
        "cut_in_message": [str(peer) for peer in PEERS if record.peer(peer).fragmented],
    }
    samples = {str(peer): record.peer(peer).sample.decode("utf-8", "backslashreplace") for peer in PEERS}
    if any(samples.values()):
        fields["last_message"] = {peer: sanitize(sample, MAX_SAMPLE) for peer, sample in samples.items()}
    return CloseReport(fields, record.frames, record.closed_at)


class Throttle:
    """Let a number of events a second pass.

    :param suppressed: called with the number of events that may not pass.
    :param clock: monotonic seconds.
    """

    def __init__(self, limit: int, suppressed: Callable[[int], None], clock: Callable[[], float]) -> None:
        self._limit = limit
        self._suppressed = suppressed
        self._clock = clock
        self._second = 0
        self._count = 0

    def hit(self) -> bool:
        """Count an event, and return whether it may pass."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._count = 0
        self._count += 1
        if self._count > self._limit:
            self._suppressed(1)
            return False
        return True


class RecentCloses:
    """Keep the reports of abnormal and suspect closes, newest first; a report's number is how many came before it.

    :param routes: the names of the routes.
    :param suppressed: called with the number of reports that are over the ceiling.
    :param clock: monotonic seconds, the clock of the records.
    """

    def __init__(
        self,
        routes: Sequence[str],
        suppressed: Callable[[int], None] = lambda reports: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.total = 0
        self._routes = routes
        self._clock = clock
        self._throttle = Throttle(REPORTS_PER_SECOND, suppressed, clock)
        self._reports: deque[CloseReport] = deque(maxlen=MAX_REPORTS)

    def __len__(self) -> int:
        return len(self._reports)

    def session_closed(self, record: SessionRecord, ending: Ending) -> None:
        """Keep the report of a close that is abnormal or suspect."""
        if (is_abnormal(ending.cause) or ending.suspect) and self._throttle.hit():
            ended_at = time() - self._clock() + record.closed_at
            self.add(report(record, ending, self._routes[record.route], ended_at))

    def add(self, close: CloseReport) -> None:
        """Keep one more report; the oldest goes if there is no room."""
        self._reports.append(close)
        self.total += 1

    def walk(self, before: int | None = None) -> Iterator[tuple[int, CloseReport]]:
        """Yield numbers and reports, newest first, from before the report of number ``before``.

        Reports may be added meanwhile: none comes twice.
        """
        number = self.total if before is None else min(before, self.total)
        while (number := number - 1) >= (oldest := self.total - len(self._reports)):
            yield number, self._reports[number - oldest]

    def find(self, session_id: str) -> tuple[int, CloseReport] | None:
        """Return one session's report and its number; None if it is not kept."""
        return next((found for found in self.walk() if found[1].fields["session_id"] == session_id), None)


class ClosesPerMinute:
    """Count closes by the minute of the monotonic clock.

    :ivar total: closes ever counted.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.total = 0
        self._clock = clock
        self._buckets: deque[tuple[int, dict[Kind, int]]] = deque(maxlen=MINUTES)

    @property
    def minute(self) -> int:
        """The number of the current minute."""
        return int(self._clock() // 60)

    def session_closed(self, record: SessionRecord, ending: Ending) -> None:
        """Count a close in the current minute."""
        minute = self.minute
        if not self._buckets or self._buckets[-1][0] != minute:
            self._buckets.append((minute, {}))
        bucket, kind = self._buckets[-1][1], (ending.code, ending.cause, ending.initiator)
        bucket[kind] = bucket.get(kind, 0) + 1
        self.total += 1

    def minutes(self) -> list[Counter[Kind]]:
        """Return the last hour, the oldest minute first, the current one last; always :data:`MINUTES` of them."""
        buckets, last = dict(self._buckets), self.minute
        return [Counter(buckets.get(minute)) for minute in range(last - MINUTES + 1, last + 1)]


def idle_seconds(record: SessionRecord) -> float:
    """Return the seconds for which no frame had passed either way when the session ended."""
    return max(0.0, record.closed_at - last_passed(record))


def _ping_unanswered(record: SessionRecord, initiator: Peer) -> float:
    """Return the seconds for which a ping of the peer that ended the session had no pong; 0 if none waited."""
    at = record.peer(initiator).ping_at if initiator is not _PROXY else None
    return _age(at, record.closed_at) or 0.0


def _age(at: float | None, now: float) -> float | None:
    return None if at is None else _rounded(now - at)


def _rounded(seconds: float) -> float:
    return int(max(0.0, seconds) * 10_000 + 0.5) / 10_000
