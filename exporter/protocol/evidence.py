"""A session as the rules of classification see it, and the evidence for a cause as phrases for a report."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from mypy_extensions import mypyc_attr

from exporter.protocol.close_codes import ABNORMAL, INVALID, Classification, CloseCodeMap
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


_TCP_ENDS = {
    TcpEndKind.FIN: "FIN",
    TcpEndKind.RESET: "a reset",
    TcpEndKind.SILENCE: "no more acknowledgements",
}


def last_passed(record: SessionRecord) -> float:
    """Return when a frame last passed either way; when the session began if none did."""
    began = record.opened_at
    return max(began, record.client.last_frame_at or began, record.server.last_frame_at or began)


def seconds(value: float) -> str:
    """Return a time as a report shows it."""
    if value < 0.001:
        return "less than 1 ms"
    return f"{value:.3f} s" if value < 10 else f"{value:.1f} s"


@mypyc_attr(free_list_len=1, acyclic=True)
class Circumstances:
    """The circumstances in which the session ended.

    :ivar app_accepts: whether the app's port accepted connections afterwards; None is not known.
    :ivar draining: a drain is on.
    :ivar terminating: this pod is being terminated.
    :ivar listener_changed: the app's listening socket is another than before.
    :ivar lost_server: sessions with last frames of different ages that lost the server's TCP within 50 ms, this one
        included.
    :ivar lost_client: the same for the client's TCP, of sessions of one client-side address.
    """

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

    @property
    def leaving(self) -> bool:
        """Whether the pod is draining or stopping."""
        return self.draining or self.terminating


@mypyc_attr(free_list_len=1, acyclic=True)
class Match:
    """A rule's decision.

    :ivar phrase: the observation that it was made on; empty if it is one that :meth:`Case.evidence` has anyway.
    :ivar first: an observation that goes before that of the other peer's last message.
    :ivar larger_than: size of the largest message before that one, if it counts.
    :ivar code: the label value of the code; None for the case's own.
    :ivar initiator: None for the case's ender.
    """

    def __init__(
        self,
        cause: Cause,
        confidence: Confidence,
        phrase: str = "",
        first: str = "",
        larger_than: int | None = None,
        code: str | None = None,
        initiator: Peer | None = None,
    ) -> None:
        self.cause = cause
        self.confidence = confidence
        self.phrase = phrase
        self.first = first
        self.larger_than = larger_than
        self.code = code
        self.initiator = initiator


@mypyc_attr(free_list_len=1, acyclic=True)
class Case:
    """One session as the rules see it: its ender, the Close frame, and the traffic just before.

    :ivar close: the first Close frame; None if TCP ended without one.
    :ivar ender: its sender, or the peer whose TCP ended first; the proxy if nothing shows it.
    :ivar other: the direction of the peer that did not end the session.
    :ivar classification: label value and cause of the Close frame's code.
    :ivar reason: its reason text; that of a frame that must not be sent shows nothing.
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
        self.classification: Classification | None = None
        self.reason = ""
        if self.close is not None:
            self.classification = codes.classify_frame(self.close.code, self.close.reason)
            self.reason = "" if self.classification.label == INVALID else self.close.reason
        self.after_message = self._after_message()
        self.ping_unanswered = self._ping_unanswered()

    @property
    def label(self) -> str:
        """The label value of the code, if no rule gives another."""
        return ABNORMAL if self.classification is None else self.classification.label

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
        return self.record.closed_at - last_passed(self.record)

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

    def evidence(self, match: Match) -> list[str]:
        """Return the observations that a match was decided on, as phrases that can be joined with "; "."""
        initiator, here = match.initiator or self.ender, self.circumstances
        phrases = [match.first, "", match.phrase]
        if initiator is not _PROXY:
            if self.after_message is not None and self.after_message < 10 * ON_MESSAGE and initiator is self.ender:
                phrases[1] = self._message(self.after_message, match.larger_than)
            if self.close is None:
                phrases.append(
                    f"the {initiator} ended TCP with {_TCP_ENDS[self.record.tcp_end_kind]} and no Close frame"
                )
            if initiator is _SERVER and here.listener_changed:
                phrases.append("the app listens on a new socket")
            if initiator is _SERVER and here.app_accepts is not None:
                phrases.append(
                    "the app still accepts connections" if here.app_accepts else "the app refuses connections"
                )
            if here.leaving:
                phrases.append("the pod was draining or stopping")
        return [phrase for phrase in phrases if phrase]

    def _message(self, age: float, larger_than: int | None) -> str:
        size, state = self.other.last_message_size, "incomplete" if self.other.in_frame else "not answered"
        larger = "" if larger_than is None else f" (the largest before had {larger_than:,})"
        return f"{seconds(age)} after a {size:,}-byte message of the {self.ender.other}{larger}, {state}"
