"""The evidence for a cause: a session as the rules see it, and observations as phrases for a report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mypy_extensions import mypyc_attr

from exporter.protocol.close_codes import ABNORMAL, Classification, CloseCodeMap
from exporter.protocol.enums import Cause, Peer, TcpEndKind
from exporter.protocol.record import CloseFrame, PeerRecord, SessionRecord

#: A ping that is younger than this when the session ends shows nothing: its pong may be under way. Seconds.
MIN_PONG_WAIT: Final = 1.0
#: Seconds from a peer's message to the end of the session within which the message is taken for its occasion.
ON_MESSAGE: Final = 0.1
#: Opcodes of data frames (RFC 6455, section 5.2).
DATA: Final = (0, 1, 2)

_CLIENT: Final = Peer.CLIENT
_SERVER: Final = Peer.SERVER
_PROXY: Final = Peer.PROXY


class Confidence(StrEnum):
    """How much the evidence shows."""

    STATED = "stated"  # a peer, or the sidecar, gave the reason itself
    SHOWN = "shown"  # measured
    LIKELY = "likely"  # the evidence fits this cause best
    UNDECIDED = "undecided"  # the evidence shows no more than how TCP ended


#: How a sentence about the cause begins.
OPENINGS = {
    Confidence.STATED: "",
    Confidence.SHOWN: "",
    Confidence.LIKELY: "Most likely: ",
    Confidence.UNDECIDED: "Undecided: ",
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """The observations that a cause was decided on. Times are seconds, sizes payload bytes; None is not seen.

    :ivar confidence: how much they show.
    :ivar initiator: the peer that ended the session.
    :ivar tcp_end_kind: how TCP ended, if no Close frame came before.
    :ivar after_message: from the other peer's last message, which the initiator had not answered, to the end.
    :ivar message_size: size of that message.
    :ivar larger_than: size of the largest message before it.
    :ivar in_frame: that message was incomplete.
    :ivar reserved_opcode: the opcode of the other peer's last frame, if it is a reserved one.
    :ivar ping_unanswered: for which a ping of the initiator had waited for its pong.
    :ivar text: the reason text is one by which a library states this cause.
    :ivar http_text: the server wrote an HTTP response where a frame should begin.
    :ivar waiting: for which data that waited for the client had been above the high-water mark.
    :ivar idle: for which nothing had passed either way.
    :ivar cutoff: the known idle timeout that this matches.
    :ivar together: sessions that ended together with this one, itself included.
    :ivar app_accepts: whether the app's port accepted connections after the end.
    :ivar listener_changed: the app's listening socket is another than before.
    :ivar draining: a drain is on or the pod is being terminated.
    """

    confidence: Confidence
    initiator: Peer
    tcp_end_kind: TcpEndKind | None = None
    after_message: float | None = None
    message_size: int | None = None
    larger_than: int | None = None
    in_frame: bool = False
    reserved_opcode: int | None = None
    ping_unanswered: float | None = None
    text: bool = False
    http_text: bool = False
    waiting: float | None = None
    idle: float | None = None
    cutoff: float | None = None
    together: int | None = None
    app_accepts: bool | None = None
    listener_changed: bool = False
    draining: bool = False

    def phrases(self) -> list[str]:
        """Return the evidence as phrases that can be joined with "; "."""
        return list(self._phrases())

    def _phrases(self) -> Iterator[str]:
        who, other = self.initiator, self.initiator.other
        if self.http_text:
            yield "the server wrote an HTTP response into the WebSocket stream"
        if self.text:
            yield "a library states it in the Close frame's reason text"
        if self.reserved_opcode is not None:
            yield f"the last frame of the {other} had the reserved opcode {self.reserved_opcode}"
        if self.after_message is not None:
            yield self._message(other)
        if self.ping_unanswered is not None:
            yield f"a ping of the {who} had waited {_seconds(self.ping_unanswered)} for its pong"
        if self.waiting is not None:
            yield f"data had waited {_seconds(self.waiting)} for the client to read it"
        if self.together is not None:
            yield f"at least {self.together} sessions ended within 50 ms"
        if self.idle is not None:
            matches = f", a known timeout is {self.cutoff:g} s" if self.cutoff is not None else ""
            yield f"nothing had passed either way for {_seconds(self.idle)}{matches}"
        if self.tcp_end_kind is not None:
            yield f"the {who} ended TCP with {_TCP_ENDS[self.tcp_end_kind]} and no Close frame"
        if self.listener_changed:
            yield "the app listens on a new socket"
        if self.app_accepts is not None:
            yield "the app still accepts connections" if self.app_accepts else "the app refuses connections"
        if self.draining:
            yield "the pod was draining or stopping"

    def _message(self, other: Peer) -> str:
        size = f"{self.message_size:,}-byte" if self.message_size is not None else "last"
        larger = "" if self.larger_than is None else f" (the largest before had {self.larger_than:,})"
        state = "incomplete" if self.in_frame else "not answered"
        assert self.after_message is not None
        return f"{_seconds(self.after_message)} after a {size} message of the {other}{larger}, {state}"


_TCP_ENDS = {
    TcpEndKind.FIN: "FIN",
    TcpEndKind.RESET: "a reset",
    TcpEndKind.SILENCE: "no more acknowledgements",
}


def _seconds(value: float) -> str:
    if value < 0.001:
        return "less than 1 ms"
    return f"{value:.3f} s" if value < 10 else f"{value:.1f} s"


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class Circumstances:
    """The circumstances in which the session ended; None is not known.

    :ivar app_accepts: whether the app's port accepted connections afterwards.
    :ivar draining: a drain is on.
    :ivar terminating: this pod is being terminated.
    :ivar listener_changed: the app's listening socket is another than before.
    :ivar lost_server: sessions with last frames of different ages that lost the server's TCP within 50 ms, this one
        included.
    :ivar lost_client: the same for the client's TCP, of sessions of one client-side address.
    """

    app_accepts: bool | None
    draining: bool
    terminating: bool
    listener_changed: bool
    lost_server: int
    lost_client: int

    # Written out, here and below: compiled, it is called without a dict of arguments.
    def __init__(
        self,
        app_accepts: bool | None = None,
        draining: bool = False,
        terminating: bool = False,
        listener_changed: bool = False,
        lost_server: int = 1,
        lost_client: int = 1,
    ) -> None:
        self.app_accepts = app_accepts
        self.draining = draining
        self.terminating = terminating
        self.listener_changed = listener_changed
        self.lost_server = lost_server
        self.lost_client = lost_client


class Match:
    """A rule's decision. ``code`` and ``initiator`` are None where they are those of the case."""

    __slots__ = ("cause", "code", "confidence", "evidence", "initiator")

    def __init__(
        self,
        cause: Cause,
        confidence: Confidence,
        evidence: dict[str, object] | None = None,
        code: str | None = None,
        initiator: Peer | None = None,
    ) -> None:
        self.cause = cause
        self.confidence = confidence
        self.evidence = evidence
        self.code = code
        self.initiator = initiator


