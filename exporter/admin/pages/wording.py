"""Tells the story of one ending in plain sentences: who, why, how long, what was under way.

A story comes as the fields of the log line that tells it, and says what was measured, never more: where a likely
culprit is named, it is one that is known for that number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from exporter.admin.pages.meanings import explain
from exporter.protocol.close_codes import ABNORMAL, INVALID, LIBRARIES, NO_STATUS, PRIVATE, UNKNOWN
from exporter.protocol.enums import Cause, Peer
from exporter.protocol.idle_timeouts import KNOWN_CUTOFFS, IdleCutoffs

Fields = Mapping[str, Any]

#: A silence that is within this many seconds of a known cut-off names who is known to cut there; it is a hint, so it is
#: as generous as the judgement's default.
_KNOWN = IdleCutoffs()


def duration(seconds: float) -> str:
    """Seconds for a person: ``0.25 s``, ``12.3 s``, ``3 min 2 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds < 0.001:
        return "less than 1 ms"
    if seconds < 10:
        return f"{seconds:.3g} s"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    first = next(place for place, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


def when(epoch: float) -> str:
    """A moment in UTC, to the second: ``2026-05-04 17:30:59 UTC``."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(epoch: float) -> str:
    """The same for a program: ``2026-05-04T17:30:59.123+00:00``."""
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds")


def quantity(count: int, unit: str) -> str:
    """``1 byte``, ``1,204 bytes``."""
    return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"


def whom(peer: str) -> str:
    """``client``, ``server`` or ``sidecar``."""
    return "sidecar" if peer == Peer.PROXY else str(peer)


def headline(fields: Fields) -> str:
    """Who ended it, how, and after how long: one sentence without a full stop."""
    return f"{_what(fields)} after {duration(fields['duration_s'])}"


def _what(fields: Fields) -> str:
    code, cause, peer = str(fields["code"]), Cause(fields["cause"]), Peer(fields["initiator"])
    who = f"The {whom(peer)}"
    if peer is Peer.PROXY and cause in (Cause.DRAIN, Cause.LIMIT):
        why = "in a drain" if cause is Cause.DRAIN else "at the greatest age that is allowed"
        return f"{who} ended it {why}, {'without a Close frame' if code == ABNORMAL else f'with Close {code}'}"
    if code == ABNORMAL:
        how = "was reset" if fields.get("tcp_ended_how") == "reset" else "ended"
        down = ", and the app took no connections," if cause is Cause.APP_DOWN else ""
        return f"{who}'s TCP connection {how} without a Close frame{down}"
    if code == UNKNOWN:
        return f"{who}'s TCP connection ended, no longer understood,"
    return f"{who} sent {_close(code)}"


def _close(code: str) -> str:
    if code == NO_STATUS:
        return "a Close without a code"
    if code == INVALID:
        return "a Close that no peer may send"
    if code in (LIBRARIES, PRIVATE):
        return f"a Close with a code of its own ({code})"
    return f"Close {code} {explain(code).name}".rstrip()


def circumstances(fields: Fields) -> list[str]:
    """What else was seen, a sentence each: the reason text, the silence before, what was under way."""
    told = []
    if fields.get("reason"):
        told.append(f"It said “{fields['reason']}”.")
    idle = fields.get("idle_s")
    if str(fields["code"]) == ABNORMAL and idle is not None:
        told.append(f"Nothing had passed either way for {duration(idle)}{_culprit(fields, idle)}.")
    if (last := _last(fields.get("last_frames", ()))) is not None:
        earlier = "" if str(fields["code"]) == ABNORMAL else f", {duration(last['age_s'])} earlier"
        told.append(
            f"The last frame before was {last['opcode']} from the {last['sender']}, "
            f"{quantity(last['length'], 'byte')}{earlier}."
        )
    if (waited := fields.get("ping_unanswered_s") or 0.0) > 0:
        told.append(f"A ping of the {whom(fields['tcp_ended_by'])} had waited {duration(waited)} for its pong.")
    frames, messages = fields.get("cut_in_frame") or (), fields.get("cut_in_message") or ()
    told += [f"A frame of the {whom(peer)} was cut in the middle." for peer in frames]
    told += [f"A message of the {whom(peer)} was not finished." for peer in messages if peer not in frames]
    return told


def _culprit(fields: Fields, idle: float) -> str:
    if fields["cause"] != Cause.IDLE_TIMEOUT or (known := _KNOWN.cutoff(idle)) is None:
        return ""
    return f", a limit known from {KNOWN_CUTOFFS[known]}"


def quiet_before(frames: Sequence[Fields]) -> float | None:
    """Seconds from the last frame that was no Close to the end; None if there was none."""
    last = _last(frames)
    return None if last is None else float(last["age_s"])


def _last(frames: Sequence[Fields]) -> Fields | None:
    return next((frame for frame in reversed(frames) if frame["opcode"] != "close"), None)
