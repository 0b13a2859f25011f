"""The load generator counts what came back, and notices what did not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.stage import running
from tests.ports import free_port


def load(programs: Path, port: int, *arguments: str) -> dict[str, float]:
    """Run the load generator for a moment, unsupervised."""
    command = [str(programs / "load"), "--port", str(port), *arguments, "--seconds", "0.2", "--warm", "0.05"]
    said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=60)
    result: dict[str, float] = json.loads(said.stdout.splitlines()[-1])
    return result


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 1048576])
def test_every_byte_comes_back(programs: Path, server: int, size: int) -> None:
    """Echoes of every header form are complete and unchanged."""
    result = load(programs, server, "--mode", "echo", "--connections", "3", "--size", str(size), "--verify", "1")
    assert result["errors"] == 0
    assert result["units"] > 0
    assert result["bytes"] == result["units"] * size


def test_many_at_a_time(programs: Path, server: int) -> None:
    """A window of 64 messages on each connection is kept full without an error."""
    result = load(programs, server, "--mode", "echo", "--connections", "4", "--window", "64", "--verify", "1")
    assert result["errors"] == 0
    assert result["units"] > 64


def test_open_loop_keeps_its_rate(programs: Path, server: int) -> None:
    """With a rate, as many messages are sent as the rate says, however fast the answers are: without one it is tens of
    thousands a second. A busy machine may have two seconds' worth to catch up with."""
    result = load(programs, server, "--mode", "echo", "--connections", "4", "--rate", "500")
    assert result["errors"] == 0
    assert 0 < result["units"] <= 500 * (result["seconds"] + 2)


def test_stream_counts_frames(programs: Path, server: int) -> None:
    """Frames that the server sends by the batch are counted one by one."""
    result = load(programs, server, "--mode", "stream", "--path", "/stream/32/256")
    assert result["units"] > 256
    assert result["bytes"] == result["units"] * 32


def test_churn_counts_whole_connections(programs: Path, server: int) -> None:
    """A connection counts when it was opened, echoed, closed and ended."""
    result = load(programs, server, "--mode", "churn", "--connections", "4")
    assert result["errors"] == 0
    assert result["units"] > 0


def test_idle_keeps_all_open(programs: Path, server: int) -> None:
    """All sessions are open at the end."""
    result = load(programs, server, "--mode", "idle", "--connections", "50")
    assert result["open"] == 50
    assert result["errors"] == 0


def test_nobody_there_is_an_error(programs: Path) -> None:
    """Connections that are refused are counted as errors, and nothing else is."""
    result = load(programs, free_port(), "--mode", "churn", "--connections", "2")
    assert result["errors"] > 0
    assert result["units"] == 0


_LIAR = """
import asyncio, sys
from websockets.asyncio.server import serve
async def lie(client):
    async for message in client:
        await client.send(message[:-1] + bytes([message[-1] ^ 1]))
async def main():
    async with serve(lie, "127.0.0.1", int(sys.argv[1]), compression=None) as server:
        await server.serve_forever()
asyncio.run(main())
"""


def test_a_changed_byte_is_an_error(programs: Path, tmp_path: Path) -> None:
    """An echo that differs in its last bit is not counted."""
    port = free_port()
    with running([sys.executable, "-c", _LIAR, str(port)], port, os.sched_getaffinity(0), tmp_path / "output"):
        result = load(programs, port, "--mode", "echo", "--connections", "1", "--verify", "1")
    assert result["units"] == 0
    assert result["errors"] > 0