class Case:
    """One session as the rules see it: its ender, the Close frame, and the traffic just before.

    :ivar close: the first Close frame; None if TCP ended without one.
    :ivar ender: its sender, or the peer whose TCP ended first; the proxy if nothing shows it.
    :ivar other: the direction of the peer that did not end the session.
    :ivar verdict: label value and cause of the Close frame's code.
    :ivar after_message: seconds from the other peer's last data message, which the ender has not answered, to the end;
        None if there is none or it was answered.
    :ivar ping_unanswered: seconds for which a ping of the ender had waited, at least :data:`MIN_PONG_WAIT`; else None.
    """

    def __init__(self, record: SessionRecord, circumstances: Circumstances, codes: CloseCodeMap) -> None:
        self.record = record
        self.circumstances = circumstances
        self.codes = codes
        self.close: CloseFrame | None = None
        self.ender: Peer = _PROXY if record.tcp_end is None else record.tcp_end
        if record.first_close is not None:
            self.ender = record.first_close
            self.close = record.peer(record.first_close).close
        self.other: PeerRecord = record.server if self.ender is _CLIENT else record.client
        self.ended_at = record.closed_at if self.close is None else self.close.at
        self.verdict: Classification | None = None
        if self.close is not None:
            self.verdict = codes.verdict_of(self.close.code, self.close.reason)
        self.after_message = self._after_message()
        self.ping_unanswered = self._ping_unanswered()

    @property
    def label(self) -> str:
        """The label value of the code, if no rule gives another."""
        return ABNORMAL if self.verdict is None else self.verdict.label

    @property
    def reason(self) -> str:
        """The Close frame's reason text."""
        return "" if self.close is None else self.close.reason

    @property
    def dropped_by_server(self) -> bool:
        """Whether the server ended TCP without a Close frame."""
        return self.close is None and self.ender is _SERVER

    @property
    def on_message(self) -> bool:
        """Whether the end came right after a message of the other peer that the ender had not answered."""
        return self.after_message is not None and self.after_message <= ON_MESSAGE

    @property
    def unobserved(self) -> bool:
        """Whether parsing had stopped in a direction."""
        return self.record.client.unobserved or self.record.server.unobserved

    @property
    def idle(self) -> float:
        """Seconds for which nothing had passed either way."""
        record = self.record
        passed = (record.opened_at, record.client.last_frame_at, record.server.last_frame_at)
        return record.closed_at - max(at for at in passed if at is not None)

    def _after_message(self) -> float | None:
        if self.ender is _PROXY:
            return None
        other, mine = self.other, self.record.peer(self.ender)
        if other.last_message_at is None:
            return None
        if mine.last_message_at is not None and mine.last_message_at >= other.last_message_at:
            return None
        at = other.last_message_at
        if other.last_opcode in DATA and other.last_frame_at is not None:
            at = max(at, other.last_frame_at)
        age = self.ended_at - at
        return age if age >= 0 else None

    def _ping_unanswered(self) -> float | None:
        if self.ender is _PROXY or self.other.unobserved:
            return None
        ping_at = self.record.peer(self.ender).ping_at
        if ping_at is None or (waited := self.ended_at - ping_at) < MIN_PONG_WAIT:
            return None
        return waited
