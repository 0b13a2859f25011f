"""``explain``: what close codes mean, as text for a person or as JSON for a program."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence

from exporter.protocol.close_codes import REGISTRY, CodeInfo, may_be_sent, unregistered
from exporter.protocol.enums import Severity

_ROWS = (
    ("meaning", "Meaning"),
    ("seen", "Seen when"),
    ("remedy", "What to do"),
    ("reconnect", "Reconnect"),
    ("cause", "Cause label"),
    ("severity", "Severity"),
    ("wire", "In a frame"),
)
_LABEL_WIDTH = 13
_SEVERITIES = {
    Severity.NORMAL: "normal: the session was over",
    Severity.EXPECTED: "expected: occurs in operation; watch the rate",
    Severity.FAULT: "fault: somebody has something to fix",
}


def describe(code: int) -> dict[str, object]:
    """What is known of one code, ready for JSON."""
    info = REGISTRY.get(code)
    if info is None:
        return {"code": code, "registered": False, "may_be_sent": may_be_sent(code), "note": unregistered(code)}
    return {
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


def as_json(codes: Sequence[int]) -> str:
    """All of ``codes``, in order, as a JSON list."""
    return json.dumps([describe(code) for code in codes], indent=2)


def as_text(codes: Sequence[int], width: int = 100) -> str:
    """All of ``codes``: two registered ones side by side, otherwise one below the other."""
    known = [REGISTRY[code] for code in codes if code in REGISTRY]
    if len(codes) == 2 and len(known) == 2 and codes[0] != codes[1]:
        return _side_by_side(known[0], known[1], width)
    return "\n\n".join(_one(code, width) for code in codes)


def _cells(info: CodeInfo) -> dict[str, str]:
    return {
        "meaning": info.meaning,
        "seen": info.seen,
        "remedy": info.remedy,
        "reconnect": info.reconnect_how,
        "cause": info.cause,
        "severity": _SEVERITIES[info.severity],
        "wire": "yes" if info.on_the_wire else "never; only reported by whoever notices",
    }


def _one(code: int, width: int) -> str:
    info = REGISTRY.get(code)
    if info is None:
        return f"{code} {unregistered(code)}."
    cells = _cells(info)
    lines = [f"{code} {info.name}"]
    for key, label in _ROWS:
        wrapped = textwrap.wrap(cells[key], width - _LABEL_WIDTH - 2)
        lines += [f"  {label if n == 0 else '':{_LABEL_WIDTH}}{line}" for n, line in enumerate(wrapped)]
    return "\n".join(lines)


def _side_by_side(left: CodeInfo, right: CodeInfo, width: int) -> str:
    column = (width - _LABEL_WIDTH - 4) // 2

    def row(label: str, first: str, second: str) -> list[str]:
        firsts, seconds = textwrap.wrap(first, column), textwrap.wrap(second, column)
        height = max(len(firsts), len(seconds))
        firsts += [""] * (height - len(firsts))
        seconds += [""] * (height - len(seconds))
        return [
            f"{label if n == 0 else '':{_LABEL_WIDTH}}{a:{column}}    {b}".rstrip()
            for n, (a, b) in enumerate(zip(firsts, seconds, strict=True))
        ]

    lines = row("", f"{left.code} {left.name}", f"{right.code} {right.name}")
    lines += row("", "-" * column, "-" * column)
    ours, theirs = _cells(left), _cells(right)
    same = [label.lower() for key, label in _ROWS if ours[key] == theirs[key]]
    for key, label in _ROWS:
        if ours[key] != theirs[key]:
            lines += [*row(label, ours[key], theirs[key]), ""]
    if same:
        lines.append(f"The same for both: {', '.join(same)}.")
    return "\n".join(lines).rstrip()
