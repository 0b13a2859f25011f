"""Waiting for a condition, with a deadline, never for luck."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

WAIT_LIMIT = 90.0
"""Seconds after which a test gives up: long enough for a noisy machine, short enough to be told what failed."""


def eventually(condition: Callable[[], T | None], what: str, seconds: float = WAIT_LIMIT) -> T:
    """Return the first truthy value of `condition`; raise AssertionError after `seconds`, naming `what`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(_on_timeout(what, seconds))
        time.sleep(0.01)
    return value


async def until(condition: Callable[[], T | None], what: str = "", seconds: float = WAIT_LIMIT) -> T:
    """The same, while the loop turns."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not (value := condition()):
        if loop.time() > deadline:
            raise AssertionError(_on_timeout(what or repr(condition), seconds))
        await asyncio.sleep(0.002)
    return value


def _on_timeout(what: str, seconds: float) -> str:
    return f"not within {seconds:g} s: {what}"
