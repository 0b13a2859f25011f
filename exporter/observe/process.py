"""The observer process: takes the relays' messages, counts, logs, and serves the admin port.

    records sockets ─► Intake ─► metrics, log, reports, reconnects ◄─ admin port
    control socket  ─► a relay was started anew, drain has begun, finish, stop

It may be slow, and it may be started anew at any time: records queue in the kernel meanwhile, counts of closes stand in
shared memory. Closes lost with an observer that died are counted as unclassified (:meth:`ObserverProcess._reconcile`).
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import Any, cast

import structlog

from exporter import __version__
from exporter.address import Address
from exporter.admin.server import Access, Admin, AdminBackend
from exporter.admin.state import State
from exporter.admin.web_config import load
from exporter.config import Settings
from exporter.observe.intake import Intake, MonotonicScheduler
from exporter.observe.log import Format, Log, LogEndings, SessionLog, introduce
from exporter.observe.metrics import Metrics
from exporter.observe.probe import AppProbe
from exporter.observe.receiver import Receiver
from exporter.observe.recent_closes import ClosesPerMinute, RecentCloses
from exporter.observe.reconnects import Reconnects
from exporter.observe.shared_counters import SharedCounters
from exporter.protocol import frames
from exporter.protocol.close_codes import ABNORMAL, UNKNOWN
from exporter.protocol.counters import NANOSECONDS, SLOTS_PER_RELAY, SharedCells
from exporter.protocol.enums import Cause, DrainPhase, Peer
from exporter.protocol.labels import Router, known_label_sets
from exporter.protocol.messages import MAX_MESSAGE, Notice

#: Seconds after which a relay without a heartbeat counts as hung.
HEARTBEAT_TIMEOUT = 5.0
#: Seconds between looks for closes that an earlier observer took and did not count, and how many looks.
RECONCILE_INTERVAL = 1.0
RECONCILE_LOOKS = 10
#: Seconds between looks whether the awaited last scrape has come.
SCRAPE_POLL = 0.1

_PHASES = tuple(DrainPhase)


class ObserverProcess:
    """Everything of one observer. It can be made before its process is forked, whose pages it shares then.

    :param listen: where clients connect, with the port that was opened; ``admin`` where the admin port is.
    :param supervisor: the process whose children make up the sidecar.
    """

    def __init__(
        self,
        settings: Settings,
        listen: Address,
        admin: Address,
        admin_sockets: Sequence[socket.socket],
        cells: SharedCells,
        supervisor: int,
    ) -> None:
        self._settings = settings
        self._listen = listen
        self._page = _page_url(settings, admin)
        self._started = {
            "version": __version__,
            "upstream": str(settings.upstream),
            "listen": str(listen),
            "admin": str(admin),
        }
        self._admin_sockets = admin_sockets
        self._cells = cells
        self._control: socket.socket
        self._log = structlog.get_logger("exporter")
        codes = settings.code_maps()
        routes = Router(settings.route).names
        self._routes = routes
        self._shared = SharedCounters(
            routes,
            cells.relay_layout,
            cells.slots,
            cells.observer_layout,
            cells.observer,
            known_label_sets(*codes.maps),
        )
        engine = "python" if frames.__file__.endswith(".py") else "compiled"
        metrics = Metrics(self._shared, __version__, engine, supervisor)
        self.log = Log(
            cast(Format, settings.log_format),
            settings.log_level,
            reports=self._page,
            suppressed=metrics.lines_suppressed,
            dropped=metrics.lines_dropped,
        )
        session_log = SessionLog(self.log, routes, cast(LogEndings, settings.log_endings), metrics.lines_suppressed)
        self._closes = RecentCloses(routes, metrics.lines_suppressed)
        self._history = ClosesPerMinute()
        reconnects = Reconnects(metrics.returned)
        self._prober = AppProbe(settings.upstream)
        self._intake = Intake(
            codes, (metrics, self._history, self._closes, reconnects, session_log), MonotonicScheduler(), self._prober,
            self._is_draining, reconnects.opened_batch, self._on_notice,
            lambda slot: self._receiver.flushed(slot),
        )  # fmt: skip
        self._receiver = Receiver(self._intake.receive, self._settle)
        self._began = monotonic()
        self._drain_asked = False  # the relays begin a moment later
        self._stop = asyncio.Event()
        self._awaits_scrape = False  # when it stops
        backend = AdminBackend(
            unready=self._unready,
            begin_drain=self._begin_drain,
            progress=self._progress,
            state=self._state,
            change_token=self._change_token,
            closes=self._closes,
            before_scrape=self._receiver.flush,
            defunct=self._hung_relays,
        )
        access = Access(
            settings.drain_from_anywhere,
            settings.closes_from_anywhere,
            settings.exemplars,
            settings.admin_host,
            settings.admin_max_connections,
        )
        web_config = Path(settings.web_config_file) if settings.web_config_file else None
        self._admin = Admin(metrics.registry, backend, access, web_config)

    async def run(self, records: dict[int, socket.socket], control: socket.socket, first: bool) -> None:
        """Serve until the supervisor says finish or stop, or has died.

        :param records: the records sockets of the relays, by slot.
        :param control: the socket to the supervisor.
        :param first: whether no observer ran before this one.
        """
        if first and self._settings.log_format != "json" and self.log.is_terminal:
            introduce(self._settings, self._listen, self._page, await self._prober.accepts())
        self._control = control
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_unexpected)
        self._control.setblocking(False)
        loop.add_reader(self._control, self._on_control)
        for slot, sock in records.items():
            self._receiver.add(slot, sock)
        self._intake.start()
        await self._admin.serve(self._admin_sockets)
        if first:
            self._log.info("exporter.started", **self._started)
        else:
            self._log.warning("observer.restarted")
            reconciling = loop.create_task(self._reconcile())
        try:
            await self._stop.wait()
        finally:
            if not first:
                reconciling.cancel()
            self._receiver.drain()
            self._intake.finish()
            if self._awaits_scrape:
                await self._wait_for_scrape()
            await self._admin.close()

    # Messages of the relays.

    def _settle(self, slot: int) -> None:
        """Count the sessions that a dead relay took along, and free its cells for another."""
        cells, layout = self._cells.slots[slot], self._cells.relay_layout
        lost = 0
        for route, places in enumerate(layout.routes[: len(self._routes)]):
            for _ in range(cells[places.active]):
                self._shared.count_close(route, (ABNORMAL, Cause.RELAY_LOST, Peer.PROXY))
                lost += 1
            cells[places.active] = 0
            for peer in (Peer.CLIENT, Peer.SERVER):
                cells[places.stalled[peer]] = 0
        for cell in (layout.heartbeat, layout.clients, layout.listening, layout.drain_sessions):
            cells[cell] = 0
        if lost:
            self._log.error("relay.lost", relay=_name(slot), sessions=lost)
        self._send({"do": "settled", "slot": slot})

    def _on_notice(self, slot: int, notice: Notice) -> None:
        getattr(self._log, notice.level)(notice.event, relay=_name(slot), **notice.fields)

    async def _reconcile(self) -> None:
        """Count the closes that an observer before this one took from the queue and did not count.

        A close that happens during a look hides a missing one until the next look, and never adds one.
        """
        for _ in range(RECONCILE_LOOKS):
            closed = [
                self._shared.opened_by_route(route) - self._shared.active_by_route(route)
                for route in range(len(self._routes))
            ]
            await self._receiver.flush()
            for route, happened in enumerate(closed):
                taken = self._shared.closed_by_route(route) + self._intake.waiting_by_route(route)
                for _ in range(happened - taken):
                    self._shared.count_close(route, (UNKNOWN, Cause.UNCLASSIFIED, Peer.PROXY))
            await asyncio.sleep(RECONCILE_INTERVAL)

    # Control.

    def _on_control(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, MAX_MESSAGE, 1)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        if not data:  # the supervisor has died
            asyncio.get_running_loop().remove_reader(self._control)
            self._end(await_scrape=False)
            return
        message = json.loads(data)
        match message["do"]:
            case "relay":
                sock = socket.socket(fileno=descriptors[0])
                sock.setblocking(False)
                self._receiver.add(message["slot"], sock)
            case "terminating":
                self._intake.terminating = True
            case "finish":
                self._end(await_scrape=True)
            case "stop":
                self._end(await_scrape=False)

    def _end(self, await_scrape: bool) -> None:
        self._awaits_scrape = await_scrape
        self._stop.set()

    def _send(self, message: dict[str, object]) -> None:
        with suppress(OSError):  # the supervisor has died, which the next read shows
            self._control.send(json.dumps(message).encode())

    async def _wait_for_scrape(self) -> None:
        """Let a scraper that was here before read the last closes."""
        if self._admin.scraped == float("-inf"):
            return
        deadline = monotonic() + self._settings.drain_linger
        while self._admin.scraped < self._intake.last_close and self._awaits_scrape and monotonic() < deadline:
            await asyncio.sleep(SCRAPE_POLL)

    # For the admin port.

    def _relays(self) -> list[tuple[int, memoryview]]:
        """Return slot and cells of the relays that run."""
        heartbeat = self._cells.relay_layout.heartbeat
        return [(slot, cells) for slot, cells in enumerate(self._cells.slots) if cells[heartbeat]]

    async def _unready(self) -> list[str]:
        reasons = []
        if not any(cells[self._cells.relay_layout.listening] for _, cells in self._relays()):
            reasons.append("not listening")
        if self._is_draining():
            reasons.append("draining")
        if not await self._prober.accepts_lately():  # no answer, or a name without an address, serves nobody
            reasons.append(f"the app at {self._settings.upstream} does not accept connections")
        return reasons

    def _hung_relays(self) -> list[str]:
        now, heartbeat = monotonic_ns(), self._cells.relay_layout.heartbeat
        ages = [(slot, (now - cells[heartbeat]) / NANOSECONDS) for slot, cells in self._relays()]
        return [f"{_name(slot)}: no heartbeat for {age:.0f} s" for slot, age in ages if age > HEARTBEAT_TIMEOUT]

    def _begin_drain(self) -> None:
        self._drain_asked = True
        self._send({"do": "drain"})

    def _is_draining(self) -> bool:
        return self._drain_asked or self._shared.is_draining()

    def _phase(self) -> DrainPhase:
        """Return the phase of the relay that is least far."""
        phases = [cells[self._cells.relay_layout.drain_phase] for _, cells in self._relays()]
        phase = _PHASES[min(phases, default=0)]
        return DrainPhase.SERVING if phase is DrainPhase.NONE and self._drain_asked else phase

    def _progress(self) -> dict[str, object]:
        return {
            "draining": self._is_draining(),
            "phase": self._phase(),
            "sessions_left": self._shared.drain_sessions(),
            "seconds_left": round(self._shared.drain_seconds(), 1),
        }

    def _state(self) -> State:
        return State(
            version=__version__,
            upstream=str(self._settings.upstream),
            draining=self._is_draining(),
            active=self._shared.active(),
            uptime=monotonic() - self._began,
            ever=cast(Any, self._shared.closed()),
            minutes=self._history.minutes(),
            refused=self._shared.refused(),
            stalled=self._shared.stalled(),
        )

    def _change_token(self) -> tuple[object, ...]:
        return self._history.total, self._history.minute, self._shared.active(), self._phase(), self._shared.stalled()

    def _on_unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        self._log.error("exporter.defect", message=str(context.get("message")), exc_info=context.get("exception"))


def _name(slot: int) -> str:
    return f"relay-{slot // SLOTS_PER_RELAY}"


def _page_url(settings: Settings, admin: Address) -> str:
    """Return the address of the page, as a person on this host opens it."""
    tls = bool(settings.web_config_file) and load(Path(settings.web_config_file)).tls is not None
    host = "localhost" if admin.host in ("", "0.0.0.0", "::", "127.0.0.1", "::1") else admin.host
    return f"http{'s' if tls else ''}://{Address(host, admin.port)}"


def run_observer(
    process: ObserverProcess, records: dict[int, socket.socket], control: socket.socket, first: bool
) -> int:
    """Run the observer until the supervisor ends it. Returns the exit status."""
    process.log.start()
    sys.setswitchinterval(0.001)  # health checks are answered while a thread makes an exposition
    try:
        asyncio.new_event_loop().run_until_complete(process.run(records, control, first))
    finally:
        process.log.close()
    return 0
