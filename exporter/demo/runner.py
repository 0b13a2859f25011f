"""The command `demo`: the chat server and its clients in this process, the sidecar between them in its own.

They start in the order in which they need each other and end in the opposite order. The kernel sends SIGTERM to the
sidecar when this process dies, even by SIGKILL.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import re
import shutil
import signal
import sys
import textwrap
import time
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import aiohttp
import click

from exporter.address import Address, parse_listen
from exporter.demo.chat_server import Bug, BugKind, Chat, serve_chat
from exporter.demo.clients import Behaviour, run_clients
from exporter.demo.summary import Close, Counts, Links, Tour, plural, progress, read_counts, summary
from exporter.listening import CannotListen, close_all, open_listeners
from exporter.options import parsed
from exporter.units import parse_duration

#: A short drain: no session is left when the sidecar is stopped.
SHORT_DRAIN = ("--drain-timeout", "3s", "--drain-spread", "1s", "--drain-linger", "0s")
#: Seconds in which the sidecar must be ready, and between two checks.
START_TIMEOUT, POLL = 20.0, 0.1
#: Seconds to wait after each of SIGTERM, SIGTERM, SIGKILL; the second SIGTERM ends the drain.
STOP_TIMEOUT = 5.0
#: Seconds that the app is down in a restart.
RESTART_GAP = 0.5
#: Seconds between two progress lines.
PROGRESS_INTERVAL = 5.0
#: Seconds to read a step of the tour, and between checks whether the next one has happened.
TOUR_INTERVAL, TOUR_POLL = 10.0, 1.0
#: Seconds for one answer of the sidecar.
HTTP_TIMEOUT = 2.0
#: The newest reports to read: among them are the closes of every step of the tour.
REPORTS = 200

#: prctl(2): the signal to receive when the parent dies.
_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl


class DemoError(Exception):
    """The demo cannot start or continue. The message is the reason, on one line."""


async def run(demo: Demo) -> None:
    """Run the demo until SIGINT, SIGTERM, SIGHUP or the end of its duration; leave no process. Raises DemoError."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with _running(demo.run()) as task, _running(stop.wait()) as stopped:
        await _first_of(task, stopped)


@asynccontextmanager
async def _running(coroutine: Coroutine[Any, Any, Any]) -> AsyncIterator[asyncio.Task[Any]]:
    """Run a task; on exit, cancel it and wait for its end."""
    task = asyncio.create_task(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _first_of(*tasks: asyncio.Task[Any]) -> None:
    """Wait for one of the tasks. Raises its exception."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


@dataclass
class Demo:
    """One run of the demo. ``restart_every`` and ``duration`` are in seconds; 0 disables.

    Raises DemoError if an address is in use.
    """

    listen: Address
    admin: Address
    app: Address
    clients: int
    bug: Bug
    restart_every: float
    duration: float
    tour: bool

    def __post_init__(self) -> None:
        self.listen, self.admin = _free(self.listen, "--listen"), _free(self.admin, "--admin")
        self.app = _free(self.app, "--app-port")
        self._started = time.monotonic()

    async def run(self) -> None:
        """Start all parts and report on them until cancelled or until the duration is over. Raises DemoError."""
        async with AsyncExitStack() as stack:
            logs = Path(stack.enter_context(TemporaryDirectory(prefix="websocket-exporter-demo-")))
            timeout = aiohttp.ClientTimeout(HTTP_TIMEOUT)
            self._http = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
            stack.callback(_log_to(logs / "app.log").close)
            app = await stack.enter_async_context(_running(self._serve_app()))
            addresses = ("--upstream", self.app, "--listen", self.listen, "--admin", self.admin)
            flags = (*map(str, addresses), *SHORT_DRAIN)
            sidecar = await stack.enter_async_context(_sidecar(flags, logs / "sidecar.log"))
            async with _running(self._wait_ready(logs / "sidecar.log")) as ready:
                await _first_of(ready, app, sidecar)

            links = Links(f"http://{self.admin.local}", f"http://{self.listen.local}", logs, _own_command())
            click.echo(self._welcome(links))
            behaviour = Behaviour(f"ws://{self.listen.local}/chat")
            clients = await stack.enter_async_context(
                _running(run_clients(behaviour, self.clients, 1, asyncio.Event()))
            )
            duration = asyncio.sleep(self.duration or float("inf"))
            async with _running(self._report(links)) as report, _running(duration) as over:
                try:
                    await _first_of(app, sidecar, clients, report, over)
                finally:
                    await self._summarize()  # before the parts close the sessions that are open

    async def _serve_app(self) -> NoReturn:
        """Serve the chat; restart it as often as the plan says. Raises OSError."""
        chat = Chat(self.bug)
        while True:
            async with serve_chat(chat, self.app.port):
                await asyncio.sleep(self.restart_every or float("inf"))
                self._print("the app restarts: it closes all sessions with 1001")
            await asyncio.sleep(RESTART_GAP)

    async def _wait_ready(self, log: Path) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            try:
                await self._get("/readyz")
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(POLL)
            else:
                return
        raise DemoError(f"the sidecar is not ready after {START_TIMEOUT:.0f} s: {_last_line(log)}")

    def _welcome(self, links: Links) -> str:
        every = self.restart_every
        restarts = f", restarted every {every:g} s" if every else ""
        hint = "" if self.tour else f"\n  tour          {links.command} demo --tour"
        return f"""\
{plural(self.clients, "chat client")} -> websocket-exporter -> a chat server with a bug{restarts}

  page          {links.admin}/
  metrics       {links.admin}/metrics
  more bugs     curl '{links.app}/bug?rate=0.2'     none: rate=0
  one kind      curl '{links.app}/bug?kind=raises'  1011; no Close frame: kind=drops
  logs          {links.logs}{hint}
  Ctrl-C        ends the demo
"""

    def _print(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        click.echo(f"{minutes:02}:{seconds:02}  {text}")

    async def _get(self, path: str) -> str:
        async with self._http.get(f"http://{self.admin.local}{path}") as answer:
            answer.raise_for_status()
            return await answer.text()

    async def _counts(self) -> Counts | None:
        """Return the sidecar's counts; None if it does not answer."""
        try:
            return read_counts(await self._get("/metrics"))
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def _reports(self) -> dict[Close, str]:
        """Return the session id of the newest report of each kind of close."""
        try:
            closes = json.loads(await self._get(f"/closes?format=json&limit={REPORTS}"))["closes"]
        except (aiohttp.ClientError, TimeoutError):
            return {}
        return {Close(one["code"], one["cause"], one["initiator"]): one["session_id"] for one in reversed(closes)}

    async def _report(self, links: Links) -> None:
        """Print the tour if there is one, then a progress line every few seconds."""
        tour = Tour(links)
        while self.tour and not tour.is_over:
            counts = await self._counts()
            step = counts and tour.next(counts, await self._reports(), time.monotonic() - self._started)
            if step:
                self._print(textwrap.indent(step, " " * 7).lstrip())
            await asyncio.sleep(TOUR_INTERVAL if step else TOUR_POLL)
        before = await self._counts() if self.tour else Counts()
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL)
            if (now := await self._counts()) is not None:
                self._print(progress(before or Counts(), now))
                before = now

    async def _summarize(self) -> None:
        if (counts := await self._counts()) is not None and counts.closed.total():
            self._print(summary(counts))


