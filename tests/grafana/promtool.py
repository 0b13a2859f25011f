"""Pods for promtool's unit tests: the events that each counted per minute, and the times at which it came and went.

Scrapes are a minute apart, at whole minutes: an event of minute ``m`` happened in the minute before and is seen at
``m``. A :class:`Case` is one world and the assertions about alerts in it; :func:`run` has promtool check them.
"""

from __future__ import annotations

import json
import os
import subprocess
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from exporter.observe import catalogue
from exporter.observe.catalogue import Metric
from exporter.protocol.enums import Cause, Peer
from grafana.source.config import Config
from grafana.source.promql import Foreign
from grafana.source.rule_files import prometheus

#: How many events a minute brings.
Events = Callable[[int], float]
Key = tuple[Metric | Foreign, str, tuple[tuple[str, str], ...]]

RULES = "grafana/alerts/rules.yaml"

#: The alphabet of Kubernetes' random names.
RANDOM = "bcdfghjklmnpqrstvwxz2456789"


def each(rate: float, start: int = 0, end: int = 10**9) -> Events:
    """``rate`` events in each minute from ``start`` until before ``end``."""
    return lambda minute: rate if start <= minute < end else 0


def once(count: float, minute: int) -> Events:
    """``count`` events in one minute."""
    return each(count, minute, minute + 1)


def closes(code: str | int, cause: str, initiator: Peer = Peer.SERVER, route: str = "all") -> Key:
    """The series of one kind of ending."""
    labels = {"route": route, "code": str(code), "cause": str(cause), "initiator": str(initiator)}
    return series(catalogue.CLOSED, **labels)


def handshakes(status: str | int, route: str = "all") -> Key:
    """The series of one kind of handshake."""
    return series(catalogue.HANDSHAKES, route=route, status=str(status))


def series(metric: Metric | Foreign, suffix: str = "", **labels: str) -> Key:
    """Any series."""
    return metric, suffix, tuple(labels.items())


#: Sessions that end well, so that shares are shares of something.
TRAFFIC = {closes(1000, Cause.NORMAL, Peer.CLIENT): each(20), handshakes(101): each(20)}
BUG = closes(1011, Cause.INTERNAL_ERROR)
PING = closes(1011, Cause.PING_TIMEOUT)
LOST = closes(1006, Cause.CONNECTION_LOST)
RESET = closes(1006, Cause.CONNECTION_RESET)
GONE = closes(1006, Cause.APP_DOWN)
AWAY = closes(1001, Cause.GOING_AWAY)
RESTART = closes(1012, Cause.SERVICE_RESTART)


