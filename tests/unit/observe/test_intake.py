"""The intake: what waits for what, and which circumstances come of it, with a clock and an app of the test's own."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest

from exporter.observe import intake
from exporter.observe.intake import MAX_DROPS, MAX_TOGETHER, MAX_WAITING, Drops, Intake, MonotonicScheduler
from exporter.protocol.classify import Ending
from exporter.protocol.enums import Cause, Peer, TcpEndKind
from exporter.protocol.messages import (
    FLUSHED,
    Notice,
    Opened,
    encode_notice,
    encode_opened,
    encode_record,
    pack_opening,
)
from exporter.protocol.presets import CodeMaps
from exporter.protocol.record import CloseFrame, PeerRecord, SessionRecord

CLIENT, SERVER = Peer.CLIENT, Peer.SERVER


@dataclass
class Later:
    """A timer of the fake clock."""

    callback: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock(MonotonicScheduler):
    """A scheduler whose time the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._due: list[tuple[float, int, Later]] = []
        self._count = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Later:
        timer = Later(callback)
        self._count += 1
        heapq.heappush(self._due, (when, self._count, timer))
        return timer

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._due and self._due[0][0] <= end + 1e-9:
            when, _, timer = heapq.heappop(self._due)
            self.now = max(self.now, when)
            if not timer.cancelled:
                timer.callback()
        self.now = end

    def step(self) -> None:
        """Run the next timer."""
        when, _, timer = heapq.heappop(self._due)
        self.now = max(self.now, when)
        if not timer.cancelled:
            timer.callback()

    @property
    def pending(self) -> int:
        return sum(not timer.cancelled for _, _, timer in self._due)


class App:
    """The app's port: ``accepting`` and ``socket`` by the clock, and the times of all probes."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.accepting: bool | None = True
        self.socket: frozenset[int] | None = frozenset({1})
        self.probes: list[float] = []
        self.hold = False
        self.held: list[Callable[[bool | None], None]] = []

    def begin(self, done: Callable[[bool | None], None]) -> None:
        self.probes.append(round(self.clock.now, 3))
        if self.hold:
            self.held.append(done)
        else:
            done(self.accepting)

    def listener(self) -> frozenset[int] | None:
        return self.socket

    def restart(self) -> None:
        """The same port, another socket."""
        self.socket = frozenset({max(self.socket or {0}) + 1})


@dataclass
class Stage:
    """An intake with everything around it."""

    draining: bool = False
    clock: Clock = field(default_factory=Clock)
    seen: list[tuple[SessionRecord, Ending]] = field(default_factory=list)
    opened: list[Sequence[Opened]] = field(default_factory=list)
    notices: list[tuple[int, Notice]] = field(default_factory=list)
    flushed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.app = App(self.clock)
        self.number = 0
        self.intake = Intake(
            CodeMaps(), [self], self.clock, self.app, lambda: self.draining, self.opened.append,
            lambda relay, notice: self.notices.append((relay, notice)), self.flushed.append,
        )  # fmt: skip
        self.intake.start()

    def session_closed(self, record: SessionRecord, ending: Ending) -> None:
        self.seen.append((record, ending))

    def record(self, ago: float = 0.0, idle: float = 20.0, **values: Any) -> SessionRecord:
        """A session of 500 s that ended ``ago`` seconds before now; its last frame passed ``idle`` before that."""
        self.number += 1
        end = self.clock.now - ago
        frames = PeerRecord(frames=1, last_frame_at=end - idle, last_message_at=end - idle, last_opcode=1)
        server = replace(frames, last_message_at=end - idle + 0.001, last_frame_at=end - idle + 0.001)
        return SessionRecord(
            **{"number": self.number, "identity": self.number, "opened_at": end - 500, "closed_at": end,
               "client": frames, "server": server, "peer_address": "10.0.0.1", **values}
        )  # fmt: skip

    def drop(self, by: Peer = SERVER, **values: Any) -> SessionRecord:
        """A session whose TCP ``by`` ended comes in."""
        record = self.record(tcp_end=by, **values)
        self.intake.closed(record)
        return record

    def close(self, by: Peer, code: int | None, reason: str = "") -> SessionRecord:
        """A session that ``by`` ended with a Close comes in."""
        record = self.record(first_close=by)
        record.peer(by).close = CloseFrame(code, reason, record.closed_at)
        self.intake.closed(record)
        return record

    @property
    def causes(self) -> list[str]:
        return [ending.cause.value for _, ending in self.seen]


@pytest.fixture
def stage() -> Stage:
    made = Stage()
    made.clock.advance(600.0)  # the app's socket has been looked at for the sessions' whole life
    return made


@pytest.mark.parametrize(
    ("by", "code", "reason"),
    [(CLIENT, 1001, ""), (CLIENT, 1000, ""), (CLIENT, None, ""), (SERVER, 1001, ""), (SERVER, 1012, ""),
     (SERVER, 1011, "boom"), (SERVER, 1000, "bye"), (SERVER, 1008, ""), (SERVER, 4000, "")],
)  # fmt: skip
def test_intake_close_with_a_reason_is_passed_on_at_once(stage: Stage, by: Peer, code: int, reason: str) -> None:
    """What says why itself waits for nothing and costs no probe."""
    record = stage.close(by, code, reason)
    assert [seen for seen, _ in stage.seen] == [record]
    assert stage.app.probes == []
    assert stage.intake.waiting_by_route(0) == 0


@pytest.mark.parametrize("code", [1000, None, 1011])
def test_intake_unspecific_close_waits_for_one_probe(stage: Stage, code: int | None) -> None:
    """A server's 1000, empty or bare 1011 Close is passed on a settle time later, with the time of the end itself."""
    start = stage.clock.now
    record = stage.close(SERVER, code)
    stage.clock.advance(0.74)
    assert stage.seen == []
    stage.clock.advance(0.02)
    assert stage.causes == [{1000: "normal", None: "no-status", 1011: "internal-error"}[code]]
    assert stage.app.probes == [start + 0.75]
    assert record.closed_at == start


