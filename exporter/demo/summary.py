"""Texts of the demo, made from the sidecar's /metrics and /closes: the progress line, the summary, the tour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from prometheus_client.parser import text_string_to_metric_families

from exporter.observe.catalogue import ACTIVE, CLOSED, HANDSHAKES
from exporter.protocol.causes import is_abnormal, is_server_fault
from exporter.protocol.enums import Cause, Peer

#: Seconds after which the tour continues although a step's close has not happened.
TOUR_STEP_TIMEOUT = 60.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, order=True)
class Close:
    """The labels of one kind of close."""

    code: str
    cause: str
    initiator: str


CLIENT_LEAVES = (Close("1001", Cause.GOING_AWAY, Peer.CLIENT),)
HANDLER_RAISES = (Close("1011", Cause.INTERNAL_ERROR, Peer.SERVER),)
HANDLER_DROPS = tuple(
    Close("1006", cause, Peer.SERVER)  # on a busy machine TCP may end too late after the message
    for cause in (Cause.DROPPED_ON_MESSAGE, Cause.CONNECTION_LOST, Cause.CONNECTION_RESET)
)
APP_RESTARTS = (Close("1001", Cause.GOING_AWAY, Peer.SERVER),)


@dataclass(frozen=True, slots=True)
class Counts:
    """The sidecar's counts since its start, summed over routes.

    :ivar active: open sessions.
    :ivar closed: closes by kind.
    :ivar refused: handshakes by HTTP status, 101 excepted.
    :ivar samples: a line of the exposition for each kind of close.
    """

    active: int = 0
    closed: Counter[Close] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    samples: dict[Close, str] = field(default_factory=dict)

    @property
    def faults(self) -> int:
        """The closes that are faults of the server."""
        return sum(n for close, n in self.closed.items() if is_server_fault(Cause(close.cause), Peer(close.initiator)))


def read_counts(exposition: str) -> Counts:
    """Read the counts from Prometheus' text format. Raises ValueError."""
    active = 0
    closed: Counter[Close] = Counter()
    refused: Counter[str] = Counter()
    samples: dict[Close, str] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            labels, value = sample.labels, int(sample.value)
            if sample.name == ACTIVE.name:
                active += value
            elif sample.name == CLOSED.name:
                close = Close(labels["code"], labels["cause"], labels["initiator"])
                closed[close] += value
                pairs = ",".join(f'{name}="{text}"' for name, text in sorted(labels.items()))
                samples[close] = f"{sample.name}{{{pairs}}} {sample.value}"
            elif sample.name == HANDSHAKES.name and labels["status"] != "101":
                refused[labels["status"]] += value
    return Counts(active, closed, refused, samples)


def progress(before: Counts, now: Counts) -> str:
    """Return one line: the open sessions, and the closes since ``before`` by initiator."""
    lists: dict[str, list[str]] = {f"{peer} closed": [] for peer in (Peer.SERVER, Peer.PROXY, Peer.CLIENT)}
    for close, count in _most_frequent(now.closed - before.closed):
        lists[f"{close.initiator} closed"].append(f"{count} x {close.code} {close.cause}")
    refused = _most_frequent(now.refused - before.refused)
    lists["refused"] = [f"{count} x {_status(status)}" for status, count in refused]
    parts = [f"{title} {', '.join(items)}" for title, items in lists.items() if items]
    return "; ".join([f"{now.active:2} open", *parts])


def summary(counts: Counts) -> str:
    """Return the totals and a table with one row for each kind of close, the most frequent first."""
    rows = [("code", "cause", "by", "count")]
    rows += [(e.code, e.cause, e.initiator, str(count)) for e, count in _most_frequent(counts.closed)]
    rows += [("-", _status(status), "-", str(count)) for status, count in _most_frequent(counts.refused)]
    table = "\n".join(f"  {code:<8} {cause:<19} {by:<7} {count:>6}" for code, cause, by, count in rows)
    closes = plural(counts.closed.total(), "session")
    return f"{closes} closed, {counts.active} still open; {plural(counts.faults, 'server fault')}\n\n{table}\n"


def plural(count: int, noun: str) -> str:
    """Return "1 session" or "2 sessions"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _status(status: str) -> str:
    return f"HTTP {status}" if status.isdecimal() else status


def _most_frequent(counts: Counter[_T]) -> list[tuple[_T, int]]:
    return [(kind, count) for kind, count in counts.most_common() if count]


@dataclass(frozen=True, slots=True)
class Links:
    """Addresses and paths for the user.

    :ivar admin: URL of the sidecar's admin port.
    :ivar app: URL of the app, through the sidecar.
    :ivar command: the command line of websocket-exporter, as typed.
    """

    admin: str
    app: str
    logs: Path
    command: str


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of the tour. Without ``shows`` and ``last`` it is shown once a session is open.

    :ivar shows: the closes of which one has to happen first, the best example first.
    :ivar last: whether the step comes after those that wait for a close.
    """

    title: str
    text: Callable[[_View], str]
    shows: tuple[Close, ...] = ()
    last: bool = False


