"""Durations as people write them."""

from __future__ import annotations

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", re.ASCII)


def seconds(text: str) -> float:
    """``"90"``, ``"0.5"``, ``"500ms"``, ``"5s"``, ``"2m"`` or ``"1h"``, in seconds.

    :raises ValueError: for anything else.
    """
    if (found := _DURATION.fullmatch(text.strip())) is None:
        raise ValueError("a duration is seconds (5, 0.5) or carries a unit (500ms, 5s, 2m, 1h)")
    return float(found[1]) * _UNITS[found[2]]