@pytest.mark.parametrize("code", [1000, None, 1011])
def test_intake_unspecific_close_and_a_refusing_port_is_app_down(stage: Stage, code: int | None) -> None:
    """The same Close from a process that stops: app-down, or shutdown in a drain."""
    stage.app.accepting = False
    stage.close(SERVER, code)
    stage.clock.advance(1.3)
    stage.draining = True
    stage.close(SERVER, code)
    stage.clock.advance(1.3)
    assert stage.causes == ["app-down", "shutdown"]


def test_intake_close_of_an_app_whose_port_closes_late_is_app_down(stage: Stage) -> None:
    """hypercorn sends a bare 1011 when it stops, up to 0.5 s before its port closes."""
    stage.close(SERVER, 1011)
    stage.clock.advance(0.5)
    stage.app.accepting = False
    stage.clock.advance(0.3)
    assert stage.causes == ["app-down"]


def test_intake_termination_of_the_pod_is_a_shutdown(stage: Stage) -> None:
    """SIGTERM to the sidecar says as much as a drain."""
    stage.app.accepting = False
    stage.intake.terminating = True
    stage.drop()
    stage.clock.advance(0.3)
    assert stage.causes == ["shutdown"]


def test_intake_drop_gets_a_second_probe(stage: Stage) -> None:
    """An accepting app is looked at again after two seconds; then the drop is the app's, but its process lives."""
    start = stage.clock.now
    stage.drop()
    stage.clock.advance(1.9)
    assert stage.seen == []
    stage.clock.advance(0.2)
    assert stage.causes == ["connection-lost"]
    assert stage.app.probes == [start + 0.25, start + 2.0]


def test_intake_lone_drop_on_a_message_is_passed_on_after_the_first_probe(stage: Stage) -> None:
    """The message explains the end: the close is counted a settle time after it."""
    record = stage.record(tcp_end=SERVER)
    record.client.last_message_at = record.client.last_frame_at = record.closed_at - 0.003
    stage.intake.closed(record)
    stage.clock.advance(0.26)
    assert stage.causes == ["dropped-on-message"]


@pytest.mark.parametrize("circumstance", ["together", "drain"])
def test_intake_drops_on_messages_of_an_app_that_stops_are_app_down(stage: Stage, circumstance: str) -> None:
    """A busy app that ends its sessions before its port: messages that were under way explain nothing."""
    stage.draining = circumstance == "drain"
    for idle in (0.003, 0.004) if circumstance == "together" else (0.003,):
        record = stage.record(tcp_end=SERVER)
        record.client.last_message_at = record.client.last_frame_at = record.closed_at - idle
        stage.intake.closed(record)
    stage.clock.advance(0.6)
    stage.app.accepting = False
    stage.clock.advance(1.5)
    assert set(stage.causes) == {"shutdown" if stage.draining else "app-down"}


def test_intake_port_that_closes_late_is_app_down(stage: Stage) -> None:
    """Some apps close their port up to 0.6 s after their sessions."""
    stage.drop()
    stage.clock.advance(0.6)
    stage.app.accepting = False
    stage.clock.advance(1.5)
    assert stage.causes == ["app-down"]


def test_intake_refusal_at_the_first_probe_is_passed_on_at_once(stage: Stage) -> None:
    """What is certain needs no second look."""
    stage.app.accepting = False
    stage.drop()
    stage.clock.advance(0.26)
    assert stage.causes == ["app-down"]


def test_intake_full_accept_queue_is_no_refusal(stage: Stage) -> None:
    """An app that answers no probe is not down."""
    stage.app.accepting = None
    stage.drop()
    stage.clock.advance(2.1)
    assert stage.causes == ["connection-lost"]
    evidence = stage.seen[0][1].evidence
    assert evidence
    assert "the app" not in " ".join(evidence)


def test_intake_quick_restart_is_app_restarted(stage: Stage) -> None:
    """A supervisor had the port back before the first look, on another socket."""
    stage.drop()
    stage.app.restart()
    stage.clock.advance(0.3)
    assert stage.causes == ["app-restarted"]


def test_intake_lone_drop_long_after_a_restart_is_no_restart(stage: Stage) -> None:
    """A drop is compared with the socket of its own time, not with one of an hour ago."""
    stage.app.restart()
    stage.clock.advance(60.0)
    stage.drop()
    stage.clock.advance(2.1)
    assert stage.causes == ["connection-lost"]


def test_intake_session_younger_than_the_last_check_is_no_restart(stage: Stage) -> None:
    """A socket seen before the session opened says nothing about the process that served it."""
    stage.clock.advance(3.0)
    stage.app.restart()
    stage.intake.closed(stage.record(tcp_end=SERVER, opened_at=stage.clock.now - 0.5))
    stage.clock.advance(2.1)
    assert stage.causes == ["connection-lost"]


def test_intake_one_of_several_listeners_replaced_is_no_restart(stage: Stage) -> None:
    """With SO_REUSEPORT one worker's socket may change while the others stay."""
    stage.app.socket = frozenset({1, 2, 3})
    stage.clock.advance(10.0)
    stage.drop()
    stage.app.socket = frozenset({1, 2, 4})
    stage.clock.advance(2.1)
    assert stage.causes == ["connection-lost"]


def test_intake_unknown_listener_is_no_restart(stage: Stage) -> None:
    """An app in another network namespace has no socket here."""
    stage.app.socket = None
    stage.drop()
    stage.clock.advance(2.1)
    assert stage.causes == ["connection-lost"]


