"""Runs the demo: the app, the sidecar in front of it, and visitors.

The three are processes of their own, as they would be in a cluster. They start in the order in which they
need each other and end in the opposite order, whatever happens. What the sidecar counts is read from its
/metrics and told in one line every few seconds.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import click

from exporter.address import Address
from exporter.demo import DemoError, tally
from exporter.demo.addresses import claim
from exporter.demo.app import Bug
from exporter.demo.children import Child
from exporter.demo.keeper import AppKeeper
from exporter.demo.tally import FrameCounts

#: The command that starts the sidecar; its addresses follow as flags.
SIDECAR = (sys.executable, "-m", "exporter", "run")

#: A sidecar in a cluster gives sessions time to end, and Prometheus time for a last look. Here both have had it.
END_SOON = ("--drain-timeout", "3s", "--drain-spread", "1s", "--drain-linger", "0s")

#: Seconds between two looks at /metrics; and for the last sessions to be counted before the last look.
TELL_EVERY, PROBE_DELAY = 5.0, 2.0

#: Seconds for one answer over loopback.
HTTP_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and where. Durations in seconds; a ``restart_every`` or ``duration`` of 0 means never."""

    listen: Address
    admin: Address
    app: Address
    clients: int
    bug_rate: float
    restart_every: float
    duration: float


async def run(plan: Plan) -> None:
    """Run the demo until SIGINT, SIGTERM, SIGHUP or the end of ``plan.duration``; leaves no process behind.

    :raises DemoError: when an address is taken, or a process does not start or does not last.
    """
    demo = Demo(plan)
    stop = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    await _first_of(stop.wait(), demo.run())


async def _first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Run all until one ends, then cancel the others and wait for them. Raises what the first one raised."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


class Demo:
    """One run of the demo."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._listen = _claim(plan.listen, "--listen")
        self._admin = _claim(plan.admin, "--admin")
        self._app = _claim(plan.app, "--app-port")
        self._started = time.monotonic()

    async def run(self) -> None:
        """Start everything, tell what happens, and end everything when cancelled or when the time is over."""
        async with AsyncExitStack() as stack:
            logs = Path(stack.enter_context(TemporaryDirectory(prefix="websocket-exporter-demo-")))
            self._http = await stack.enter_async_context(
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(HTTP_TIMEOUT))
            )
            app = AppKeeper(self._app, Bug(self._plan.bug_rate), logs / "app.log", self._http, self._say)
            stack.push_async_callback(app.stop)
            await app.start()

            sidecar = await Child.start("sidecar", self._sidecar_command(), logs / "sidecar.log")
            stack.push_async_callback(sidecar.stop)
            await sidecar.up(self._ready)

            stack.push_async_callback(self._sum_up)
            traffic = await Child.start("traffic", self._traffic_command(), logs / "traffic.log")
            stack.push_async_callback(traffic.stop)

            click.echo(self._welcome(logs))
            running = [app.keep(self._plan.restart_every), self._tell(), sidecar.lasts(), traffic.lasts()]
            if self._plan.duration:
                running.append(asyncio.sleep(self._plan.duration))
            await _first_of(*running)

    def _sidecar_command(self) -> list[str]:
        flags = ["--upstream", self._app, "--listen", self._listen, "--admin", self._admin]
        return [*SIDECAR, *map(str, flags), *END_SOON]

    def _traffic_command(self) -> list[str]:
        url = f"ws://{self._listen.local}/chat"
        command = [sys.executable, "-m", "exporter.demo.traffic"]
        return [*command, "--url", url, "--clients", str(self._plan.clients)]

    def _welcome(self, logs: Path) -> str:
        every = self._plan.restart_every
        restarts = f", restarted every {every:g} s" if every else ""
        return f"""\
{self._plan.clients} chat clients -> websocket-exporter -> a chat app that fails now and then{restarts}

  look here     http://{self._admin.local}/
  metrics       http://{self._admin.local}/metrics
  more bugs     curl 'http://{self._listen.local}/bug?rate=0.2'    none: rate=0; with no Close: kind=drops
  logs          {logs}
  Ctrl-C        ends it
"""

    def _say(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        click.echo(f"{minutes:02}:{seconds:02}  {text}")

    async def _get(self, path: str) -> str:
        async with self._http.get(f"http://{self._admin.local}{path}") as answer:
            answer.raise_for_status()
            return await answer.text()

    async def _ready(self) -> bool:
        try:
            await self._get("/readyz")
        except (aiohttp.ClientError, TimeoutError):
            return False
        return True

    async def _tally(self) -> FrameCounts | None:
        """What the sidecar has counted; None when it does not answer."""
        try:
            return tally.read(await self._get("/metrics"))
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def _tell(self) -> None:
        before = FrameCounts()
        while True:
            await asyncio.sleep(TELL_EVERY)
            if (now := await self._tally()) is not None:
                self._say(tally.news(before, now))
                before = now

    async def _sum_up(self) -> None:
        """The last words, when the visitors have left: all that the sidecar has counted."""
        deadline = time.monotonic() + PROBE_DELAY
        while (last := await self._tally()) and last.active and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        if last is not None and last.closed.total():
            self._say(f"{last.closed.total()} connections have ended:\n\n{tally.table(last)}")


def _claim(address: Address, option: str) -> Address:
    try:
        return claim(address)
    except (OSError, UnicodeError) as failed:
        why = failed.strerror if isinstance(failed, OSError) else "not the name of a host"
        raise DemoError(f"{address}: {why}; choose another with {option}") from None
