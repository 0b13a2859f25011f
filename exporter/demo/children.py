"""Child processes that end when they should: when told to, and when their parent is gone."""

from __future__ import annotations

import asyncio
import ctypes
import re
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NoReturn

from exporter.demo import DemoError

#: Seconds in which a process must be up, and between two looks.
START_TIMEOUT, LOOK_EVERY = 20.0, 0.1

#: Seconds to wait after each of SIGTERM, SIGTERM, SIGKILL. The second tells the sidecar not to drain.
GRACE = 5.0

#: prctl(2): the signal to get when the parent dies.
_PR_SET_PDEATHSIG = 1


class Child:
    """One running process whose output goes to a file."""

    def __init__(self, name: str, process: Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    async def start(cls, name: str, command: Sequence[str], log: Path) -> Child:
        """Start ``command``. It gets a session of its own, so that Ctrl-C reaches only its parent.

        :raises OSError: when it cannot be started.
        """
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ended(self) -> int:
        """Wait for its end; its exit status, or minus the signal that ended it."""
        return await self._process.wait()

    async def up(self, is_up: Callable[[], Awaitable[bool]]) -> None:
        """Wait until ``is_up`` says so.

        :raises DemoError: when the process ends before, or takes longer than :data:`START_TIMEOUT`.
        """
        deadline = time.monotonic() + START_TIMEOUT
        while not await is_up():
            if self._process.returncode is not None:
                raise DemoError(f"the {self.name} did not start: {self.last_words()}")
            if time.monotonic() > deadline:
                raise DemoError(f"the {self.name} is not up after {START_TIMEOUT:.0f} s: {self.last_words()}")
            await asyncio.sleep(LOOK_EVERY)

    async def lasts(self) -> NoReturn:
        """Wait, for ever if all is well.

        :raises DemoError: when the process ends.
        """
        status = await self.ended()
        raise DemoError(f"the {self.name} ended by itself, status {status}: {self.last_words()}")

    async def stop(self) -> None:
        """SIGTERM, after a while again, at last SIGKILL; returns when it has ended."""
        for sign in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if self._process.returncode is not None:
                return
            self._process.send_signal(sign)
            try:
                await asyncio.wait_for(self._process.wait(), GRACE)
            except TimeoutError:
                continue

    def last_words(self) -> str:
        """The last line it wrote."""
        lines = self.log.read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return re.sub(r"^(websocket-exporter: )?error: ", "", last, flags=re.IGNORECASE)


def _on_linux() -> Callable[[], object] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


#: Runs in the child before the program: a parent that is killed takes its children along (Linux).
_end_with_parent = _on_linux()