def test_intake_new_sessions_check_the_listener(stage: Stage) -> None:
    """Soon after each, so that short sessions can be judged as well."""
    stage.clock.advance(2.5)
    opened = [Opened(stage.clock.now, 0, 7)]
    stage.intake.receive(0, encode_opened([pack_opening(stage.clock.now, 0, 7)]))
    assert stage.opened == [opened]
    stage.clock.advance(0.5)
    stage.intake.closed(stage.record(tcp_end=SERVER, opened_at=stage.clock.now - 0.6))
    stage.app.restart()
    stage.clock.advance(0.3)
    assert stage.causes == ["app-restarted"]


def test_intake_probes_at_most_once_a_second(stage: Stage) -> None:
    """A hundred drops in a second cost at most a probe a second, and all of them are answered."""
    start = stage.clock.now
    for _ in range(100):
        stage.drop(idle=0.5)
        stage.clock.advance(0.05)
    stage.clock.advance(5.0)
    assert len(stage.seen) == 100
    assert len(stage.app.probes) <= 1 + round(stage.clock.now - start)
    assert all(later - sooner >= 1.0 for sooner, later in zip(stage.app.probes, stage.app.probes[1:], strict=False))


def test_intake_drop_during_a_probe_waits_for_the_next(stage: Stage) -> None:
    """A probe that began before the settle time was over does not answer for a drop."""
    stage.app.hold = True
    stage.close(SERVER, 1011)
    stage.clock.advance(0.8)
    late = stage.close(SERVER, 1000)
    stage.app.held.pop()(False)
    assert stage.causes == ["app-down"]
    stage.app.hold = False
    stage.clock.advance(1.5)
    assert stage.seen[-1][0] is late
    assert stage.causes == ["app-down", "normal"]


def test_intake_three_idle_sessions_together_are_a_lost_worker(stage: Stage) -> None:
    """Sessions idle for 0.2, 0.7 and 1.2 s that end within 50 ms while the app accepts."""
    for number, idle in enumerate((0.2, 0.7, 1.2)):
        stage.drop(idle=idle, ago=0.001 * number)
    stage.clock.advance(2.1)
    assert stage.causes == ["worker-lost"] * 3


def test_intake_lost_worker_across_relays_and_late_records(stage: Stage) -> None:
    """The times of the ends count, not those at which their records arrive."""
    for idle, late in ((0.2, 0.0), (0.7, 0.3), (1.2, 0.6)):
        stage.clock.advance(0.3 if late else 0.0)
        stage.drop(idle=idle, ago=late)
    stage.clock.advance(2.5)
    assert stage.causes == ["worker-lost"] * 3


@pytest.mark.parametrize(
    "drops",
    [
        [(CLIENT, 0.2, 0.0), (CLIENT, 0.7, 0.0), (CLIENT, 1.2, 0.0)],
        [(SERVER, 0.2, 0.0), (SERVER, 0.7, 0.0)],
        [(SERVER, 0.5, 0.0), (SERVER, 0.51, 0.0), (SERVER, 0.52, 0.0)],
        [(SERVER, 0.2, 0.0), (SERVER, 0.7, 0.1), (SERVER, 1.2, 0.2)],
    ],
    ids=["three tabs of a client", "two sessions", "same last frame", "one after another"],
)
def test_intake_ends_that_look_like_a_lost_worker(stage: Stage, drops: list[tuple[Peer, float, float]]) -> None:
    """Clients that leave together, too few, a common message before, or ends that are not together."""
    for by, idle, ago in drops:
        stage.drop(by, idle=idle, ago=ago)
    stage.clock.advance(2.5)
    assert stage.causes == ["connection-lost"] * len(drops)


@pytest.mark.parametrize("by", [CLIENT, SERVER])
def test_intake_ends_at_a_steady_rate_are_no_loss(stage: Stage, by: Peer) -> None:
    """A busy app or ingress whose sessions end 200 times a second without a Close: several always end together."""
    for number in range(1000):
        stage.drop(by, idle=0.3 * (number % 9))
        stage.clock.advance(0.005)
    stage.clock.advance(5.0)
    steady = stage.causes[600:]
    assert steady == ["connection-lost"] * len(steady)


