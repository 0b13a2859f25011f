"""The composition root: wires settings, logs, metrics, relay and admin server together, and lives from start to signal.

The one file that knows all others. :func:`run` blocks until the process may end.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from time import monotonic

import structlog
import uvloop

from exporter import __version__
from exporter.address import Address
from exporter.admin.auth import BadWebConfig
from exporter.admin.server import Access, Admin, AdminBackend
from exporter.admin.state import State
from exporter.config import Settings
from exporter.observe.inline.history import ClosesPerMinute
from exporter.observe.inline.linewriter import LineWriter
from exporter.observe.inline.log import Format, configure
from exporter.observe.inline.metrics import Metrics
from exporter.observe.inline.recent_closes import Closes
from exporter.observe.inline.reconnects import Reconnects
from exporter.observe.inline.recorder import LogEndings, Recorder
from exporter.protocol.client_identity import identity_source
from exporter.protocol.routes import Router
from exporter.relay.client_connection import Limits
from exporter.relay.drain import Drain, Plan
from exporter.relay.server import Relay
from exporter.relay.tunnel import PythonEngine
from exporter.relay.upstream import Upstream
from exporter.reloading_cert import ReloadingCert

#: Seconds that sessions which are closed at once get to be counted and logged.
_LAST_ENDINGS = 0.5
#: Seconds between looks at whether the awaited last scrape has come.
_SCRAPE_POLL = 0.1
#: When the garbage collector runs, for which there is next to nothing to find (a defect's traceback or so): a session
#: that ends leaves no cycle behind. A young collection after this many objects more, where Python's own 700 are those
#: of a few dozen clients; every third is a middle one, of 9,000 objects then; every thousandth of these a full one,
#: which walks over every session there is, 30 ms for 4,000.
_COLLECTIONS = (3000, 2, 1000)
#: Seconds between looks whether the certificate has been renewed.
_RENEW = 5.0


class CannotListen(Exception):
    """A port that we were told to listen on cannot be had."""

    def __init__(self, flag: str, address: Address, error: OSError) -> None:
        super().__init__(f"{flag} {address}: {error.strerror or error}")


class CannotUse(Exception):
    """A file that we were told to use is of no use."""


class App:
    """One sidecar. Raises CannotUse."""

    def __init__(self, settings: Settings, lines: LineWriter | None = None) -> None:
        self.settings = settings
        self.log = structlog.get_logger()
        router = Router(settings.route)
        book = settings.close_code_map()
        engine = PythonEngine()
        self.metrics = Metrics(router.names, book, __version__, engine.name)
        self.closes = Closes()
        self.history = ClosesPerMinute()
        recorder = Recorder(
            self.metrics,
            router,
            book,
            _endings(settings),
            Reconnects(identity_source(settings.client_identity)),
            self.closes,
            settings.record_payload,
            history=self.history,
        )
        self.upstream = Upstream(settings.upstream, settings.connect_timeout)
        limits = Limits(
            settings.max_head,
            settings.handshake_timeout,
            settings.max_connections,
            settings.max_session_age,
            settings.proxy_protocol,
        )
        self.certificate = _certificate(settings)
        self.relay = Relay(
            self.upstream,
            recorder,
            engine,
            limits,
            settings.close_timeout,
            settings.client_keepalive,
            self.certificate.context if self.certificate is not None else None,
        )
        plan = Plan(
            settings.drain_timeout,
            settings.drain_spread,
            settings.drain_grace,
            settings.close_timeout,
            int(settings.drain_code),
        )
        self.drain = Drain(self.relay, plan)
        self.metrics.watch_drain(
            lambda: self.drain.is_on, lambda: self.drain.sessions_left, lambda: self.drain.seconds_left
        )
        hooks = AdminBackend(
            self.unready,
            lambda: self.begin_drain(patient=False),
            self.progress,
            self.state,
            self.change_token,
            self.closes,
            self._flush_counts,
        )
        web_config = Path(settings.web_config_file) if settings.web_config_file else None
        try:
            self.admin = Admin(self.metrics.registry, hooks, Access(settings.drain_from_anywhere), web_config)
        except BadWebConfig as error:
            raise CannotUse(f"--web-config-file: {error}") from error
        if lines is not None:
            self.metrics.watch_log(lambda: lines.dropped)
        self._began = monotonic()
        self._signals = 0
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve until a signal and the drain that it begins are over. Raises CannotListen."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unexpected)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        await self._listen()
        _spare_the_collector()
        renewing = loop.create_task(self._renew_certificate())
        try:
            await self._stop.wait()
            if self._signals == 1:
                await self._wait_for_scrape()
        finally:
            renewing.cancel()
            self.drain.cancel()
            self.relay.close_all()
            await self.relay.wait_quiet(_LAST_ENDINGS)
            await self.upstream.close()
            await self.admin.close()

    async def _listen(self) -> None:
        settings = self.settings
        ports = {}
        for flag, address, listen in (
            ("--listen", settings.listen, self.relay.listen),
            ("--admin", settings.admin, self.admin.listen),
        ):
            try:
                ports[flag] = await listen(address.host or None, address.port)
            except OSError as error:
                raise CannotListen(flag, address, error) from error
        self.log.info(
            "exporter.started",
            version=__version__,
            upstream=str(settings.upstream),
            listen=str(Address(settings.listen.host, ports["--listen"])),
            admin=str(Address(settings.admin.host, ports["--admin"])),
        )

    async def _renew_certificate(self) -> None:
        """Serve new clients by what --tls-cert and --tls-key hold now; those that are connected notice nothing."""
        if self.certificate is not None:
            log, path = self.log, self.settings.tls_cert
            await self.certificate.watch(
                _RENEW,
                renewed=lambda: log.info("tls.reloaded", certificate=path),
                failed=lambda why: log.error("tls.reload_failed", certificate=path, why=why),
            )

    # Signals and draining.

    def _signalled(self, number: int) -> None:
        self._signals += 1
        if self._signals > 1:
            self._stop.set()
            return
        self.begin_drain(patient=True)  # a drain asked for over HTTP is not patient and just goes on
        asyncio.get_running_loop().create_task(self._stop_when_drained())

    async def _stop_when_drained(self) -> None:
        await self.drain.finished.wait()
        self._stop.set()

    def begin_drain(self, patient: bool) -> bool:
        """Begin a drain, if none is on; see :meth:`Drain.begin`."""
        if not self.drain.begin(patient):
            return False
        self.log.info("drain.started", sessions=len(self.relay.sessions), patient=patient)
        asyncio.get_running_loop().create_task(self._tell_when_drained())
        return True

    async def _tell_when_drained(self) -> None:
        began = monotonic()
        await self.drain.finished.wait()
        self.log.info("drain.finished", seconds=round(monotonic() - began, 3))

    async def _wait_for_scrape(self) -> None:
        """Let a scraper that we know see the last endings before they are gone."""
        if self.admin.scraped == float("-inf") or self.relay.last_ending < self.admin.scraped:
            return
        deadline = monotonic() + self.settings.drain_linger
        while self.admin.scraped < self.relay.last_ending and self._signals < 2 and monotonic() < deadline:
            await asyncio.sleep(_SCRAPE_POLL)

    # For the admin server.

    async def unready(self) -> list[str]:
        """The reasons why no new client should be sent here; empty if there is none."""
        reasons = []
        if not self.relay.is_listening:
            reasons.append("not listening")
        if self.drain.is_on:
            reasons.append("draining")
        if not await self.upstream.probe_cached():
            reasons.append(f"the app at {self.settings.upstream} does not accept connections")
        return reasons

    def progress(self) -> dict[str, object]:
        """Where the drain is, ready for JSON."""
        return {
            "draining": self.drain.is_on,
            "phase": self.drain.phase,
            "sessions_left": self.drain.sessions_left,
            "seconds_left": round(self.drain.seconds_left, 1),
        }

    def state(self) -> State:
        """How the sidecar is, for the landing page."""
        return State(
            version=__version__,
            upstream=str(self.settings.upstream),
            draining=self.drain.is_on,
            active=len(self.relay.sessions),
            uptime=monotonic() - self._began,
            ever=self._ever(),
            minutes=self.history.minutes(),
        )

    async def _flush_counts(self) -> None:
        for _ in self.metrics.flush_counts():
            pass

    def change_token(self) -> tuple[object, ...]:
        """Different whenever the state is, give or take the seconds of the uptime."""
        return self.history.total, self.history.minute, len(self.relay.sessions), self.drain.phase

    def _ever(self) -> Counter[tuple[str, str, str]]:
        ever: Counter[tuple[str, str, str]] = Counter()
        for (_, code, cause, initiator), count in self.metrics.endings().items():
            ever[code, cause, initiator] += count
        return ever

    def _unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        self.log.error("exporter.defect", message=str(context.get("message")), exc_info=context.get("exception"))


def _spare_the_collector() -> None:
    """Never look again at what the start has made: modules, classes and metrics stay for as long as the process does.

    A full collection would walk over all of it, and over all sessions, and stop the traffic meanwhile.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTIONS)


