"""`run`: opens the sockets, forks the relays and the observer, passes signals on, starts anew who dies.

    SERVING ──signal──► DRAINING ──all relays have ended──► FINISHING ──observer has ended──► exit
                           └─ second signal: relays stop at once ─┘ └─ second signal: observer stops at once

Forwarding and observing happen in the children. The supervisor runs no event loop and no thread, so that a fork copies
neither; it waits for signals, for messages of its children and for their deaths. A child whose control socket ends has
no supervisor any more and ends too.

Each relay sends its records to the observer over a socket pair. The supervisor keeps a duplicate of the observer's end:
the kernel goes on queueing while the observer is started anew. Each start of a relay takes another block of shared
cells than the one before, so that the observer can settle the counts of the lost one.
"""

from __future__ import annotations

import contextlib
import gc
import json
import mmap
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from time import monotonic, monotonic_ns
from typing import NoReturn

from exporter.config import Settings
from exporter.listening import CannotListen, close_all, open_listeners
from exporter.observe.process import ObserverProcess, run_observer
from exporter.preflight import CannotUse, cpu_limit, read_files
from exporter.protocol.client_identity import KEY_SIZE
from exporter.protocol.counters import SLOTS_PER_RELAY, ObserverLayout, RelayLayout, SharedCells
from exporter.protocol.labels import Router, code_labels
from exporter.protocol.messages import MAX_MESSAGE
from exporter.relay.process import RelayProcess, run_relay

#: Seconds until a child that died is started anew: the first time, and at most.
BACKOFF = 0.5
MAX_BACKOFF = 10.0
#: Seconds after which a child that lived counts as healthy: its next start waits for BACKOFF again.
HEALTHY = 30.0
#: Bytes that a records socket may hold in the kernel; Linux cuts it to net.core.wmem_max.
QUEUE = 4 * 1024 * 1024
#: Added to the observer's nice value: where cores are few, traffic goes first. It leaves the observer a quarter of a
#: core beside a busy relay; ten would leave a tenth.
OBSERVER_NICE = 5

#: Signals that end the sidecar with a drain; some would kill it without a Close frame by default.
DRAIN_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class State(Enum):
    """Where the supervisor is; the module's docstring has the transitions."""

    SERVING = "serving"
    DRAINING = "draining"
    FINISHING = "finishing"


#: Runs a child with its control socket. Returns the exit status.
Main = Callable[[socket.socket], int]
#: Makes a relay before its process is forked, whose pages it shares then: its number, slot of cells, records socket.
MakeRelay = Callable[[int, int, socket.socket], Main]
#: Runs the observer: records sockets by slot, its control socket, whether it is the first. Returns the exit status.
ObserverMain = Callable[[dict[int, socket.socket], socket.socket, bool], int]


@dataclass(slots=True)
class _Child:
    """A relay or the observer.

    :ivar slot: the relay's slot of shared cells.
    :ivar sockets: its ends of the sockets to the observer, for a relay, and to the supervisor, until it is forked.
    :ivar pid: 0 while it does not run.
    :ivar control: the supervisor's end of its control sockets.
    :ivar start_at: when it is to be started, on the monotonic clock; None for not at all.
    """

    name: str
    main: Main
    slot: int = -1
    sockets: list[socket.socket] = field(default_factory=list)
    pid: int = 0
    control: socket.socket | None = None
    started_at: float = 0.0
    start_at: float | None = None
    backoff: float = BACKOFF