@pytest.mark.parametrize(("by", "cause"), [(CLIENT, "proxy-lost"), (SERVER, "worker-lost")])
def test_intake_loss_beside_a_steady_rate_is_named(stage: Stage, by: Peer, cause: str) -> None:
    """Sixty sessions that end within half a second stand out from four a second."""
    for number in range(40):
        stage.drop(by, idle=0.3 * (number % 9))
        stage.clock.advance(0.25)
    stage.clock.advance(0.5)
    stage.seen.clear()
    for number in range(60):
        stage.drop(by, idle=0.3 * (number % 9))
        stage.clock.advance(0.008)
    stage.clock.advance(3.0)
    assert stage.causes.count(cause) >= 55


def test_intake_workers_lost_one_after_another_are_lost_workers(stage: Stage) -> None:
    """A rolling restart: each worker's sessions end 1.5 s after those of the one before."""
    for _ in range(4):
        for number in range(5):
            stage.drop(idle=0.3 * number)
        stage.clock.advance(1.5)
    stage.clock.advance(3.0)
    assert stage.causes == ["worker-lost"] * 20


def test_intake_handlers_that_fail_together_are_no_lost_worker(stage: Stage) -> None:
    """Three clients whose messages crash their handlers at once: each session ends right after its message."""
    for ago in (0.0, 0.01, 0.02):
        record = stage.record(tcp_end=SERVER, ago=ago, idle=20.0)
        record.client.last_message_at = record.client.last_frame_at = record.closed_at - 0.003 - ago / 10
        stage.intake.closed(record)
    stage.clock.advance(2.5)
    assert stage.causes == ["dropped-on-message"] * 3


@pytest.mark.parametrize("identity", [0, 7])
def test_intake_five_sessions_of_one_address_are_a_lost_proxy(stage: Stage, identity: int) -> None:
    """They are passed on a moment later, without a probe, also if the proxy does not show whose they are."""
    for number in range(5):
        stage.drop(CLIENT, ago=0.01 * number, idle=0.3 * number, identity=identity)
    stage.clock.advance(0.11)
    assert stage.causes == ["proxy-lost"] * 5
    assert stage.app.probes == []


def test_intake_clients_that_look_like_a_lost_proxy(stage: Stage) -> None:
    """Four of one address, many addresses, one after another, or short sessions that all end right after a frame."""
    for number in range(4):
        stage.drop(CLIENT, idle=0.3 * number)
    for number in range(9):
        stage.drop(CLIENT, idle=0.3 * number, peer_address=f"10.0.1.{number}")
    stage.clock.advance(1.0)
    for number in range(9):
        stage.drop(CLIENT, idle=0.3 * number)
        stage.clock.advance(0.06)
    stage.clock.advance(1.0)
    for number in range(9):
        stage.drop(CLIENT, idle=0.005 * number)
    stage.clock.advance(1.0)
    assert stage.causes == ["connection-lost"] * 31


def test_intake_table_is_bounded(stage: Stage) -> None:
    """With more records than the table holds, the oldest are classified with what is known; none is lost."""
    stage.app.hold = True
    for _ in range(MAX_WAITING + 50):
        stage.drop()
    assert stage.intake.waiting_by_route(0) == MAX_WAITING
    assert stage.causes == ["connection-lost"] * 50
    stage.intake.finish()
    assert len(stage.seen) == MAX_WAITING + 50
    assert len({record.number for record, _ in stage.seen}) == MAX_WAITING + 50


@pytest.mark.parametrize("by", [SERVER, CLIENT])
def test_intake_many_ends_at_once_are_classified_in_portions(stage: Stage, by: Peer) -> None:
    """A callback classifies a bounded number of the sessions that ended together; all get the same cause."""
    stage.app.accepting = False
    for _ in range(10 * intake.BATCH):
        stage.drop(by)
    turns = []
    while len(stage.seen) < 10 * intake.BATCH:
        turns.append(len(stage.seen))
        stage.clock.step()
    turns.append(len(stage.seen))
    assert max(after - before for before, after in pairwise(turns)) <= intake.BATCH
    assert stage.causes == ["app-down" if by is SERVER else "connection-lost"] * 10 * intake.BATCH


