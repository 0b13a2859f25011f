"""Parsers of numbers, durations, sizes and choices as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NUMBER = r"\d+(?:\.\d+)?"
_DURATION = re.compile(rf"(?:{_NUMBER}(?:h|ms|m|s))+", re.ASCII)
_PART = re.compile(rf"({_NUMBER})(h|ms|m|s)", re.ASCII)
_SIZES = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2}
_SIZE = re.compile(r"(\d+)(B|KiB|MiB)?", re.ASCII)
#: Seconds of a duration at most: a year.
MAX_DURATION = 365 * 86400.0
#: Bytes of a size at most.
MAX_SIZE = 1024**3


def parse_duration(text: str) -> float:
    """Return the seconds of ``5``, ``0.5``, ``500ms``, ``5s``, ``1m30s`` or ``2h``. Raises ValueError."""
    text = text.strip()
    if re.fullmatch(_NUMBER, text, re.ASCII):
        seconds = float(text)
    elif _DURATION.fullmatch(text):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    else:
        raise ValueError("expected seconds (5, 0.5) or numbers with units (500ms, 5s, 1m30s, 2h)")
    if seconds > MAX_DURATION:
        raise ValueError("expected a duration of at most a year (8760h)")
    return seconds


def parse_size(text: str) -> int:
    """Return the bytes of ``65536``, ``64KiB`` or ``1MiB``. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected bytes (65536) or a number with a unit (64KiB, 1MiB)")
    size = int(match[1]) * _SIZES[match[2] or ""]
    if size > MAX_SIZE:
        raise ValueError("expected a size of at most 1024MiB")
    return size


def parse_timeout(text: str) -> float:
    """Parse a duration above 0. Raises ValueError."""
    seconds = parse_duration(text)
    if not seconds:
        raise ValueError("expected a duration above 0, such as 5s")
    return seconds


def parse_count(text: str) -> int:
    """Parse a whole number, 0 or more. Raises ValueError."""
    if not (text.isascii() and text.strip().isdecimal()):
        raise ValueError("expected a whole number, 0 or more")
    return int(text)


def parse_bool(text: str) -> bool:
    """Parse ``true`` or ``false``. Raises ValueError."""
    return one_of("true", "false")(text) == "true"


def parse_port(text: str) -> int:
    """Parse a port number, 1 to 65535. Raises ValueError."""
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65535):
        raise ValueError("expected a port number (1 to 65535)")
    return int(text)


def parse_route(text: str) -> str:
    """Parse a shell-style pattern for paths, such as ``/chat/*``. Raises ValueError."""
    if not text.startswith("/") or not text.isprintable():
        raise ValueError("expected a pattern for paths that begins with a slash, such as /chat/*")
    return text


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser that accepts one of ``choices``."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return text

    return parse