class Supervisor:
    """Starts the children and waits for them.

    :param workers: how many relays.
    :param cells: the shared cells; restarts of relays are counted there.
    :param wakeup: receives the numbers of signals, see :func:`catch_signals`.
    :param on_drain: called when a signal begins a drain.
    """

    def __init__(
        self,
        workers: int,
        make_relay: MakeRelay,
        observer: ObserverMain,
        cells: SharedCells,
        wakeup: socket.socket,
        on_drain: Callable[[], None] = lambda: None,
    ) -> None:
        self.state = State.SERVING
        self._wakeup = wakeup
        self._on_drain = on_drain
        self._make_relay = make_relay
        self._cells = cells
        self._selector = selectors.PollSelector()  # without a descriptor, which children would have to close
        self._records: dict[int, socket.socket] = {}  # the observer's ends, by slot
        self._observer = _Child(
            "observer", lambda control: observer(self._records, control, not self._observer.started_at)
        )
        self._relays = [_Child(f"relay-{n}", *self._prepare(SLOTS_PER_RELAY * n)) for n in range(workers)]
        self._children = [self._observer, *self._relays]
        self._signals = 0

    def run(self) -> int:
        """Supervise until all children have ended on purpose. Returns the exit status."""
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._on_signals)
        self._fork(*self._children)
        while self.state is not State.FINISHING or self._observer.pid:
            for child in self._children:
                if child.start_at is not None and child.start_at <= monotonic():
                    self._start(child)
            for key, _ in self._selector.select(self._seconds_to_start()):
                key.data()
            self._advance()
        return 0

    # Starting.

    def _prepare(self, slot: int) -> tuple[Main, int, list[socket.socket]]:
        """Make the relay of ``slot``. Returns its main, slot and sockets."""
        records, self._records[slot] = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (records, self._records[slot]):
            end.setblocking(False)
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, QUEUE)
        # A relay that hangs before its first heartbeat is to be noticed as well.
        self._cells.slots[slot][self._cells.relay_layout.heartbeat] = monotonic_ns()
        return self._make_relay(slot // SLOTS_PER_RELAY, slot, records), slot, [records]

    def _start(self, child: _Child) -> None:
        """Start ``child`` anew."""
        if child is self._observer:
            self._fork(child)
            return
        slot = child.slot ^ 1
        if slot in self._records:  # the observer has not settled the last relay of that slot
            child.start_at = monotonic() + BACKOFF
            return
        child.main, child.slot, child.sockets = self._prepare(slot)
        self._fork(child)
        self._cells.observer[self._cells.observer_layout.relay_restarts] += 1
        self._send([self._observer], {"do": "relay", "slot": slot}, self._records[slot])

    def _fork(self, *children: _Child) -> None:
        for child in children:
            child.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            child.control.setblocking(False)
            child.sockets.append(control)
        _flush_standard_streams()
        for child in children:  # nothing but forks: each child would keep a copy of pages written between them
            child.pid = os.fork()
            if child.pid == 0:
                self._be(child)
        for child in children:
            while child.sockets:
                child.sockets.pop().close()
            assert child.control is not None
            self._selector.register(child.control, selectors.EVENT_READ, partial(self._on_message, child))
            child.started_at, child.start_at = monotonic(), None

    def _be(self, child: _Child) -> NoReturn:
        """Be ``child`` and end. Signals to the process group are the supervisor's, which passes them on."""
        status = os.EX_SOFTWARE
        try:
            signal.set_wakeup_fd(-1)  # the handlers of signals do nothing from now on
            self._wakeup.close()
            for other in self._children:
                for sock in (other.control, *other.sockets):
                    if sock is not None and sock not in child.sockets:
                        sock.close()
            if child is not self._observer:
                for records in self._records.values():
                    records.close()
            status = child.main(child.sockets[-1])
        except BaseException:
            traceback.print_exc()
        finally:
            _flush_standard_streams()
            os._exit(status)

    def _seconds_to_start(self) -> float | None:
        times = [child.start_at for child in self._children if child.start_at is not None]
        return max(0.0, min(times) - monotonic()) if times else None

    # Signals and deaths.

    def _on_signals(self) -> None:
        for number in self._wakeup.recv(MAX_MESSAGE):
            if number in DRAIN_SIGNALS:
                self._on_drain_signal()
            elif number == signal.SIGHUP:
                self._send(self._children, {"do": "reload"})
        self._reap()

    def _on_drain_signal(self) -> None:
        self._signals += 1
        if self._signals > 1:
            self._send(self._relays if self.state is State.DRAINING else self._children, {"do": "stop"})
            return
        self.state = State.DRAINING
        self._on_drain()
        for child in self._relays:
            child.start_at = None
        self._send([self._observer], {"do": "terminating"})
        self._send(self._relays, {"do": "drain", "wait": True, "exit": True})

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                for child in self._children:
                    if child.pid == found[0]:
                        self._on_death(child, os.waitstatus_to_exitcode(found[1]))

    def _on_death(self, child: _Child, status: int) -> None:
        child.pid = 0
        self._close_control(child)
        if self.state is State.FINISHING or (self.state is State.DRAINING and child is not self._observer):
            return
        _print(f"websocket-exporter: {child.name} ended with status {status}; starting it anew")
        if monotonic() - child.started_at > HEALTHY:
            child.backoff = BACKOFF
        child.start_at = monotonic() + child.backoff
        child.backoff = min(2 * child.backoff, MAX_BACKOFF)

    def _advance(self) -> None:
        """Let the observer finish once all relays have ended."""
        if self.state is State.DRAINING and not any(child.pid for child in self._relays):
            self.state = State.FINISHING
            self._observer.start_at = None
            self._send([self._observer], {"do": "stop" if self._signals > 1 else "finish"})

    # Messages.

    def _on_message(self, child: _Child) -> None:
        if child.control is None:  # reaped in this very turn
            return
        try:
            data = child.control.recv(MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # it is about to be reaped
            self._close_control(child)
            return
        message = json.loads(data)
        match message["do"]:
            case "drain":
                self._send(self._relays, {"do": "drain", "wait": False, "exit": False})
            case "settled" if (records := self._records.pop(message["slot"], None)) is not None:
                records.close()

    def _close_control(self, child: _Child) -> None:
        if child.control is not None:
            self._selector.unregister(child.control)
            child.control.close()
            child.control = None

    def _send(self, children: Iterable[_Child], message: dict[str, object], *sockets: socket.socket) -> None:
        for child in children:
            if child.control is not None:
                with contextlib.suppress(OSError):  # it has died, and will be reaped
                    socket.send_fds(child.control, [json.dumps(message).encode()], [sock.fileno() for sock in sockets])


def catch_signals() -> socket.socket:
    """Catch every signal that the supervisor handles, from now on. Returns a socket that their numbers come from."""
    reader, writer = socket.socketpair()
    for end in (reader, writer):
        end.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    for number in (*DRAIN_SIGNALS, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return reader


def run(settings: Settings) -> int:
    """Run a sidecar until a signal ends it. Returns the process's exit status."""
    _occupy_standard_streams()
    wakeup = catch_signals()
    try:
        certificate = read_files(settings)
        workers = settings.workers or cpu_limit()
        clients = open_listeners("--listen", settings.listen, workers)
        (admin,) = open_listeners("--admin", settings.admin)
    except (CannotListen, CannotUse) as error:
        _print(f"websocket-exporter: error: {error}")
        return 1
    routes = len(Router(settings.route).names)
    layouts = RelayLayout(routes), ObserverLayout(routes, code_labels(*settings.code_maps().maps))
    view = memoryview(mmap.mmap(-1, 8 * SharedCells.size(*layouts, workers))).cast("q")
    cells = SharedCells(view, *layouts, workers)
    identity_key = os.urandom(KEY_SIZE)
    listen = replace(settings.listen, port=clients[0][0].getsockname()[1])
    admin_address = replace(settings.admin, port=admin[0].getsockname()[1])
    make_observer = partial(ObserverProcess, settings, listen, admin_address, admin, cells, os.getpid())
    prepared = make_observer()  # with pages that it shares; one that is started anew reads its files anew

    def close_others(own: list[socket.socket]) -> None:
        for opened in (admin, *clients):
            if opened is not own:
                close_all(opened)

    def make_relay(number: int, slot: int, records: socket.socket) -> Main:
        process = RelayProcess(settings, identity_key, number, slot, cells, records, clients[number], certificate)

        def relay(control: socket.socket) -> int:
            close_others(clients[number])
            return run_relay(process, control)

        return relay

    def observer(records: dict[int, socket.socket], control: socket.socket, first: bool) -> int:
        close_others(admin)
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.nice(OBSERVER_NICE)
        process = prepared if first else make_observer()
        return run_observer(process, records, control, first)

    def on_drain() -> None:
        if sys.stderr is not None and sys.stderr.isatty():
            sessions = sum(block[route.active] for block in cells.slots for route in layouts[0].routes)
            noun = "session" if sessions == 1 else "sessions"
            limit = f"{settings.drain_timeout:g}"
            _print(f"draining {sessions} {noun}, up to {limit} s; Ctrl-C again to quit now")

    supervisor = Supervisor(workers, make_relay, observer, cells, wakeup, on_drain)
    gc.freeze()  # no collection in a child walks over these objects, or copies their pages
    return supervisor.run()


def _occupy_standard_streams() -> None:
    """Open those of descriptors 0 to 2 that are closed: libuv aborts when it closes one of them as a client's."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)


def _flush_standard_streams() -> None:
    """Flush those that are open: Python has None for those that were closed at its start."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            if stream is not None:
                stream.flush()


def _print(text: str) -> None:
    """Print on standard error, if that is open and takes it."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)