def test_intake_finish_passes_everything_on_and_stops(stage: Stage) -> None:
    """At the end of the process nothing waits and no timer is left."""
    stage.drop()
    stage.drop(CLIENT)
    stage.drop(CLIENT, route=3)
    assert [stage.intake.waiting_by_route(route) for route in (0, 1, 3)] == [2, 0, 1]
    stage.intake.finish()
    assert stage.causes == ["connection-lost"] * 3
    assert stage.intake.waiting_by_route(0) == 0
    assert stage.clock.pending == 0


def test_intake_every_record_is_passed_on_once(stage: Stage) -> None:
    """A mix of all kinds over time: as many endings as records."""
    for turn in range(200):
        stage.app.accepting = turn % 3 != 0
        if turn % 50 == 0:
            stage.app.restart()
        stage.drop(SERVER, tcp_end_kind=TcpEndKind.RESET)
        stage.drop(CLIENT)
        stage.close(SERVER, (None, 1000, 1001, 1011)[turn % 4])
        stage.clock.advance(0.07)
    stage.clock.advance(5.0)
    numbers = [record.number for record, _ in stage.seen]
    assert sorted(numbers) == list(range(1, 601))
    assert stage.intake.waiting_by_route(0) == 0


def test_receive_passes_each_kind_on(stage: Stage) -> None:
    """Records, openings, notices and answers to FLUSH come out where they belong."""
    record = stage.record(proxy_cause=Cause.DRAIN, proxy_code=1001)
    notice = Notice("accept.paused", "warning", {"why": "no descriptors"})
    for message in (encode_record(record), encode_notice(notice), FLUSHED):
        stage.intake.receive(3, message)
    assert stage.causes == ["drain"]
    assert stage.notices == [(3, notice)]
    assert stage.flushed == [3]


@pytest.mark.parametrize("message", [b"", b"\xff", b"\x01\x09garbage", b"\x03{", b"\x02x"])
def test_receive_malformed_message_is_a_notice(stage: Stage, message: bytes) -> None:
    """A message that cannot be decoded is reported and harms nothing."""
    stage.intake.receive(1, message)
    ((relay, notice),) = stage.notices
    assert (relay, notice.event, notice.level) == (1, "exporter.defect", "error")
    assert stage.seen == []


def test_drops_forget_the_oldest() -> None:
    """Memory is bounded, by the newest drops of all keys."""
    drops = Drops()
    for number in range(MAX_DROPS + 3):
        drops.add("a" if number % 2 else "b", float(number), 0.0)
    assert [len(drops.together("ab"[1 - number % 2], float(number))) for number in (0, 1, 2, 3, MAX_DROPS)] == [
        0, 0, 0, 1, 1,
    ]  # fmt: skip


def test_drops_together_of_a_large_group_is_bounded() -> None:
    """A thousand sessions that end at once cost each other no more than a few."""
    drops = Drops()
    for _ in range(1000):
        drops.add("", 5.0, 1.0)
    assert MAX_TOGETHER <= len(drops.together("", 5.0)) <= 2 * MAX_TOGETHER


def test_drops_together_finds_the_largest_group_around_a_time() -> None:
    """A chain of ends 30 ms apart is no group; three within 50 ms are."""
    drops = Drops()
    for at in (1.00, 1.03, 1.065, 1.09, 1.10, 1.11):
        drops.add("", at, at - 5)
    assert len(drops.together("", 1.00)) == 2
    assert len(drops.together("", 1.10)) == 4
    assert drops.together("", 2.0) == []
    assert intake.TOGETHER == 0.05
