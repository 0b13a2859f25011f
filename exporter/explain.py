"""``explain``: close codes, code labels and causes, as text for a person or as JSON for a program."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from exporter.protocol.causes import CAUSES, CauseInfo
from exporter.protocol.close_codes import LABELS, REGISTRY, CodeInfo, may_be_sent, unregistered
from exporter.protocol.enums import Cause, Severity
from exporter.protocol.presets import PRESETS

#: Columns of the text: a terminal's.
WIDTH = 80
_LABEL_WIDTH = 13
_SEVERITIES = {
    Severity.NORMAL: "normal: the session was over",
    Severity.EXPECTED: "expected: occurs in operation; watch the rate",
    Severity.FAULT: "fault: somebody has something to fix",
}

Data = dict[str, object]


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to explain: a code, a label value of ``code``, or a cause.

    :ivar title: the heading.
    :ivar rows: pairs of a heading and a sentence.
    :ivar data: the same for a program.
    :ivar possible: whether a session can end with it.
    """

    title: str
    rows: tuple[tuple[str, str], ...]
    data: Data
    possible: bool = True


def subject(text: str, presets: Sequence[str] = ()) -> Subject:
    """Return the code, label or cause that ``text`` names. Raises ValueError for other words.

    :param presets: presets that give private codes a cause.
    """
    if text.isascii() and text.isdecimal():
        return _code(int(text), presets)
    if text in LABELS:
        name, meaning = LABELS[text]
        return Subject(f"{text} {name}", (("Meaning", meaning),), {"label": text, "name": name, "meaning": meaning})
    if text in list(Cause):
        return _cause(CAUSES[Cause(text)])
    raise ValueError(f"{text}: expected a code, {', '.join(LABELS)} or a cause: {', '.join(sorted(Cause))}")


def preset_subject(name: str) -> Subject:
    """Return the codes of a preset. Raises KeyError for an unknown one."""
    preset = PRESETS[name]
    rows = [(str(code), str(cause)) for code, cause in preset.codes.items()]
    rows += [(f"{span.start}-{span.stop - 1}", str(cause)) for span, cause in preset.ranges]
    for code, texts in preset.texts.items():
        rows += [(str(code), f"{text.cause}, if its reason text matches {text.pattern.pattern}") for text in texts]
    codes = [{"code": code, "cause": cause} for code, cause in preset.codes.items()]
    data: Data = {"preset": name, "source": preset.source, "subprotocols": list(preset.subprotocols), "codes": codes}
    return Subject(name, (("Source", preset.source), *rows), data)


def _code(code: int, presets: Sequence[str]) -> Subject:
    meanings = [(name, cause) for name in presets if (cause := _preset_cause(name, code)) is not None]
    given = tuple((name, f"{cause}: {CAUSES[cause].meaning}") for name, cause in meanings)
    info = REGISTRY.get(code)
    if info is None:
        note = unregistered(code)
        data: Data = {"code": code, "registered": False, "may_be_sent": may_be_sent(code), "note": note}
        data |= {"presets": dict(meanings)} if presets else {}
        return Subject(f"{code} {note}.", given, data, may_be_sent(code))
    data = {
        "code": code,
        "registered": True,
        "may_be_sent": info.on_the_wire,
        "name": info.name,
        "meaning": info.meaning,
        "seen": info.seen,
        "remedy": info.remedy,
        "reconnect": info.reconnect,
        "reconnect_how": info.reconnect_how,
        "cause": info.cause,
        "severity": info.severity,
    }
    data |= {"presets": dict(meanings)} if presets else {}
    return Subject(f"{code} {info.name}", (*_rows(info), *given), data)


def _preset_cause(name: str, code: int) -> Cause | None:
    preset = PRESETS[name]
    if code in preset.codes:
        return preset.codes[code]
    return next((cause for span, cause in preset.ranges if code in span), None)


def _rows(info: CodeInfo) -> tuple[tuple[str, str], ...]:
    return (
        ("Meaning", info.meaning),
        ("Seen when", info.seen),
        ("What to do", info.remedy),
        ("Reconnect", info.reconnect_how),
        ("Cause label", info.cause),
        ("Severity", _SEVERITIES[info.severity]),
        ("In a frame", "yes" if info.on_the_wire else "never; only reported by the peer that notices"),
    )


def _cause(info: CauseInfo) -> Subject:
    codes = [str(code) for code, registered in REGISTRY.items() if registered.cause is info.cause]
    rows = (
        ("Meaning", info.meaning),
        ("What to do", info.remedy),
        ("Severity", _SEVERITIES[info.severity]),
        ("Initiator", ", ".join(info.initiators)),
        ("Logged", "as a warning, with a report" if info.abnormal else "at level info, without a report"),
        ("Codes", ", ".join(codes) or "none of its own"),
    )
    data: Data = {
        "cause": info.cause,
        "severity": info.severity,
        "abnormal": info.abnormal,
        "server_fault": info.server_fault,
        "initiators": list(info.initiators),
        "codes": [int(code) for code in codes],
        "meaning": info.meaning,
        "remedy": info.remedy,
    }
    return Subject(info.cause, rows, data)


def as_json(subjects: Iterable[Subject]) -> str:
    """Return all of ``subjects``, in order, as a JSON list."""
    return json.dumps([subject.data for subject in subjects], indent=2)


def as_text(subjects: Sequence[Subject], width: int = WIDTH) -> str:
    """Return all of ``subjects``: two different ones of the same kind side by side, others one below the other."""
    if len(subjects) == 2:
        left, right = subjects
        headings = [heading for heading, _ in left.rows]
        if left != right and len(headings) > 2 and headings == [heading for heading, _ in right.rows]:
            return _side_by_side(left, right, width)
    return "\n\n".join(_one(subject, width) for subject in subjects)


def _one(subject: Subject, width: int) -> str:
    wrap = _wrapper(width - _LABEL_WIDTH - 2)
    lines = textwrap.wrap(subject.title, width)
    for heading, text in subject.rows:
        lines += [f"  {heading if n == 0 else '':{_LABEL_WIDTH}}{line}" for n, line in enumerate(wrap(text))]
    return "\n".join(lines)


def _wrapper(width: int) -> Callable[[str], list[str]]:
    """Wrap text, breaking words only where nothing else fits: addresses."""
    return textwrap.TextWrapper(width, break_on_hyphens=False).wrap


def _side_by_side(left: Subject, right: Subject, width: int) -> str:
    column = (width - _LABEL_WIDTH - 3) // 2
    wrap = _wrapper(column)

    def row(heading: str, first: str, second: str) -> list[str]:
        firsts, seconds = wrap(first), wrap(second)
        height = max(len(firsts), len(seconds))
        firsts += [""] * (height - len(firsts))
        seconds += [""] * (height - len(seconds))
        return [
            f"{heading if n == 0 else '':{_LABEL_WIDTH}}{a:{column}}   {b}".rstrip()
            for n, (a, b) in enumerate(zip(firsts, seconds, strict=True))
        ]

    lines = row("", left.title, right.title)
    lines += row("", "-" * column, "-" * column)
    pairs = list(zip(left.rows, right.rows, strict=True))
    for (heading, mine), (_, other) in pairs:
        if mine != other:
            lines += [*row(heading, mine, other), ""]
    same = [heading.lower() for (heading, mine), (_, other) in pairs if mine == other]
    if same:
        lines += textwrap.wrap(f"The same for both: {', '.join(same)}.", width)
    return "\n".join(lines).rstrip()
