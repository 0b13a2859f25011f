"""The proxies that the benchmark compares with do what a proxy is there for."""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import suppress
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from benchmarks import peers
from benchmarks.peers import PEERS, Absent, Peer, Place
from benchmarks.stage import running
from tests.ports import free_port


async def _app(client: ServerConnection) -> None:
    """Echoes; ends with 4321 when asked to."""
    async for message in client:
        if message == "end":
            await client.close(4321, "as asked")
        else:
            await client.send(message)


async def _through(port: int) -> tuple[object, object, int | None]:
    async with connect(f"ws://127.0.0.1:{port}/echo", compression=None, max_size=None) as client:
        await client.send("text")
        text = await client.recv()
        await client.send(b"\x00" * 100_000)
        data = await client.recv()
        await client.send("end")
        with suppress(ConnectionClosed):
            await client.recv()
        return text, data, client.close_code


@pytest.mark.parametrize("peer", [peer for peer in PEERS if peer.command], ids=lambda peer: peer.key)
def test_messages_and_close_codes_pass(peer: Peer, programs: Path, tmp_path: Path) -> None:
    """Text, binary and the app's own close code come through, so that all peers do the same work."""

    async def scenario() -> tuple[object, object, int | None]:
        async with serve(_app, "127.0.0.1", 0, compression=None, max_size=None) as server:
            upstream = next(iter(server.sockets)).getsockname()[1]
            place = Place(free_port(), free_port(), upstream, tmp_path, programs)
            assert peer.command is not None
            try:
                command = peer.command(place)
            except Absent as absent:
                pytest.skip(str(absent))
            proxy = running(command, place.port, os.sched_getaffinity(0), tmp_path / "output")
            await asyncio.to_thread(proxy.__enter__)
            try:
                return await _through(place.port)
            finally:
                await asyncio.to_thread(proxy.__exit__, None, None, None)

    assert asyncio.run(scenario()) == ("text", b"\x00" * 100_000, 4321)


def test_a_program_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A proxy that is not installed is named as such."""
    monkeypatch.setattr(shutil, "which", lambda *arguments, **named: None)
    nginx = next(peer for peer in PEERS if peer.key == "nginx")
    assert nginx.command is not None
    with pytest.raises(Absent, match="nginx is not installed"):
        nginx.command(Place(1, 2, 3, tmp_path, tmp_path))


def test_what_was_compiled_for_another_python_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A sidecar whose compiled modules cannot be loaded would run from the source: it is not taken for compiled."""
    monkeypatch.setattr(peers, "COMPILED", tmp_path)
    (tmp_path / "websocket_exporter__mypyc.cpython-27-x86_64-linux-gnu.so").touch()
    with pytest.raises(Absent, match="not compiled for this Python"):
        peers.sidecar(Place(1, 2, 3, tmp_path, tmp_path), tree=tmp_path)
    (tmp_path / f"websocket_exporter__mypyc{EXTENSION_SUFFIXES[0]}").touch()
    assert peers.sidecar(Place(1, 2, 3, tmp_path, tmp_path), tree=tmp_path)
