"""The evidence for a cause, as numbers and as phrases for a report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from exporter.protocol.enums import Peer, TcpEndKind


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
