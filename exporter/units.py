"""Durations and sizes as people write them."""

from __future__ import annotations

import re

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", re.ASCII)
_SIZES = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2}
_SIZE = re.compile(r"(\d+)(B|KiB|MiB)?", re.ASCII)


def parse_duration(text: str) -> float:
    """Seconds from ``5``, ``0.5``, ``500ms``, ``5s``, ``2m`` or ``1h``. Raises ValueError saying what is accepted."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected seconds (5, 0.5) or a number with a unit (500ms, 5s, 2m, 1h)")
    return float(match[1]) * _UNITS[match[2] or ""]


def parse_size(text: str) -> int:
    """Bytes from ``65536``, ``64KiB`` or ``1MiB``. Raises ValueError saying what is accepted."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected bytes (65536) or a number with a unit (64KiB, 1MiB)")
    return int(match[1]) * _SIZES[match[2] or ""]
