"""Waiting for a condition, processes that end, and addresses that are free."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.waiting import PATIENCE, eventually

ROOT = Path(__file__).parents[3]


class Running:
    """A process whose output is read from a file, so that it can never block on us."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def output(self) -> str:
        """What it has written so far, stdout and stderr."""
        return self._output.read_text()

    def says(self, text: str, times: int = 1) -> None:
        """Wait until it has written ``text`` so many times."""
        eventually(
            lambda: self.output.count(text) >= times or self.process.poll() is not None,
            f"{text!r} in\n{self.output}",
        )
        assert self.output.count(text) >= times, self.output

    def send(self, sign: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(sign)

    def status(self) -> int:
        """Wait for its end; its exit status."""
        return self.process.wait(PATIENCE)

    def children(self) -> dict[int, str]:
        """Its direct child processes: id and command line."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {int(pid): command_line(int(pid)) for pid in listed}


def command_line(pid: int) -> str:
    """The command line of a process; "" when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


@contextmanager
def running(output: Path, *command: str) -> Iterator[Running]:
    """Run ``python *command`` at the root of the project; it has ended when this is left."""
    env = os.environ | {"TMPDIR": str(output.parent)}  # so that pytest clears away what a killed process leaves
    with output.open("wb") as sink:
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=env, stdout=sink, stderr=subprocess.STDOUT)
    try:
        yield Running(process, output)
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


async def visit(port: int, path: str = "/chat") -> ClientConnection:
    """A connection to the chat."""
    return await connect(f"ws://127.0.0.1:{port}{path}", proxy=None)


async def how_it_ends(connection: ClientConnection) -> int:
    """Read until the connection ends; the close code as the client reports it, 1006 for none."""
    async with asyncio.timeout(PATIENCE):
        try:
            async for _ in connection:
                pass
        except ConnectionClosed:
            pass
        await connection.wait_closed()
    assert connection.close_code is not None
    return connection.close_code
