"""The sidecar as users run it: a process with flags, ports and signals."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port
from tests.waiting import WAIT_LIMIT, eventually

from .process import Process
from .scrape import ACTIVE, CLOSED, HANDSHAKES, Scrape
from .wire import Peer, RawApp, upgrade_request

ROOT = Path(__file__).resolve().parents[3]


def command(*arguments: str) -> list[str]:
    """The sidecar's command line, with this interpreter."""
    return [sys.executable, "-m", "exporter", *arguments]


class Sidecar:
    """One running sidecar in front of `upstream_port`, or of another `upstream` address."""

    def __init__(self, upstream_port: int, *flags: str, upstream: str | None = None, wait_ready: bool = False) -> None:
        """Start it and wait until its two ports are open (and, if asked, until it is ready)."""
        self.upstream_port = upstream_port
        self.port, self.admin_port = free_port(), free_port()
        self.url = f"ws://127.0.0.1:{self.port}"
        self.admin_url = f"http://127.0.0.1:{self.admin_port}"
        argv = self._argv(upstream or f"127.0.0.1:{upstream_port}", flags)
        self.process = Process("the sidecar", argv, cwd=ROOT)
        try:
            self.process.wait_listening(self.port)
            self.process.wait_listening(self.admin_port)
            if wait_ready:
                self.wait_ready()
        except BaseException:
            self.process.stop()
            raise

    def _argv(self, upstream: str, flags: Sequence[str]) -> list[str]:
        """All closes are logged, unless ``flags`` say otherwise: their reasons help when a test fails."""
        return command(
            *("run", "--upstream", upstream),
            *("--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin_port}"),
            *(() if "--log-endings" in flags else ("--log-endings", "all")),
            *flags,
        )

    @property
    def observer_pid(self) -> int:
        """The observer's process."""
        return self.process.children()[0]

    @property
    def relay_pid(self) -> int:
        """The first relay's process: the observer is forked before it."""
        return self.process.children()[1]

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of one of the admin port's pages."""
        try:
            with urllib.request.urlopen(self.admin_url + path, timeout=WAIT_LIMIT) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode()

    def scrape(self) -> Scrape:
        """What Prometheus would read now."""
        status, text = self.get("/metrics")
        assert status == 200, text
        return Scrape.parse(text)

    def wait_ready(self) -> None:
        """Wait for /readyz to say yes."""
        eventually(lambda: self.get("/readyz")[0] == 200, "the sidecar is ready")

    def settled(self, before: Scrape, endings: int = 1, seconds: float = WAIT_LIMIT) -> Scrape:
        """Wait until `endings` are counted since `before` and no session lives; return what was added."""

        def over() -> Scrape | None:
            now = self.scrape()
            added = now.since(before)
            return added if added.closed() >= endings and now.value(ACTIVE) == 0 else None

        return eventually(over, f"{endings} endings are counted, none is left active", seconds)

    def check_books(self) -> None:
        """Every 101 has exactly one ending or is still active , whatever happened."""
        if self.process.returncode is not None:
            return
        now = self.scrape()
        opened = now.value(HANDSHAKES, status="101")
        assert opened == now.value(CLOSED) + now.value(ACTIVE), "a session without its one ending"

    def closed_lines(self) -> list[dict[str, object]]:
        """The session.closed lines logged so far."""
        lines = [json.loads(line) for line in self.process.output().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == "session.closed"]

    def stop(self) -> None:
        """End it. Harmless when it has ended."""
        self.process.stop()


@contextmanager
def audited(upstream_port: int, *flags: str) -> Iterator[Sidecar]:
    """A sidecar whose books must balance when all has gone well."""
    sidecar = Sidecar(upstream_port, *flags)
    try:
        yield sidecar
        sidecar.check_books()
    finally:
        sidecar.stop()


def open_session(
    sidecar: Sidecar, app: RawApp, path: str = "/", *, receive_buffer: int | None = None
) -> tuple[Peer, Peer]:
    """A session past its handshake: its client and its server."""
    client = Peer.connect(sidecar.port, receive_buffer=receive_buffer)
    client.send(upgrade_request(path))
    server = app.accept()
    server.accept_handshake()
    client.until(b"\r\n\r\n")
    return client, server
