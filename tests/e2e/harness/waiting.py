"""Waiting for a condition, with a deadline, never for luck."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds: long enough for a noisy machine, short enough to be told what failed."""


def eventually(condition: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """Return the first truthy value of `condition`; raise AssertionError after `seconds`, naming `what`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)
    return value