@dataclass(frozen=True, slots=True)
class _View:
    """All that the text of a step may name: ``count``, ``sample`` and ``report`` are those of ``close``."""

    links: Links
    counts: Counts
    close: Close | None = None
    report: str = ""

    @property
    def count(self) -> int:
        return self.counts.closed[self.close] if self.close else 0

    @property
    def sample(self) -> str:
        return self.counts.samples[self.close] if self.close else ""

    def explain(self, *subjects: str) -> str:
        return f"{self.links.command} explain {' '.join(subjects)}"


def _page(view: _View) -> str:
    return f"""\
Open {view.links.admin}/
Server faults: closes by the server that point at a bug or a crash. Going
away: leaving browsers and deploys. {plural(view.counts.active, "session")} open now."""


def _client_leaves(view: _View) -> str:
    return f"""\
{plural(view.count, "session")} ended with 1001 (Going Away) by the client, as when a
browser leaves the page. Not a fault. The counter:
  curl -s {view.links.admin}/metrics | grep 'cause="going-away"'
  {view.sample}"""


def _handler_raises(view: _View) -> str:
    return f"""\
{plural(view.count, "session")} ended with 1011 (Internal Error): a handler raised an
exception, and the server's library closed the connection. A server fault.
  report        {view.report}
  stack trace   {view.links.logs / "app.log"}
  meaning       {view.explain("1011")}"""


def _handler_drops(view: _View) -> str:
    return f"""\
{plural(view.count, "session")} ended with no Close frame (1006): the app dropped TCP right
after a message. The same bug in another framework; a count of 1011 alone
misses it.
  report        {view.report}
  meaning       {view.explain(view.close.cause if view.close else "1006")}"""


def _app_restarts(view: _View) -> str:
    return f"""\
{plural(view.count, "session")} ended with 1001 by the server: the app restarted, as in a
deploy. Expected, not a fault: the clients reconnect. On the page the wave
is in Going away, not in Server faults.
  meaning       {view.explain("1001", "1011")}"""


def _more_bugs(view: _View) -> str:
    return f"""\
Let a fifth of the messages fail; Server faults rises from {view.counts.faults}:
  curl '{view.links.app}/bug?rate=0.2'     no bug: rate=0
All reports of abnormal closes:
  {view.links.admin}/closes"""


def _your_app(view: _View) -> str:
    return f"""\
Put the sidecar in front of an app on port 8080; its clients connect to
port 10010. The demo has to end first (Ctrl-C), it uses that port.
  {view.links.command} run --upstream 127.0.0.1:8080"""


_STEPS = (
    _Step("the page", _page),
    _Step("a client leaves", _client_leaves, CLIENT_LEAVES),
    _Step("a handler raises", _handler_raises, HANDLER_RAISES),
    _Step("a handler drops the connection", _handler_drops, HANDLER_DROPS),
    _Step("the app restarts", _app_restarts, APP_RESTARTS),
    _Step("more bugs", _more_bugs, last=True),
    _Step("your app", _your_app, last=True),
)


class Tour:
    """The steps of the tour, each shown once its close has happened."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._left = list(_STEPS)
        self._last_shown = 0.0

    @property
    def is_over(self) -> bool:
        """Whether all steps have been shown."""
        return not self._left

    def next(self, counts: Counts, reports: Mapping[Close, str], now: float) -> str | None:
        """Return the text of the next step that can be shown.

        :param reports: session ids of the newest reports.
        :param now: seconds since the start.
        :returns: None while the closes of the steps that are left have not happened.
        """
        for step in self._left:
            close = next((close for close in step.shows if self._has_example(close, counts, reports)), None)
            if close or (not step.shows and self._is_due(step, counts, now)):
                self._left.remove(step)
                self._last_shown = now
                report = f"{self._links.admin}/closes/{reports[close]}" if close and close in reports else ""
                text = step.text(_View(self._links, counts, close, report))
                return f"Step {len(_STEPS) - len(self._left)} of {len(_STEPS)}: {step.title}\n\n{text}\n"
        return None

    def _has_example(self, close: Close, counts: Counts, reports: Mapping[Close, str]) -> bool:
        return counts.closed[close] > 0 and (close in reports or not is_abnormal(Cause(close.cause)))

    def _is_due(self, step: _Step, counts: Counts, now: float) -> bool:
        if not step.last:
            return counts.active > 0
        return not any(other.shows for other in self._left) or now - self._last_shown > TOUR_STEP_TIMEOUT
