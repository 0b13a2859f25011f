"""Child processes end when told to, however stubborn they are."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from exporter.demo import DemoError, children
from exporter.demo.children import Child
from tests.waiting import PATIENCE

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(99)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After two SIGTERMs without effect comes SIGKILL; stop() returns when the process has ended."""
    monkeypatch.setattr(children, "GRACE", 0.1)

    async def scene() -> int:
        child = await Child.start("mule", python(STUBBORN), tmp_path / "log")

        async def is_up() -> bool:
            return child.last_words() == "up"

        await child.up(is_up)
        await asyncio.wait_for(child.stop(), PATIENCE)
        return await child.ended()

    assert asyncio.run(scene()) == -9


def test_a_child_that_ends_before_it_is_up(tmp_path: Path) -> None:
    """Waiting for a process that ends says which, and repeats its last line."""

    async def never() -> bool:
        return False

    async def scene() -> None:
        child = await Child.start("mayfly", python("print('goodbye'); print()"), tmp_path / "log")
        await child.up(never)

    with pytest.raises(DemoError, match="the mayfly did not start: goodbye"):
        asyncio.run(scene())


def test_a_child_that_is_never_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting has an end, too, for a process that just does not get ready."""
    monkeypatch.setattr(children, "START_TIMEOUT", 0.2)

    async def never() -> bool:
        return False

    async def scene() -> None:
        child = await Child.start("sloth", python("import time; time.sleep(99)"), tmp_path / "log")
        try:
            await child.up(never)
        finally:
            await child.stop()

    with pytest.raises(DemoError, match="the sloth is not up after"):
        asyncio.run(scene())
