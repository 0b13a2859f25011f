"""The sentences of the pages: durations and moments, how a session closed, the conclusion of a report, close codes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from exporter.protocol import close_codes
from exporter.protocol.causes import CAUSES, is_server_fault
from exporter.protocol.enums import Cause, Peer, Severity
from exporter.protocol.evidence import OPENINGS, Confidence

Fields = Mapping[str, Any]

#: The classes in which pages colour closes, and their meanings.
TONES: Mapping[str, str] = {
    "fault": "server fault: the app failed",
    "other": "other: abnormal, but not a fault of the server",
    "expected": "expected: rollouts, restarts, leaving browsers",
    "normal": "normal",
}


def tone(cause: str, initiator: str) -> str:
    """Return the class of a close, one of :data:`TONES`. Raises ValueError for an unknown cause or initiator."""
    info = CAUSES[Cause(cause)]
    if is_server_fault(info.cause, Peer(initiator)):
        return "fault"
    if info.routine:
        return "expected"
    return "normal" if info.severity is Severity.NORMAL else "other"


def tone_of(fields: Fields) -> str:
    """Return the class of a report: that of its close, but ``other`` for a suspect one."""
    return "other" if fields.get("suspect") else tone(fields["cause"], fields["initiator"])


def duration(seconds: float) -> str:
    """Return seconds for a person: ``0.25 s``, ``12.3 s``, ``3 min 2 s``, ``2 h 5 min``, ``3 d 4 h``."""
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
    """Return a moment in UTC, to the millisecond: ``2026-05-04 17:30:59.123 UTC``."""
    return f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"


def iso(epoch: float) -> str:
    """Return the same for a program: ``2026-05-04T17:30:59.123+00:00``."""
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds")


def quantity(count: int, unit: str) -> str:
    """Return ``1 byte``, ``1,204 bytes``."""
    return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"


def peer_name(peer: str) -> str:
    """Return ``client``, ``server`` or ``sidecar``."""
    return "sidecar" if peer == Peer.PROXY else str(peer)


def code_of(fields: Fields) -> str:
    """Return the real close code, or the label where no peer sent one: ``4409``, ``1006``."""
    code = fields.get("close_code")
    return str(code) if isinstance(code, int) and code > 0 else str(fields["code"])


def title(fields: Fields) -> str:
    """Return a close in a few words: ``dropped-on-message by server``."""
    return f"{fields['cause']} by {peer_name(fields['initiator'])}"


def conclusion(fields: Fields) -> str:
    """Return the most likely reason of a close and the next step, as sentences."""
    cause, initiator = Cause(fields["cause"]), Peer(fields["initiator"])
    if fields.get("suspect"):
        return (
            "Suspect: the server closed as if nothing were wrong, right after a client's message that it had not "
            "answered; many frameworks end a failed handler like that. Look for an exception in the server's log at "
            "that moment."
        )
    info = CAUSES[cause]
    opening = OPENINGS.get(fields.get("confidence") or Confidence.SHOWN, "")
    meaning = info.meaning[0].lower() + info.meaning[1:] if opening and info.meaning[1].islower() else info.meaning
    return f"{opening}{meaning} {_remedy(info.remedy, initiator)}"


def _remedy(text: str, initiator: Peer) -> str:
    """Return the part of a remedy that is for this initiator, where it has parts."""
    parts = re.split(r"By the (server|client): ", text)
    if len(parts) < 3:
        return text
    by = dict(zip(parts[1::2], parts[2::2], strict=True))
    chosen = by.get(initiator, text).strip().replace("its log", f"the {initiator}'s log")
    return chosen[0].upper() + chosen[1:]


def headline(fields: Fields) -> str:
    """Return who closed the session, how, and after how long: one sentence without a full stop."""
    return f"{_end(fields)} after {duration(fields['duration_s'])}"


def _end(fields: Fields) -> str:
    code, cause, peer = str(fields["code"]), Cause(fields["cause"]), Peer(fields["initiator"])
    who = f"The {peer_name(peer)}"
    if peer is Peer.PROXY and cause in (Cause.DRAIN, Cause.LIMIT):
        why = "in a drain" if cause is Cause.DRAIN else "at its maximum age"
        how = "without a Close frame" if code == close_codes.ABNORMAL else f"with Close {code}"
        return f"{who} closed the session {why}, {how},"
    if cause is Cause.RELAY_LOST:
        return "A relay process of the sidecar died"
    if code == close_codes.ABNORMAL:
        how = "was reset" if fields.get("tcp_ended_how") == "reset" else "ended"
        return f"{who}'s TCP connection {how} without a Close frame"
    if code == close_codes.UNKNOWN:
        return f"{who}'s TCP connection ended, no longer parsed,"
    return f"{who} sent {_close(fields)}"


def _close(fields: Fields) -> str:
    if fields["code"] == close_codes.NO_STATUS:
        return "an empty Close frame"
    code = code_of(fields)
    if fields["code"] == close_codes.INVALID:
        return "an invalid Close frame" if code == close_codes.INVALID else f"Close {code}, which must not be sent,"
    return f"Close {code} {explain(code).name}".rstrip()


def evidence(fields: Fields) -> list[str]:
    """Return the evidence for the cause and further observations, as phrases."""
    phrases = list(fields.get("evidence") or ())
    if fields.get("reason"):
        phrases.insert(0, f"the reason text was “{fields['reason']}”")
    frames, messages = fields.get("cut_in_frame") or (), fields.get("cut_in_message") or ()
    phrases += [f"the last frame of the {peer_name(peer)} was incomplete" for peer in frames]
    phrases += [f"the last message of the {peer_name(peer)} was incomplete" for peer in messages if peer not in frames]
    return phrases


def idle_before(frames: Sequence[Fields]) -> float | None:
    """Return the seconds from the last frame that was no Close to the end; None if there was none."""
    last = next((frame for frame in reversed(frames) if frame["opcode"] != "close"), None)
    return None if last is None else float(last["age_s"])


@dataclass(frozen=True, slots=True)
class CodeMeaning:
    """One close code on a page. ``rows`` are pairs of a heading and a sentence."""

    code: str
    name: str
    rows: tuple[tuple[str, str], ...]


def explain(code: str) -> CodeMeaning:
    """Return the meaning of a code or a label value of ``code``. Never raises."""
    number = int(code) if code.isascii() and code.isdecimal() else -1
    if (info := close_codes.REGISTRY.get(number)) is not None:
        rows = (
            ("Meaning", info.meaning),
            ("Seen when", info.seen),
            ("What to do", info.remedy),
            ("Reconnect", info.reconnect_how),
        )
        return CodeMeaning(code, info.name, rows)
    name, text = close_codes.LABELS.get(code, ("", ""))
    if not text and number >= 0:
        name, text = "Private use" if number >= 4000 else "", f"A code that {close_codes.unregistered(number)}."
    return CodeMeaning(code, name, (("Meaning", text),) if text else ())


#: The codes that a page explains in full: those of the registry, and the label values that are no number.
GLOSSARY = tuple(map(explain, (*map(str, sorted(close_codes.REGISTRY)), *close_codes.LABELS)))
_ENTRIES = frozenset(meaning.code for meaning in GLOSSARY)


def entry(code: str) -> str:
    """Return the anchor of a code in the glossary; an unregistered code has its range's."""
    if code in _ENTRIES:
        return f"code-{code}"
    if code.isdecimal() and not 3000 <= int(code) <= 4999:
        return f"code-{close_codes.INVALID}"
    return f"code-{close_codes.LIBRARIES if code.startswith('3') else close_codes.PRIVATE}"


def chip(code: str) -> dict[str, str]:
    """Return a code as pages show it, with the place where it is explained."""
    return {"key": str(code), "href": f"#{entry(code)}", "meaning_id": f"{entry(code)}-meaning"}
