"""A relay process's control socket: drain, stop, and the end of its supervisor."""

from __future__ import annotations

import asyncio
import json
import socket
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from exporter.config import Settings
from exporter.protocol.client_identity import KEY_SIZE
from exporter.protocol.counters import ObserverLayout, RelayLayout, SharedCells
from exporter.protocol.messages import FLUSH, MAX_MESSAGE, Kind
from exporter.relay.process import RelayProcess
from tests.unit.relay.harness import App
from tests.waiting import WAIT_LIMIT, until


class Running:
    """A relay's process in this one: its supervisor's and observer's ends, and its cells."""

    def __init__(self, app: App) -> None:
        self.layout = RelayLayout(1)
        observer = ObserverLayout(1, ["1000"])
        view = memoryview(array("q", bytes(8 * SharedCells.size(self.layout, observer, 1))))
        shared = SharedCells(view, self.layout, observer, 1)
        self.cells = shared.slots[0]
        self.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.records, records = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (control, records, self.records):
            end.setblocking(False)
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        settings = Settings(upstream=app.address, drain_timeout=2.0, drain_spread=0.0)
        process = RelayProcess(settings, bytes(KEY_SIZE), 0, 0, shared, records, [listening], None)
        self.task = asyncio.get_running_loop().create_task(process.run(control))

    def say(self, **message: object) -> None:
        """Send a control message."""
        self.control.send(json.dumps(message).encode())

    async def over(self) -> None:
        """Wait until it has ended."""
        async with asyncio.timeout(WAIT_LIMIT):
            await self.task


@asynccontextmanager
async def running() -> AsyncIterator[Running]:
    """A relay's process that accepts clients."""
    app = App()
    made = Running(app)
    await until(lambda: made.cells[made.layout.listening], "it listens")
    try:
        yield made
    finally:
        made.task.cancel()
        app.stop()
        for end in (made.control, made.records):
            end.close()


async def test_process_running_beats_and_answers_a_flush() -> None:
    """The heartbeat is set from the start, and FLUSH is answered by FLUSHED."""
    async with running() as it:
        assert it.cells[it.layout.heartbeat]
        it.records.send(FLUSH)
        kinds: list[int] = []

        def flushed() -> bool:
            try:
                kinds.append(it.records.recv(MAX_MESSAGE)[0])
            except BlockingIOError:
                return False
            return Kind.FLUSHED in kinds

        await until(flushed, "it is flushed")
        it.say(do="stop")
        await it.over()


async def test_process_drained_with_exit_ends() -> None:
    """A drain with "exit" ends the process when it is over, and nobody can connect any more."""
    async with running() as it:
        it.say(do="drain", wait=False, exit=True)
        await it.over()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", it.port), timeout=1.0)


async def test_process_drained_without_exit_stays() -> None:
    """A drain over HTTP leaves the process, for progress to be read, until it is stopped."""
    async with running() as it:
        it.say(do="drain", wait=False, exit=False)
        await until(lambda: not it.cells[it.layout.listening], "it accepts no more")
        await asyncio.sleep(0.05)
        assert not it.task.done()
        it.say(do="stop")
        await it.over()


async def test_process_whose_supervisor_dies_ends() -> None:
    """The end of the control socket ends the process: no orphan stays."""
    async with running() as it:
        it.control.close()
        await it.over()