@dataclass(frozen=True)
class Pod:
    """One scraped sidecar.

    :ivar counts: series -> events by minute; on top of TRAFFIC unless ``traffic`` is off.
    :ivar gauges: series -> value by minute.
    :ivar born: minute of its first scrape, where its counters are zero.
    :ivar gone: minute from which it is no longer discovered.
    :ivar drains: minute from which it says that it drains.
    :ivar mute: minutes in which it is discovered and does not answer.
    :ivar unseen: minutes in which Prometheus did not even ask.
    :ivar restarts: minutes in which its counters start again at zero.
    :ivar controller: the Deployment that it belongs to; empty for one named like the job.
    """

    name: str
    counts: Mapping[Key, Events] = field(default_factory=dict)
    gauges: Mapping[Key, Events] = field(default_factory=dict)
    born: int = 0
    gone: int = 10**9
    drains: int = 10**9
    drained: int = 10**9
    mute: frozenset[int] | range = frozenset()
    unseen: frozenset[int] | range = frozenset()
    restarts: frozenset[int] = frozenset()
    job: str = "chat"
    controller: str = ""
    kubernetes: bool = True
    sidecar: bool = True
    traffic: bool = True

    @property
    def pod(self) -> str:
        """The pod's name, as a ReplicaSet would give it."""
        random = zlib.crc32(self.name.encode())
        letters = "".join(RANDOM[random // len(RANDOM) ** place % len(RANDOM)] for place in range(5))
        return f"{self.controller or self.job}-7d4f8b9c6-{letters}"

    def lines(self, minutes: int) -> list[dict[str, str]]:
        """promtool's input series."""
        lines = [self._line("up", {}, minutes, lambda m: "0" if m in self.mute else "1", answers=False)]
        if self.sidecar:
            lines.append(self._line(catalogue.BUILD.name, {"version": "1.0"}, minutes, lambda m: "1"))
            draining: Callable[[int], str] = lambda m: "1" if self.drains <= m < self.drained else "0"  # noqa: E731
            lines.append(self._line(catalogue.DRAINING.name, {}, minutes, draining))
        counts = {**TRAFFIC, **self.counts} if self.traffic and self.sidecar else self.counts
        for (metric, suffix, labels), events in counts.items():
            sums = self._sums(events, minutes)
            lines.append(self._line(metric.name + suffix, dict(labels), minutes, lambda m, sums=sums: f"{sums[m]:g}"))
        for (metric, suffix, labels), value in self.gauges.items():
            lines.append(
                self._line(metric.name + suffix, dict(labels), minutes, lambda m, value=value: f"{value(m):g}")
            )
        return lines

    def _sums(self, events: Events, minutes: int) -> list[float]:
        total, sums = 0.0, []
        for minute in range(minutes + 1):
            if minute <= self.born or minute in self.restarts:
                total = 0.0
            if minute > self.born:
                total += events(minute)
            sums.append(total)
        return sums

    def _line(
        self, name: str, labels: dict[str, str], minutes: int, value: Callable[[int], str], answers: bool = True
    ) -> dict[str, str]:
        where = {"job": self.job, "instance": f"{self.name}:10011"}
        if self.kubernetes:
            where |= {"namespace": "prod", "pod": self.pod}
        values, seen = [], False
        for minute in range(minutes + 1):
            there = self.born <= minute < self.gone and minute not in self.unseen
            if there and not (answers and minute in self.mute):
                values.append(value(minute))
                seen = True
            elif seen and minute not in self.unseen:
                values.append("stale")  # a failed scrape, or a target that is discovered no more
                seen = False
            else:
                values.append("_")
        inside = ",".join(f"{key}={json.dumps(text)}" for key, text in {**where, **labels}.items())
        return {"series": f"{name}{{{inside}}}", "values": " ".join(values)}


@dataclass(frozen=True)
class Says:
    """One assertion: the result of an expression over ALERTS at a minute."""

    at: float
    expr: str
    samples: tuple[tuple[str, float], ...]


def _alerts(name: str, severity: str = "", job: str = ".+", **labels: str) -> str:
    """A selector; ``%s`` in it is where the case's own jobs begin."""
    chosen = {"alertstate": "firing", "alertname": name, "severity": severity, **labels}
    inside = [f"{key}=~{json.dumps(value)}" for key, value in chosen.items() if value]
    own = f'job=~"%s{job}"'
    return f"ALERTS{{{','.join([*inside, own])}}}"


def fires(name: str, by: float, severity: str = "", **labels: str) -> Says:
    """The alert is firing at that minute (label values are regular expressions)."""
    return Says(by, f"group({_alerts(name, severity, **labels)})", (("{}", 1),))


def silent(name: str, at: float, severity: str = "", **labels: str) -> Says:
    """The alert is not firing at that minute."""
    return Says(at, f"group({_alerts(name, severity, **labels)})", ())


def never(name: str = ".+", severity: str = "", until: int = 0) -> Says:
    """The alert has not fired at any time before the end, or before ``until``."""
    return Says(until or -1, f"group by (alertname) (count_over_time({_alerts(name, severity)}[30d]))", ())


@dataclass(frozen=True)
class Case:
    """A sentence, its world, and the assertions that make it true."""

    sentence: str
    pods: tuple[Pod, ...]
    says: tuple[Says, ...]
    minutes: int = 0
    config: Config = field(default_factory=Config)

    @property
    def length(self) -> int:
        """Minutes."""
        return self.minutes or max(int(say.at) for say in self.says) + 1


def case(sentence: str, pods: Pod | Iterable[Pod], *says: Says, minutes: int = 0, config: Config | None = None) -> Case:
    """Shorthand."""
    return Case(sentence, (pods,) if isinstance(pods, Pod) else tuple(pods), says, minutes, config or Config())


def run(cases: Sequence[Case], folder: Path) -> dict[str, str]:
    """Return promtool's failures by sentence; a case that passes is not in it.

    Evaluating the rules for hours takes time, so all cases that share a configuration live in one world: each
    has jobs of its own, and no alert looks beyond its job. promtool's files are left in ``folder``.
    """
    objections: dict[str, str] = {}
    for number, config in enumerate(dict.fromkeys(repr(one.config) for one in cases)):
        together = [one for one in cases if repr(one.config) == config]
        place = folder / str(number)
        place.mkdir()
        output = _promtool(together, place)
        for index, one in enumerate(together):
            about = [part for part in output.split("\n\n") if f"case{index}-" in part]
            if about:
                objections[one.sentence] = "\n\n".join(about).replace(f"case{index}-", "")
        if output and not objections:
            raise AssertionError(output)
    return objections


def _promtool(cases: Sequence[Case], folder: Path) -> str:
    config = cases[0].config
    (folder / "rules.yaml").write_text(prometheus(config)[RULES])
    lines = [
        line
        for index, one in enumerate(cases)
        for pod in one.pods
        for line in replace(pod, job=f"case{index}-{pod.job}").lines(one.length)
    ]
    says = [
        {
            "expr": say.expr % f"case{index}-",
            "eval_time": f"{round((one.length if say.at < 0 else say.at) * 60)}s",
            "exp_samples": [{"labels": labels, "value": value} for labels, value in say.samples],
        }
        for index, one in enumerate(cases)
        for say in one.says
    ]
    tests = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": f"{config.interval:g}s",
        "tests": [{"interval": "1m", "input_series": lines, "promql_expr_test": says}],
    }
    (folder / "test.yaml").write_text(json.dumps(tests, indent=1))  # JSON is YAML
    command = ["promtool", "test", "rules", "test.yaml"]
    thrifty = {**os.environ, "GOGC": "400"}  # collects garbage less often: a sixth of the time
    done = subprocess.run(command, cwd=folder, env=thrifty, capture_output=True, text=True, timeout=600, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr
