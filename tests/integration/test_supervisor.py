"""The supervisor: who is started, who is told, who is started anew, and that nobody is left behind."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from exporter.address import Address
from exporter.listening import CannotListen, open_listeners
from tests.waiting import WAIT_LIMIT, eventually

ROOT = Path(__file__).resolve().parents[2]


class Supervised:
    """A supervisor as a process, and the lines of its children."""

    def __init__(self, workers: int) -> None:
        command = [sys.executable, "-m", "tests.integration.supervised", str(workers)]
        with open("/dev/full", "w") as errors:  # nothing that it has to say may end it
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors)
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.seen: list[dict[str, Any]] = []

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))

    def line(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the first line, seen already or still to come, for which ``wanted`` is true."""
        for line in self.seen:
            if wanted(line):
                return line
        while True:
            self.seen.append(self._lines.get(timeout=WAIT_LIMIT))
            if wanted(self.seen[-1]):
                return self.seen[-1]

    def started(self, who: str, **fields: object) -> int:
        """Return the pid of the child that started so."""
        want = {"event": "start", "who": who, **fields}
        return int(self.line(lambda line: want.items() <= line.items())["pid"])

    def got(self, **fields: object) -> None:
        """Wait for a line with these fields."""
        self.line(lambda line: fields.items() <= line.items())


@contextmanager
def supervised(workers: int = 1) -> Iterator[Supervised]:
    found = Supervised(workers)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.process.kill()
        found.process.wait(WAIT_LIMIT)
        found._reader.join(WAIT_LIMIT)
        assert found.process.stdout is not None
        found.process.stdout.close()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2])
def test_supervisor_signal_drains_relays_then_observer_finishes(number: signal.Signals) -> None:
    """A signal drains the relays; the observer finishes after the last one has ended, and the status is 0."""
    with supervised(2) as s:
        s.started("relay-0"), s.started("relay-1")
        s.got(event="record", slot=0), s.got(event="record", slot=2)
        s.process.send_signal(number)
        for who in ("relay-0", "relay-1"):
            s.got(event="message", who=who, do="drain", wait=True, exit=True)
        s.got(event="message", who="observer", do="finish")
        s.got(event="end", status=0, restarts=0)
        assert s.process.wait(WAIT_LIMIT) == 0


def test_supervisor_relay_death_starts_another_with_the_other_slot() -> None:
    """A relay that is killed is started anew with other cells; the observer gets its socket and the old one's end."""
    with supervised() as s:
        first = s.started("relay-0", slot=0)
        s.got(event="record", slot=0)
        os.kill(first, signal.SIGKILL)
        second = s.started("relay-0", slot=1)
        s.got(event="settled", slot=0)
        s.got(event="message", who="observer", do="relay", slot=1)
        s.got(event="record", slot=1, text="record of slot 1")
        assert not alive(first)
        os.kill(second, signal.SIGKILL)
        s.got(event="settled", slot=1)
        s.line(lambda line: line.get("slot") == 0 and line["event"] == "start" and line["pid"] not in (first, second))
        s.process.terminate()
        s.got(event="end", status=0, restarts=2)


def test_supervisor_observer_death_starts_another_with_all_records_sockets() -> None:
    """An observer that is killed is started anew; it gets the records sockets of the relays that live."""
    with supervised(2) as s:
        s.started("relay-0"), s.started("relay-1")
        s.got(event="record", slot=2)
        os.kill(s.started("observer", first=True), signal.SIGKILL)
        s.started("observer", first=False, slots=[0, 2])
        s.process.terminate()
        s.got(event="end", status=0, restarts=0)


def test_supervisor_sighup_reloads_all() -> None:
    """SIGHUP ends nobody: relays and observer are to read their certificates again."""
    with supervised() as s:
        s.started("relay-0"), s.started("observer"), s.got(event="record", slot=0)
        s.process.send_signal(signal.SIGHUP)
        s.got(event="message", who="relay-0", do="reload")
        s.got(event="message", who="observer", do="reload")


def test_supervisor_killed_leaves_no_child() -> None:
    """When the supervisor is killed its children see the end of their control sockets and end."""
    with supervised(2) as s:
        pids = [s.started("relay-0"), s.started("relay-1"), s.started("observer")]
        s.got(event="record", slot=2)
        s.process.kill()
        eventually(lambda: not any(map(alive, pids)), "all children have ended")


def test_listeners_taken_port_is_one_clear_error() -> None:
    """A port that somebody has is an error that names flag and port, also where relays would share it."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for count in (1, 2):
            with pytest.raises(CannotListen, match=f"--listen 127.0.0.1:{port}: port {port} is in use"):
                open_listeners("--listen", Address("127.0.0.1", port), count)


def test_listeners_sets_share_one_port() -> None:
    """Each relay has sockets of its own on the same port, and with no host on every family."""
    sets = open_listeners("--listen", Address("", 0), 3)
    ports = {sock.getsockname()[1] for opened in sets for sock in opened}
    families = {sock.family for sock in sets[0]}
    for opened in sets:
        for sock in opened:
            sock.close()
    assert len(sets) == 3
    assert len(ports) == 1
    assert socket.AF_INET in families
