"""A drain as Kubernetes would ask for it, with real processes and 2,000 sessions in the middle of a message."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from time import monotonic

import pytest
import uvloop

from exporter.relay.tunnel import close_frame
from tests.ports import free_port

SESSIONS = 2000
SPREAD = 3.0
WAIT_LIMIT = 30.0  # for the drain, and for each answer to a Close: a busy machine needs it, an idle one does not wait

_HEAD = (
    b"GET /stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Client:
    """Reads frames one by one, so that a Close inside a frame would be seen as what it is: garbage."""

    def __init__(self) -> None:
        self.fragments = 0
        self.closes: list[tuple[float, int]] = []
        self.after_close = b""
        self.error = ""

    async def open(self, port: int) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        self.writer.write(_HEAD)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101"), answer

    async def run(self) -> None:
        try:
            while not self.closes:
                await self._frame()
            self.after_close = await self.reader.read()
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.error = repr(error)
        finally:
            self.writer.close()

    async def _frame(self) -> None:
        first, second = await self.reader.readexactly(2)
        payload = await self.reader.readexactly(second & 0x7F)
        if first == 0x88:
            self.closes.append((monotonic(), int.from_bytes(payload, "big")))
            self.writer.write(close_frame(1001, mask=os.urandom(4)))
        else:
            assert first in (0x00, 0x01), hex(first)
            assert payload == b"x" * 100
            self.fragments += 1


def get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    """One request to the admin port."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", method=method, headers={"X-Websocket-Exporter": "drain"}
    )
    with urllib.request.urlopen(request, timeout=WAIT_LIMIT) as answer:
        return answer.status, answer.read().decode()


async def drained(port: int, admin: int) -> tuple[list[Client], int, dict[str, object]]:
    """Open all sessions, let each see a fragment, drain, and wait for every client's end."""
    clients = [Client() for _ in range(SESSIONS)]
    for start in range(0, SESSIONS, 100):
        await asyncio.gather(*(client.open(port) for client in clients[start : start + 100]))
    tasks = [asyncio.create_task(client.run()) for client in clients]
    while min(client.fragments for client in clients) < 1:
        await asyncio.sleep(0.1)
    status, _ = await asyncio.to_thread(get, admin, "/drain", "POST")
    await asyncio.wait_for(asyncio.gather(*tasks), WAIT_LIMIT + 20)
    while (progress := json.loads((await asyncio.to_thread(get, admin, "/drain"))[1]))["phase"] != "done":
        await asyncio.sleep(0.1)
    return clients, status, progress


@pytest.fixture
def processes():
    """Started processes are ended, whatever happens."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.wait(10)


def test_each_of_2000_clients_is_told_once_between_two_frames(processes, tmp_path):
    """Each client gets exactly one Close 1001, at a frame boundary in the middle of a message, spread over the spread.

    The app ignores SIGTERM and streams on; it sees each session closed by its client, and all are counted as drained.
    """
    app_port, port, admin = free_port(), free_port(), free_port()
    app_script = Path(__file__).with_name("streaming_app.py")
    app_output = tmp_path / "app.txt"
    with app_output.open("w") as output:
        processes.append(subprocess.Popen([sys.executable, app_script, str(app_port)], stdout=output))
    while "ready" not in app_output.read_text():
        assert processes[0].poll() is None
    flags = {"--upstream": app_port, "--listen": port, "--admin": admin}
    command = [sys.executable, "-m", "exporter", "run", "--log-endings", "none", "--drain-spread", f"{SPREAD}"]
    command += ["--drain-timeout", f"{WAIT_LIMIT}", "--close-timeout", f"{WAIT_LIMIT}"]
    command += [unlink for flag, number in flags.items() for unlink in (flag, f"127.0.0.1:{number}")]
    processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
    wait_until_ready(admin)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        clients, status, progress = runner.run(drained(port, admin))

    assert status == 202
    assert progress["sessions_left"] == 0
    assert Counter(client.error for client in clients) == {"": SESSIONS}
    assert Counter(tuple(code for _, code in client.closes) for client in clients) == {(1001,): SESSIONS}
    assert not any(client.after_close for client in clients)
    assert_spread([client.closes[0][0] for client in clients])
    assert Counter(app_output.read_text().split()) == {"ready": 1, "close": SESSIONS}
    metrics = get(admin, "/metrics")[1]
    told = 'websocket_connections_closed_total{cause="drain",code="1001",initiator="proxy",route="all"}'
    assert f"{told} {SESSIONS:.1f}" in metrics
    assert "websocket_exporter_draining 1.0" in metrics


def assert_spread(times: list[float]) -> None:
    """No spike: the span is the spread's, no tenth of it holds nearly all of the Closes, and neither half few.

    How even it is exactly is shown in tests/unit/relay/test_drain.py; here 2,000 clients in one process see it through
    the noise of a busy machine, which has held up as many as 54 in 100 till the last tenth.
    """
    began, ended = min(times), max(times)
    assert ended - began > SPREAD / 2
    tenths = Counter(min(9, int((time - began) / (ended - began) * 10)) for time in times)
    assert max(tenths.values()) <= SESSIONS * 0.8, tenths
    assert min(sum(tenths[n] for n in half) for half in (range(5), range(5, 10))) >= SESSIONS / 10, tenths


def wait_until_ready(admin: int) -> None:
    """Until /readyz says so."""
    deadline = monotonic() + WAIT_LIMIT
    while True:
        try:
            get(admin, "/readyz")
            return
        except OSError:
            assert monotonic() < deadline, "the sidecar did not become ready"
