"""Sidecars in trouble: started with little, with their output going nowhere, or with a defect built in."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from tests.e2e.harness.sidecar import Sidecar
from tests.e2e.harness.wire import Peer, RawApp, switching_protocols, upgrade_request
from tests.waiting import eventually


class TroubledSidecar(Sidecar):
    """A sidecar whose command is started through a shell line and may be altered.

    :param shell: what the shell does before and around it; ``"$@"`` is the sidecar's command.
    :param altered: see :mod:`tests.integration.faults.fault_injection`.
    """

    def __init__(
        self,
        upstream_port: int,
        *flags: str,
        shell: str = 'exec "$@"',
        altered: Sequence[str] = (),
        upstream: str | None = None,
    ) -> None:
        self._shell, self._altered = shell, altered
        super().__init__(upstream_port, *flags, upstream=upstream)

    def _argv(self, upstream: str, flags: Sequence[str]) -> list[str]:
        argv = super()._argv(upstream, flags)
        if self._altered:
            argv = [sys.executable, "-m", "tests.integration.faults.fault_injection", *self._altered, "--", *argv[3:]]
        return ["sh", "-c", self._shell, "sh", *argv]

    def line(self, event: str) -> dict[str, object]:
        """The one log line of an event, as soon as it is there."""
        (line,) = eventually(lambda: self.lines(event), f"a line {event}")
        return line

    def lines(self, event: str) -> list[dict[str, object]]:
        """The log lines of one event."""
        logged = [json.loads(line) for line in self.process.output().splitlines() if line.startswith("{")]
        return [line for line in logged if line.get("event") == event]


@contextmanager
def troubled(upstream_port: int, *flags: str, **how: object) -> Iterator[TroubledSidecar]:
    """Run one, and stop it."""
    sidecar = TroubledSidecar(upstream_port, *flags, **how)  # type: ignore[arg-type]
    try:
        yield sidecar
    finally:
        sidecar.stop()


@contextmanager
def session(sidecar: Sidecar, app: RawApp, path: str = "/") -> Iterator[tuple[Peer, Peer]]:
    """An open session: its client and its server. At the end the client leaves first, and the server notices.

    :param path: tells it from what others, long gone, may have left in the app's queue.
    """
    client = Peer.connect(sidecar.port)
    server: Peer | None = None
    try:
        client.send(upgrade_request(path))
        server = app.accept()
        while not server.until(b"\r\n\r\n").startswith(f"GET {path} ".encode()):
            server.close()
            server = app.accept()
        server.send(switching_protocols())
        client.until(b"\r\n\r\n")
        yield client, server
    finally:
        client.close()
        if server is not None:
            with suppress(OSError):
                server.rest()
            server.close()
