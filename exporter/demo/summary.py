"""Texts of the demo, made from the sidecar's /metrics and /closes: the progress line, the summary, the tour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from exporter.observe.catalogue import ACTIVE, CLOSED, HANDSHAKES
from exporter.protocol.causes import is_abnormal, is_server_fault
from exporter.protocol.enums import Cause, Peer

#: Seconds after which the tour continues although a step's close has not happened.
TOUR_STEP_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
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


@dataclass(slots=True)
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
    counts = Counts()
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            labels, value = sample.labels, int(sample.value)
            if sample.name == ACTIVE.name:
                counts.active += value
            elif sample.name == CLOSED.name:
                close = Close(labels["code"], labels["cause"], labels["initiator"])
                counts.closed[close] += value
                pairs = ",".join(f'{name}="{text}"' for name, text in sorted(labels.items()))
                counts.samples[close] = f"{sample.name}{{{pairs}}} {sample.value}"
            elif sample.name == HANDSHAKES.name and labels["status"] != "101":
                counts.refused[labels["status"]] += value
    return counts


def progress(before: Counts, now: Counts) -> str:
    """Return one line: the open sessions, and the closes since ``before`` by initiator."""
    lists: dict[str, list[str]] = {f"{peer} closed": [] for peer in (Peer.SERVER, Peer.PROXY, Peer.CLIENT)}
    for close, count in (now.closed - before.closed).most_common():
        lists[f"{close.initiator} closed"].append(f"{count} x {close.code} {close.cause}")
    refused = (now.refused - before.refused).most_common()
    lists["refused"] = [f"{count} x {_status(status)}" for status, count in refused]
    parts = [f"{title} {', '.join(items)}" for title, items in lists.items() if items]
    return "; ".join([f"{now.active:2} open", *parts])


def summary(counts: Counts) -> str:
    """Return the totals and a table with one row for each kind of close, the most frequent first."""
    rows = [("code", "cause", "by", "count")]
    rows += [(e.code, e.cause, e.initiator, str(count)) for e, count in (+counts.closed).most_common()]
    rows += [("-", _status(status), "-", str(count)) for status, count in (+counts.refused).most_common()]
    table = "\n".join(f"  {code:<8} {cause:<19} {by:<7} {count:>6}" for code, cause, by, count in rows)
    closes = plural(counts.closed.total(), "session")
    return f"{closes} closed, {counts.active} still open; {plural(counts.faults, 'server fault')}\n\n{table}\n"


def plural(count: int, noun: str) -> str:
    """Return "1 session" or "2 sessions"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _status(status: str) -> str:
    return f"HTTP {status}" if status.isdecimal() else status


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


_TEXTS = """\
the page
Open {links.admin}/
Server faults: closes by the server that point at a bug or a crash. Going
away: leaving browsers and deploys. {open} open now.

a client leaves
{count} ended with 1001 (Going Away) by the client, as when a
browser leaves the page. Not a fault. The counter:
  curl -s {links.admin}/metrics | grep 'cause="going-away"'
  {sample}

a handler raises
{count} ended with 1011 (Internal Error): a handler raised an
exception, and the server's library closed the connection. A server fault.
  report        {report}
  stack trace   {links.logs}/app.log
  meaning       {links.command} explain 1011

a handler drops the connection
{count} ended with no Close frame (1006): the app dropped TCP right
after a message. The same bug in another framework; a count of 1011 alone
misses it.
  report        {report}
  meaning       {links.command} explain {cause}

the app restarts
{count} ended with 1001 by the server: the app restarted, as in a
deploy. Expected, not a fault: the clients reconnect. On the page the wave
is in Going away, not in Server faults.
  meaning       {links.command} explain 1001 1011

more bugs
Let a fifth of the messages fail; Server faults rises from {faults}:
  curl '{links.app}/bug?rate=0.2'     no bug: rate=0
All reports of abnormal closes:
  {links.admin}/closes

your app
Put the sidecar in front of an app on port 8080; its clients connect to
port 10010. The demo has to end first (Ctrl-C), it uses that port.
  {links.command} run --upstream 127.0.0.1:8080"""
#: For each step the closes of which one has to happen first, the best example first. Without any it is shown once a
#: session is open; None comes after the steps that wait for a close.
_SHOWS = ((), CLIENT_LEAVES, HANDLER_RAISES, HANDLER_DROPS, APP_RESTARTS, None, None)
#: Title and text of each step, and the closes that it shows.
_STEPS = tuple(zip(_TEXTS.split("\n\n"), _SHOWS, strict=True))


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
        for text, shows in self._left:
            close = next((close for close in shows or () if self._has_example(close, counts, reports)), None)
            if close or (not shows and self._is_due(shows is None, counts, now)):
                self._left.remove((text, shows))
                self._last_shown = now
                title, _, text = text.format_map(self._fields(counts, close, reports)).partition("\n")
                return f"Step {len(_STEPS) - len(self._left)} of {len(_STEPS)}: {title}\n\n{text}\n"
        return None

    def _fields(self, counts: Counts, close: Close | None, reports: Mapping[Close, str]) -> dict[str, object]:
        """Return the fields of a step's text, those of the close that it shows among them."""
        fields = {"links": self._links, "open": plural(counts.active, "session"), "faults": counts.faults}
        if close:
            fields |= {"count": plural(counts.closed[close], "session"), "cause": close.cause}
            fields |= {"sample": counts.samples[close], "report": f"{self._links.admin}/closes/{reports.get(close)}"}
        return fields

    def _has_example(self, close: Close, counts: Counts, reports: Mapping[Close, str]) -> bool:
        return counts.closed[close] > 0 and (close in reports or not is_abnormal(Cause(close.cause)))

    def _is_due(self, last: bool, counts: Counts, now: float) -> bool:
        if not last:
            return counts.active > 0
        return not any(shows for _, shows in self._left) or now - self._last_shown > TOUR_STEP_TIMEOUT
