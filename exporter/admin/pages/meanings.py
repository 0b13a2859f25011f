"""What a cause and a code mean, in a sentence, for a page. Codes come from the registry; here is only what it lacks."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.protocol.causes import CAUSES as INFO
from exporter.protocol.close_codes import LABELS, LIBRARIES, NATURES, PRIVATE, REGISTRY, Nature, unregistered
from exporter.protocol.enums import Cause, Severity


@dataclass(frozen=True, slots=True)
class Meaning:
    """How much an ending should worry a person, and why in a sentence."""

    nature: Nature
    text: str


def meaning_of(cause: str) -> Meaning:
    """Return how much a cause matters and its meaning. Raises ValueError for an unknown cause."""
    info = INFO[Cause(cause)]
    return Meaning(NATURES[info.severity], info.meaning)


#: Every cause in the order in which pages show them: faults first.
CAUSES: tuple[Cause, ...] = tuple(sorted(INFO, key=lambda cause: list(Severity).index(INFO[cause].severity)))


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
    name, text = LABELS.get(code, ("", ""))
    if not text and code.isascii() and code.isdecimal():
        name, text = "Private use" if int(code) >= 4000 else "", f"A code that {unregistered(int(code))}."
    return CodeMeaning(code, name, None, (("Meaning", text),) if text else ())


def name_of(code: str) -> str:
    """``1011 Internal Error``; a code without a name is just itself."""
    return f"{code} {explain(code).name}".rstrip()


#: The codes that a page explains in full: those of the registry, and the label values that are no number.
GLOSSARY: tuple[CodeMeaning, ...] = tuple(explain(code) for code in (*map(str, sorted(REGISTRY)), *LABELS))
_ENTRIES = frozenset(meaning.code for meaning in GLOSSARY)


def entry(code: str) -> str:
    """Where in the glossary a code is explained: an anchor. A configured private code has its range's."""
    if code in _ENTRIES:
        return f"code-{code}"
    return f"code-{LIBRARIES if code.startswith('3') else PRIVATE}"
