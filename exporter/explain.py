"""``explain``: close codes, code labels and causes, as text for a person or as JSON for a program."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

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
    rows: Sequence[tuple[str, str]]
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
        return Subject(f"{text} {name}", [("Meaning", meaning)], {"label": text, "name": name, "meaning": meaning})
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
    return Subject(name, [("Source", preset.source), *rows], data)


def _code(code: int, presets: Sequence[str]) -> Subject:
    meanings = {name: cause for name in presets if (cause := _preset_cause(name, code)) is not None}
    info = REGISTRY.get(code)
    if info is None:
        possible, note = may_be_sent(code), unregistered(code)
        data: Data = {"code": code, "registered": False, "may_be_sent": possible, "note": note}
        title, rows = f"{code} {note}.", []
    else:
        possible = True
        data = {"code": code, "registered": True, "may_be_sent": info.on_the_wire}
        data |= _data(info, "name", "meaning", "seen", "remedy", "reconnect", "reconnect_how", "cause", "severity")
        title, rows = f"{code} {info.name}", _rows(info)
    if presets:
        data["presets"] = meanings
    rows += [(name, f"{cause}: {CAUSES[cause].meaning}") for name, cause in meanings.items()]
    return Subject(title, rows, data, possible)


def _preset_cause(name: str, code: int) -> Cause | None:
    preset = PRESETS[name]
    if code in preset.codes:
        return preset.codes[code]
    return next((cause for span, cause in preset.ranges if code in span), None)


def _rows(info: CodeInfo) -> list[tuple[str, str]]:
    return [
        ("Meaning", info.meaning),
        ("Seen when", info.seen),
        ("What to do", info.remedy),
        ("Reconnect", info.reconnect_how),
        ("Cause label", info.cause),
        ("Severity", _SEVERITIES[info.severity]),
        ("In a frame", "yes" if info.on_the_wire else "never; only reported by the peer that notices"),
    ]


def _cause(info: CauseInfo) -> Subject:
    codes = [code for code, registered in REGISTRY.items() if registered.cause is info.cause]
    rows = (
        ("Meaning", info.meaning),
        ("What to do", info.remedy),
        ("Severity", _SEVERITIES[info.severity]),
        ("Initiator", ", ".join(info.initiators)),
        ("Logged", "as a warning, with a report" if info.abnormal else "at level info, without a report"),
        ("Codes", ", ".join(map(str, codes)) or "none of its own"),
    )
    data = _data(info, "cause", "severity", "abnormal", "server_fault", "initiators")
    return Subject(info.cause, rows, data | {"codes": codes} | _data(info, "meaning", "remedy"))


def _data(info: CodeInfo | CauseInfo, *fields: str) -> Data:
    return {field: getattr(info, field) for field in fields}


def as_json(subjects: Iterable[Subject]) -> str:
    """Return all of ``subjects``, in order, as a JSON list."""
    return json.dumps([subject.data for subject in subjects], indent=2)


def as_text(subjects: Sequence[Subject]) -> str:
    """Return all of ``subjects``: two different ones of the same kind side by side, others one below the other."""
    if len(subjects) == 2:
        left, right = subjects
        headings = [heading for heading, _ in left.rows]
        if left != right and len(headings) > 2 and headings == [heading for heading, _ in right.rows]:
            return _side_by_side(left, right)
    return "\n\n".join(map(_one, subjects))


def _one(subject: Subject) -> str:
    lines = textwrap.wrap(subject.title, WIDTH)
    for heading, text in subject.rows:
        for n, line in enumerate(_wrap(text, WIDTH - _LABEL_WIDTH - 2)):
            lines.append(f"  {heading if n == 0 else '':{_LABEL_WIDTH}}{line}")
    return "\n".join(lines)


def _wrap(text: str, width: int) -> list[str]:
    """Wrap text, breaking words only where nothing else fits: addresses."""
    return textwrap.wrap(text, width, break_on_hyphens=False)


def _side_by_side(left: Subject, right: Subject) -> str:
    column = (WIDTH - _LABEL_WIDTH - 3) // 2

    def row(heading: str, first: str, second: str) -> list[str]:
        pairs = zip_longest(_wrap(first, column), _wrap(second, column), fillvalue="")
        return [
            f"{heading if n == 0 else '':{_LABEL_WIDTH}}{a:{column}}   {b}".rstrip() for n, (a, b) in enumerate(pairs)
        ]

    lines = row("", left.title, right.title)
    lines += row("", "-" * column, "-" * column)
    same = []
    for (heading, mine), (_, other) in zip(left.rows, right.rows, strict=True):
        if mine == other:
            same.append(heading.lower())
        else:
            lines += [*row(heading, mine, other), ""]
    if same:
        lines += textwrap.wrap(f"The same for both: {', '.join(same)}.", WIDTH)
    return "\n".join(lines).rstrip()
