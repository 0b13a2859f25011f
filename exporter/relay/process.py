"""One relay process: its event loop, from the fork to the end of its connections.

It imports nothing of the observer. The supervisor gives it sockets that listen already, its cells of the shared memory,
and two datagram sockets: ``records`` to the observer and ``control`` to the supervisor, whose messages are JSON:

    {"do": "drain", "wait": bool, "exit": bool}    begin a drain; "exit": end this process when it is over
    {"do": "stop"}                                 close everything and end
    {"do": "reload"}                               read the certificate files again

If ``control`` ends, the supervisor has died, and so does this process: nobody could stop it any more.
"""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
from collections.abc import Coroutine, Sequence
from socket import socket
from typing import Any

from exporter.config import Settings
from exporter.protocol.client_identity import identity_source
from exporter.protocol.counters import SharedCells
from exporter.protocol.labels import Router
from exporter.protocol.messages import MAX_MESSAGE
from exporter.protocol.record import MAX_SAMPLE
from exporter.relay.context import Limits
from exporter.relay.drain import Drain, Plan
from exporter.relay.event_loop import RelayLoop
from exporter.relay.reporter import Reporter
from exporter.relay.server import Relay
from exporter.relay.upstream import Upstream
from exporter.reloading_cert import ReloadingCert

#: Seconds for connections that were closed at once to be gone.
LAST_ENDS = 0.5
#: Seconds between looks whether the certificate has been renewed.
RENEW_INTERVAL = 5.0
#: When the garbage collector runs. It finds next to nothing: a session that ends leaves no cycle behind. Objects until
#: a young collection, young ones until a middle one, middle ones until a full one, which walks over every session.
COLLECTIONS = (3000, 2, 1000)


class RelayProcess:
    """Everything of one relay. It is made before its process is forked, whose pages it shares then.

    :param number: which relay it is.
    :param slot: its block of shared cells.
    :param records: its datagram socket to the observer, not blocking.
    """

    def __init__(
        self,
        settings: Settings,
        identity_key: bytes,
        number: int,
        slot: int,
        cells: SharedCells,
        records: socket,
        listening: Sequence[socket],
        certificate: ReloadingCert | None,
    ) -> None:
        self._control: socket
        self._listening = listening
        self._certificate = certificate
        self._certificate_path = settings.tls_cert
        self.reporter = Reporter(
            number,
            records,
            cells.slots[slot],
            cells.relay_layout,
            cells.slots,
            Router(settings.route),
            identity_source(settings.client_identity),
            identity_key,
        )
        addresses = [sock.getsockname() for sock in listening]
        limits = Limits(
            settings.max_head,
            settings.handshake_timeout,
            settings.max_connections,
            settings.max_session_age,
            settings.proxy_protocol,
        )
        self.relay = Relay(
            Upstream(settings.upstream, settings.connect_timeout, addresses),
            self.reporter,
            limits,
            settings.close_timeout,
            settings.client_keepalive,
            certificate.context if certificate is not None else None,
            min(settings.record_payload, MAX_SAMPLE),
        )
        plan = Plan(
            settings.drain_timeout,
            settings.drain_spread,
            settings.drain_grace,
            settings.close_timeout,
            int(settings.drain_code),
        )
        self.drain = Drain(self.relay, plan)
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, control: socket) -> None:
        """Serve until the supervisor says stop on ``control``, or a drain that ends the process is over."""
        self._control = control
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_unexpected)
        loop.add_reader(self._control.fileno(), self._on_control)
        self.reporter.on_tick = self.drain.report
        self.reporter.start(self.relay.context)
        self.relay.listen(self._listening)
        if self._certificate is not None:
            self._start(self._renew_certificate())
        try:
            await self._stop.wait()
        finally:
            self.drain.cancel()
            self.relay.close_all()
            await self.relay.wait_quiet(LAST_ENDS)
            self.reporter.stop()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_control(self) -> None:
        try:
            data = self._control.recv(MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._stop.set()
            return
        message = json.loads(data)
        match message["do"]:
            case "drain":
                self.drain.begin(bool(message["wait"]))
                if message["exit"]:
                    self._start(self._stop_when_drained())
            case "stop":
                self._stop.set()
            case "reload" if self._certificate is not None:
                self._refresh_certificate()

    async def _stop_when_drained(self) -> None:
        await self.drain.finished.wait()
        self._stop.set()

    async def _renew_certificate(self) -> None:
        assert self._certificate is not None
        await self._certificate.watch(RENEW_INTERVAL, self._renewed, self._renewal_failed)

    def _refresh_certificate(self) -> None:
        assert self._certificate is not None
        try:
            if self._certificate.refresh():
                self._renewed()
        except (OSError, ssl.SSLError) as error:
            self._renewal_failed(getattr(error, "reason", None) or str(error))

    def _renewed(self) -> None:
        self.reporter.notice("tls.reloaded", "info", certificate=self._certificate_path)

    def _renewal_failed(self, why: str) -> None:
        self.reporter.notice("tls.reload_failed", "error", certificate=self._certificate_path, why=why)

    def _on_unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        self.reporter.defect(error if isinstance(error, BaseException) else RuntimeError(str(context.get("message"))))


def run_relay(process: RelayProcess, control: socket) -> int:
    """Run a relay until it has been stopped. Return the exit status.

    :param control: the socket to the supervisor.
    """
    gc.set_threshold(*COLLECTIONS)
    control.setblocking(False)
    RelayLoop(process.relay.context.poller).run_until_complete(process.run(control))
    return 0
