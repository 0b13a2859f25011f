"""What a cause and a code mean, in a sentence, for a page. Codes come from the registry; here is only what it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.protocol.close_codes import INVALID, LIBRARIES, PRIVATE, REGISTRY, UNKNOWN, CodeInfo, Nature, unregistered
from exporter.protocol.enums import Cause

_O, _W, _F = Nature.ORDINARY, Nature.WEATHER, Nature.FAULT


@dataclass(frozen=True, slots=True)
class Meaning:
    """How much an ending should worry a person, and why in a sentence."""

    nature: Nature
    text: str


#: Causes that no code of the registry stands for alone.
_JUDGED: Mapping[Cause, Meaning] = {
    Cause.PROTOCOL_ERROR: Meaning(_F, "A peer sent what RFC 6455 or the other peer does not allow."),
    Cause.PING_TIMEOUT: Meaning(_W, "A ping got no pong in time: the peer or the way to it was gone or stuck."),
    Cause.APPLICATION: Meaning(_W, "A code of the application's own: its authors know what it says."),
    Cause.CONNECTION_LOST: Meaning(
        _F, "TCP ended without a Close frame. From the server it is often an unhandled exception."
    ),
    Cause.CONNECTION_RESET: Meaning(_F, "TCP was reset without a Close frame: a crash, a kill, or a device between."),
    Cause.IDLE_TIMEOUT: Meaning(_F, "TCP ended after just as long a silence as a known proxy or balancer allows."),
    Cause.APP_DOWN: Meaning(_F, "The app ended TCP without a Close frame and takes no connections."),
    Cause.DRAIN: Meaning(_W, "The sidecar ended it on purpose, so that the pod could go."),
    Cause.LIMIT: Meaning(_W, "The sidecar ended it on purpose, at the configured greatest age."),
    Cause.UNOBSERVED: Meaning(_F, "It could not be followed any more, so why it ended is not known."),
}

_BY_CAUSE: Mapping[Cause, CodeInfo] = {info.cause: info for info in REGISTRY.values() if info.on_the_wire}

#: Label values that are no number.
_LABELS: Mapping[str, tuple[str, str]] = {
    INVALID: ("Must not be sent", "A Close frame with a code that no peer may send, or with a body of one byte."),
    UNKNOWN: ("Not understood", "TCP ended on a connection that was still forwarded but no longer understood."),
    LIBRARIES: ("Libraries", f"A code from 3000 to 3999, which {unregistered(3999)}."),
    PRIVATE: ("Private use", f"A code from 4000 to 4999, which {unregistered(4999)}."),
}


def meaning_of(cause: str) -> Meaning:
    """What a cause means. Raises ValueError if it is none."""
    known = Cause(cause)
    if known in _JUDGED:
        return _JUDGED[known]
    if known is Cause.NO_STATUS:
        return Meaning(_O, "A Close frame came without a code, as from close() without arguments in a browser.")
    info = _BY_CAUSE[known]
    return Meaning(info.nature, info.meaning)


#: Faults that are looked for first.
_FIRST = (Cause.INTERNAL_ERROR, Cause.CONNECTION_LOST, Cause.CONNECTION_RESET, Cause.APP_DOWN, Cause.IDLE_TIMEOUT)
#: Every cause in the order in which pages show them: what somebody has to fix comes first.
CAUSES: tuple[Cause, ...] = tuple(
    sorted(
        dict.fromkeys((*_FIRST, Cause.GOING_AWAY, *Cause)),
        key=lambda cause: (_F, _W, _O).index(meaning_of(cause).nature),
    )
)


@dataclass(frozen=True, slots=True)
class CodeMeaning:
    """What a page shows of a code. ``rows`` are pairs of a heading and a sentence."""

    code: str
    name: str
    nature: Nature | None
    rows: tuple[tuple[str, str], ...]


def explain(code: str) -> CodeMeaning:
    """What is known of a label value of ``code``. Never raises."""
    info = REGISTRY.get(int(code)) if code.isascii() and code.isdecimal() else None
    if info is not None:
        return CodeMeaning(
            code,
            info.name,
            info.nature,
            (
                ("Meaning", info.meaning),
                ("Seen when", info.seen),
                ("What to do", info.remedy),
                ("Reconnect", info.reconnect_how),
            ),
        )
    name, text = _LABELS.get(code, ("", ""))
    if not text and code.isascii() and code.isdecimal():
        name, text = "Private use" if int(code) >= 4000 else "", f"A code that {unregistered(int(code))}."
    return CodeMeaning(code, name, None, (("Meaning", text),) if text else ())


def name_of(code: str) -> str:
    """``1011 Internal Error``; a code without a name is just itself."""
    return f"{code} {explain(code).name}".rstrip()


#: The codes that a page explains in full: those of the registry, and the label values that are no number.
GLOSSARY: tuple[CodeMeaning, ...] = tuple(explain(code) for code in (*map(str, sorted(REGISTRY)), *_LABELS))
_ENTRIES = frozenset(meaning.code for meaning in GLOSSARY)


def entry(code: str) -> str:
    """Where in the glossary a code is explained: an anchor. A configured private code has its range's."""
    if code in _ENTRIES:
        return f"code-{code}"
    return f"code-{LIBRARIES if code.startswith('3') else PRIVATE}"