@asynccontextmanager
async def _sidecar(flags: Iterable[str], log: Path) -> AsyncIterator[asyncio.Task[NoReturn]]:
    """Run the sidecar; yields a task that raises DemoError if it ends by itself.

    It is in a session of its own, so that Ctrl-C reaches only this process.
    """
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "exporter", "run", *flags),
            stdin=DEVNULL,
            stdout=output,
            stderr=STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    try:
        async with _running(_watch(process, log)) as task:
            yield task
    finally:
        await _stop(process)


async def _watch(process: Process, log: Path) -> NoReturn:
    status = await process.wait()
    raise DemoError(f"the sidecar ended with status {status}: {_last_line(log)}")


async def _stop(process: Process) -> None:
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        process.send_signal(number)
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
        except TimeoutError:
            continue


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return re.sub(r"^websocket-exporter: (error: )?", "", lines[-1]) if lines else "its log is empty"


def _log_to(path: Path) -> logging.Handler:
    """Write the chat server's stack traces to a file, until the handler is closed."""
    handler, logger = logging.FileHandler(path), logging.getLogger("websockets.server")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(handler)
    return handler


def _own_command() -> str:
    """Return the command that starts websocket-exporter, as short as a user types it here."""
    path = Path(sys.argv[0]).absolute()
    if path.name != "websocket-exporter":
        return f"{sys.executable} -m exporter"
    if shutil.which(path.name) == str(path):
        return path.name
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _free(address: Address, option: str) -> Address:
    """Return ``address`` with a free port in place of port 0. Raises DemoError if it is in use."""
    try:
        (opened,) = open_listeners(option, address)
    except CannotListen as error:
        raise DemoError(str(error)) from None
    port = opened[0].getsockname()[1]
    close_all(opened)
    return replace(address, port=port)


def _die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


_ADDRESS: dict[str, Any] = {"type": parsed(parse_listen), "metavar": "[HOST]:PORT"}
_DURATION: dict[str, Any] = {"type": parsed(parse_duration), "metavar": "DURATION"}
_KINDS = click.Choice([kind.value for kind in BugKind])


@click.command(context_settings={"show_default": True})
@click.option("--listen", default="127.0.0.1:10010", help="address for clients", **_ADDRESS)
@click.option("--admin", default="127.0.0.1:10011", help="address of the page and of /metrics", **_ADDRESS)
@click.option(
    "--app-port", type=click.IntRange(0, 65535), metavar="PORT", default=0, help="port of the app; 0 is any free one"
)
@click.option("--clients", type=click.IntRange(1, 1000), metavar="N", default=30, help="number of clients")
@click.option(
    "--bug-rate", type=click.FloatRange(0, 1), metavar="SHARE", default=0.01, help="share of messages that fail"
)
@click.option(
    "--bug-kind", type=_KINDS, metavar="KIND", default="both", help="how they fail: raises (1011), drops (1006), both"
)
@click.option("--restart-every", default="1m", help="interval between restarts of the app; 0 disables", **_DURATION)
@click.option("--for", "duration", default="0", help="time until the demo ends; 0 is until Ctrl-C", **_DURATION)
@click.option("--tour", is_flag=True, show_default=False, help="step-by-step explanation of the closes as they happen")
def demo(app_port: int, bug_rate: float, bug_kind: str, **options: Any) -> None:
    """Run a chat server with a bug, clients, and the sidecar between them, until Ctrl-C."""
    try:
        asyncio.run(run(Demo(app=Address("127.0.0.1", app_port), bug=Bug(bug_rate, BugKind(bug_kind)), **options)))
    except DemoError as error:
        raise click.ClickException(str(error)) from None