def _certificate(settings: Settings) -> ReloadingCert | None:
    if not settings.tls_cert:
        return None
    try:
        certificate = ReloadingCert(Path(settings.tls_cert), Path(settings.tls_key))
    except OSError as error:
        why = error.strerror if error.filename else getattr(error, "reason", None) or error
        raise CannotUse(f"--tls-cert {settings.tls_cert}, --tls-key {settings.tls_key}: {why}") from error
    certificate.context.set_alpn_protocols(["http/1.1"])
    return certificate


def _endings(settings: Settings) -> LogEndings:
    return settings.log_endings  # type: ignore[return-value]  # one_of() checked it


def run(settings: Settings) -> int:
    """Run a sidecar until it has been told to end. Returns the process's exit status."""
    _occupy_standard_streams()
    fmt: Format = settings.log_format  # type: ignore[assignment]  # one_of() checked it
    writer = configure(fmt, settings.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_main(settings, writer))
    except (CannotListen, CannotUse) as error:
        print(f"websocket-exporter: error: {error}", file=sys.stderr)
        return 1
    finally:
        writer.close()
    return 0


def _occupy_standard_streams() -> None:
    """Open what was closed of descriptors 0 to 2: a client must not get one of them, libuv aborts when it closes it."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)


async def _main(settings: Settings, lines: LineWriter) -> None:
    await App(settings, lines).run()
