"""Takes messages of relays and turns records into endings.

A record whose cause depends on circumstances waits for them in a bounded table:

    TCP ended without a Close frame    for the other sessions that end with it: :data:`GROUP_WAIT`
    dropped by the server              for a probe of the app's port that began :data:`SETTLE` after the end, and, if it
                                       was accepted and the evidence does not explain this session alone, for another
                                       one :data:`SECOND_PROBE` after the end
    closed by the server, no reason    for a probe that began :data:`CLOSE_SETTLE` after the end

A probe answers for all records that wait for it, and at most one starts a second. Times are those of the records; the
observer's own delay is in none of them.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from time import monotonic
from typing import Final, Protocol

from mypy_extensions import mypyc_attr

from exporter.observe.probe import AppProbe, Listeners
from exporter.protocol.classify import Ending, classify, depends_on_app, is_drop
from exporter.protocol.enums import Peer
from exporter.protocol.evidence import Circumstances, Confidence, last_passed
from exporter.protocol.messages import Kind, Notice, Opened, decode
from exporter.protocol.presets import CodeMaps
from exporter.protocol.record import SessionRecord

#: Seconds from the end of a session to the probe of the app's port: a dying process closes one socket after another.
SETTLE = 0.25
#: The same for a Close frame: an app that closes its sessions first has its port open for up to 0.6 s more.
CLOSE_SETTLE = 0.75
#: Seconds from a drop to the second probe: some apps close their port up to 0.6 s after their sessions.
SECOND_PROBE = 2.0
#: Seconds from the start of one probe to that of the next.
PROBE_INTERVAL = 1.0
#: Seconds within which sessions count as ended together, and for which a drop waits for the others.
TOGETHER = 0.05
GROUP_WAIT = 0.1
#: Distinct ages of last frames, at least :data:`TOGETHER` apart, that show that no common message ended the sessions.
DISTINCT_AGES = 3
#: A group must be this many times larger than the number of sessions that usually end within :data:`SLICE` seconds:
#: ends at a steady rate meet by chance.
SUDDEN = 3
SLICE = 0.25
#: Sessions of a group that count, on either side of one: more change no cause.
MAX_TOGETHER = 32
#: Records that may wait; with more, the oldest is classified with the circumstances known so far.
MAX_WAITING = 4096
#: Records that are classified before others get their turn.
BATCH = 64
#: Drops that are remembered for the ones after them, per side.
MAX_DROPS = 8192
#: Seconds between two checks of the app's listening socket, idle and while sessions open.
LISTENER_INTERVAL = 5.0
LISTENER_MIN_INTERVAL = 0.25

_SERVER: Final = Peer.SERVER


class Sink(Protocol):
    """Takes endings: metrics, log, reports, reconnects."""

    def session_closed(self, record: SessionRecord, ending: Ending) -> None:
        """Take the ending of one session."""


@mypyc_attr(allow_interpreted_subclasses=True)  # tests move the time
class MonotonicScheduler:
    """The event loop's timers on the clock of the records."""

    def time(self) -> float:
        """Return monotonic seconds."""
        return monotonic()

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call ``callback`` at ``when``."""
        return asyncio.get_running_loop().call_later(max(0.0, when - monotonic()), callback)


@dataclass(slots=True)
class Waiting:
    """A record that waits.

    :ivar due: when it is classified, or a probe for it is due; one that starts up to :data:`TOGETHER` earlier answers
        for it as well.
    :ivar probes: probes that it still waits for; 0 if it does not depend on the app.
    """

    record: SessionRecord
    due: float
    probes: int


class Intake:
    """Takes messages, classifies records and passes each with its ending to every sink, once.

    :ivar terminating: this pod is being terminated.
    :ivar last_close: when a record was last passed on.
    :param codes: the maps of close codes, by session.
    :param draining: whether a drain is on.
    :param on_opened: called with each batch of openings.
    :param on_notice: called with the number of the relay and its notice.
    :param on_flushed: called with the number of a relay whose counters are up to date.
    """

    def __init__(
        self,
        codes: CodeMaps,
        sinks: Sequence[Sink],
        scheduler: MonotonicScheduler,
        prober: AppProbe,
        draining: Callable[[], bool],
        on_opened: Callable[[Sequence[Opened]], None],
        on_notice: Callable[[int, Notice], None],
        on_flushed: Callable[[int], None],
    ) -> None:
        self.terminating = False
        self.last_close = float("-inf")
        self._codes = codes
        self._sinks = [sink.session_closed for sink in sinks]
        self._scheduler = scheduler
        self._prober = prober
        self._draining = draining
        self._on_opened = on_opened
        self._on_notice = on_notice
        self._on_flushed = on_flushed
        self._waiting: OrderedDict[int, Waiting] = OrderedDict()
        self._next_key = 0
        self._lost_server = Drops()
        self._lost_client = Drops()
        self._listeners = Listeners()
        self._last_probe = float("-inf")
        self._probing = False
        self._answered: list[int] = []  # keys of the records that the answer is not applied to yet
        self._accepts: bool | None = None  # the answer
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._refresh_timer: asyncio.TimerHandle | None = None

    def waiting_by_route(self, route: int) -> int:
        """Return how many records of a route wait."""
        return sum(waiting.record.route == route for waiting in self._waiting.values())

    def start(self) -> None:
        """Check the app's listening socket now and regularly."""
        self._check_listener()
        self._refresh_timer = self._scheduler.call_at(self._scheduler.time() + LISTENER_INTERVAL, self.start)

    def receive(self, relay: int, message: bytes) -> None:
        """Take one message of a relay. A malformed one becomes a notice."""
        try:
            content = decode(message)
        except ValueError as error:
            self._on_notice(relay, Notice("exporter.defect", "error", {"error": f"message from a relay: {error}"}))
            return
        if isinstance(content, SessionRecord):
            self.closed(content)
        elif isinstance(content, Notice):
            self._on_notice(relay, content)
        elif content is Kind.FLUSHED:
            self._on_flushed(relay)
        elif isinstance(content, list):
            if self._scheduler.time() - self._listeners.checked_at >= LISTENER_MIN_INTERVAL:
                self._check_listener()
            self._on_opened(content)

    def closed(self, record: SessionRecord) -> None:
        """Take one record: pass it on now, or let it wait for circumstances."""
        drop, by_app = is_drop(record), depends_on_app(record)
        if not drop and not by_app:
            self._pass_on(record, None)
            return
        if drop:
            drops, key = self._drops(record)
            drops.add(key, record.closed_at, last_passed(record))
        while len(self._waiting) >= MAX_WAITING:
            _, oldest = self._waiting.popitem(last=False)
            self._pass_on(oldest.record, None)
        if by_app:
            probes = 2 if drop or self._draining() or self.terminating else 1
            waiting = Waiting(record, record.closed_at + (SETTLE if drop else CLOSE_SETTLE), probes)
        else:
            waiting = Waiting(record, record.closed_at + GROUP_WAIT, 0)
        self._waiting[self._next_key] = waiting
        self._next_key += 1
        if not (self._probing and waiting.probes):
            self._set_timer(self._due(waiting))

    def finish(self) -> None:
        """Pass on every record that waits, with the circumstances known so far, and stop probing the app."""
        for timer in (self._timer, self._refresh_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._refresh_timer = None
        while self._waiting:
            self._pass_on(self._waiting.popitem(last=False)[1].record, None)

    def _drops(self, record: SessionRecord) -> tuple[Drops, str]:
        """Return the drops among which the record's companions are: by the server, or by one client-side address."""
        return (self._lost_server, "") if record.tcp_end is _SERVER else (self._lost_client, record.peer_address)

    def _pass_on(self, record: SessionRecord, accepts: bool | None) -> None:
        ending = self._classify(record, accepts)
        for take in self._sinks:
            take(record, ending)
        self.last_close = self._scheduler.time()

    def _classify(self, record: SessionRecord, accepts: bool | None) -> Ending:
        return classify(record, self._circumstances(record, accepts), self._codes.choose(record))

    def _needs_second_probe(self, record: SessionRecord, accepts: bool | None) -> bool:
        """Return whether the app's port may yet show why a session ended, after a first probe that did not.

        Sessions that end together may be those of an app that closes its port last.
        """
        if accepts is False or self._listeners.changed(record):
            return False
        if self._draining() or self.terminating or not is_drop(record):
            return True
        drops, key = self._drops(record)
        confidence = self._classify(record, accepts).confidence
        undecided = confidence is None or confidence is Confidence.UNDECIDED
        return undecided or len(drops.together(key, record.closed_at)) > 1

    def _circumstances(self, record: SessionRecord, accepts: bool | None) -> Circumstances:
        lost, ender = 1, record.first_close
        if is_drop(record):
            ender = record.tcp_end
            drops, key = self._drops(record)
            together = drops.together(key, record.closed_at)
            apart = _distinct(record.closed_at - at for at in together) >= DISTINCT_AGES
            if apart and len(together) >= SUDDEN * drops.usual(key, record.closed_at):
                lost = len(together)
        return Circumstances(
            app_accepts=accepts,
            draining=self._draining(),
            terminating=self.terminating,
            listener_changed=ender is _SERVER and self._listeners.changed(record),
            lost_server=lost,
            lost_client=lost,
        )

    def _schedule(self) -> None:
        """Set the timer for the first record or probe that is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._answered:
            due = [self._scheduler.time()]
        else:
            due = [self._due(waiting) for waiting in self._waiting.values() if not (self._probing and waiting.probes)]
        if due:
            self._set_timer(min(due))

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._scheduler.call_at(max(when, self._scheduler.time()), self._on_timer)

    def _due(self, waiting: Waiting) -> float:
        return max(waiting.due, self._last_probe + PROBE_INTERVAL) if waiting.probes else waiting.due

    def _on_timer(self) -> None:
        self._timer = None
        if self._answered:
            self._take_answer()
            return
        now = self._scheduler.time()
        due = (key for key, waiting in self._waiting.items() if not waiting.probes and waiting.due <= now)
        for key in list(islice(due, BATCH)):
            self._pass_on(self._waiting.pop(key).record, None)
        if not self._probing and any(one.probes and self._due(one) <= now for one in self._waiting.values()):
            self._probing = True
            self._last_probe = now
            self._prober.begin(self._on_answer)
        self._schedule()

    def _on_answer(self, accepts: bool | None) -> None:
        """Take the answer of the probe that started last."""
        self._check_listener()
        self._accepts = accepts
        asked = self._last_probe + TOGETHER
        self._answered = [
            key for key, waiting in reversed(self._waiting.items()) if waiting.probes and waiting.due <= asked
        ]
        self._take_answer()

    def _take_answer(self) -> None:
        """Apply the answer to at most :data:`BATCH` records."""
        for _ in range(min(BATCH, len(self._answered))):
            key = self._answered.pop()
            if (waiting := self._waiting.get(key)) is None:  # another took its place
                continue
            waiting.probes -= 1
            if waiting.probes and self._needs_second_probe(waiting.record, self._accepts):
                waiting.due = waiting.record.closed_at + SECOND_PROBE
                continue
            del self._waiting[key]
            self._pass_on(waiting.record, self._accepts)
        self._probing = bool(self._answered)
        self._schedule()

    def _check_listener(self) -> None:
        self._listeners.update(self._prober.listener(), self._scheduler.time())


class Drops:
    """When sessions ended without a Close frame, by key, the newest :data:`MAX_DROPS` of them."""

    def __init__(self) -> None:
        self._order: deque[tuple[str, tuple[float, float]]] = deque()
        self._by_key: dict[str, list[tuple[float, float]]] = {}

    def add(self, key: str, closed_at: float, last_frame_at: float) -> None:
        """Remember one."""
        drop = (closed_at, last_frame_at)
        if len(self._order) >= MAX_DROPS:
            old, oldest = self._order.popleft()
            drops = self._by_key[old]
            drops.remove(oldest)
            if not drops:
                del self._by_key[old]
        self._order.append((key, drop))
        insort(self._by_key.setdefault(key, []), drop)

    def usual(self, key: str, closed_at: float) -> int:
        """Return how many sessions usually end within :data:`SLICE`: the median over the 2 s before ``closed_at``."""
        drops = self._by_key.get(key, [])
        edges = [bisect_left(drops, (closed_at - number * SLICE, float("-inf"))) for number in range(9, 0, -1)]
        return sorted(end - start for start, end in pairwise(edges))[4]

    def together(self, key: str, closed_at: float) -> list[float]:
        """Return the times of last frames of the largest group within :data:`TOGETHER` around ``closed_at``.

        Of a large group it returns the part around ``closed_at``.
        """
        drops = self._by_key.get(key, [])
        start = bisect_left(drops, (closed_at - TOGETHER, float("-inf")))
        end = bisect_right(drops, (closed_at + TOGETHER, float("inf")))
        here = bisect_left(drops, (closed_at, float("-inf")), start, end)
        near, first = drops[max(start, here - MAX_TOGETHER) : min(end, here + MAX_TOGETHER)], 0
        best: list[tuple[float, float]] = []
        for last in range(len(near)):
            while near[last][0] - near[first][0] > TOGETHER:
                first += 1
            if near[first][0] <= closed_at <= near[last][0] and last - first >= len(best):
                best = near[first : last + 1]
        return [last_frame_at for _, last_frame_at in best]


def _distinct(ages: Iterable[float]) -> int:
    """Return how many ages are at least :data:`TOGETHER` apart."""
    count, last = 0, float("-inf")
    for age in sorted(ages):
        if age - last >= TOGETHER:
            count, last = count + 1, age
    return count
