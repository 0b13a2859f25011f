"""What an installation may want different: selectors, thresholds, windows, severities. Read from YAML, strictly.

All durations are seconds. ``timescale`` divides every one of them that ends up in a rule, so that a test can live
through an hour's alert in a minute; counts and ratios stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from exporter.protocol.causes import NOT_ABNORMAL_CAUSES, ROUTINE_CAUSES, SERVER_FAULTS

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

RUNBOOKS = "https://github.com/websocket-exporter/websocket-exporter/blob/main/docs/runbooks/"

#: Causes of closes by the server that count against its objective.
FAULTS = SERVER_FAULTS
#: Causes that a rollout, a scale-down, a leaving browser or a setting of the sidecar explains.
EXPECTED = ROUTINE_CAUSES
#: Every other cause is abnormal: in the log, on the page, in reports and on the dashboards.
NOT_ABNORMAL = NOT_ABNORMAL_CAUSES

#: Causes that are compared with their normal together: TCP ended by an app that goes on accepting connections; an app
#: process that died under its sessions; the server's own goodbye.
DROPPED = ("connection-lost", "connection-reset", "dropped-on-message")
CRASHED = ("app-down", "app-restarted", "worker-lost")
LEAVING = ("going-away", "service-restart")


class ConfigError(ValueError):
    """A configuration that cannot be used; the text is one line for a person."""


@dataclass(frozen=True, slots=True)
class BurnWindow:
    """One row of the multi-window burn-rate table (the SRE workbook, chapter 5).

    :ivar factor: how many times faster than allowed the budget burns.
    :ivar long: seconds over which that must hold.
    :ivar short: seconds over which it must still hold, so that the alert ends soon after the errors do.
    :ivar least: faulty endings in the long window below which nobody is told.
    """

    factor: float
    long: float
    short: float
    least: int
    severity: str


BURN_WINDOWS = (
    BurnWindow(14.4, HOUR, 5 * MINUTE, 10, "critical"),
    BurnWindow(6, 6 * HOUR, 30 * MINUTE, 20, "critical"),
    BurnWindow(3, DAY, 2 * HOUR, 30, "warning"),
    BurnWindow(1, 3 * DAY, 6 * HOUR, 50, "warning"),
)

SEVERITIES = ("critical", "warning", "info")


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that the generator can be told. The defaults are what is committed."""

    job_selector: str = 'job=~".+"'
    """Label matchers that every selector carries."""
    objective: float = 0.999
    """Share of endings that the server must not have caused."""
    burn: tuple[BurnWindow, ...] = BURN_WINDOWS

    interval: float = 30
    """Between two evaluations of the rules. The burn rates' counts are made with it, so it is written into every group
    of rules and does not depend on Prometheus' evaluation_interval."""
    window: float = 10 * MINUTE
    """Over which endings are counted for the spike alerts."""
    settle: float = 2 * MINUTE
    """Endings count once they are this old and their pod is still there: a pod that stops takes its burst with it.
    Longer than a pod takes from its burst to its end, short enough to page within five minutes."""
    answered: float = 90
    """A pod is there if it answered a scrape within this time; less than ``settle``, more than a scrape interval."""
    drain_burst: float = 3 * MINUTE
    """A draining pod is forgiven its worst this long: one burst, as scrapes a minute apart see it, and not a wave."""
    normal: float = HOUR
    """The recent normal is the mean over this time, which ends where ``window`` begins."""
    hold: float = 8 * HOUR
    """A spike is compared with the normal from before it for this long; then it is the normal, and the burn rates'
    business."""
    unblemished: float = 3 * MINUTE
    """A service with no history yet has a normal of none if it was seen for this long without any such ending ..."""
    noticed: float = 5 * MINUTE
    """... before this time, within which a burst is paged."""
    deploy: float = 15 * MINUTE
    """A deploy counts as going on for this long after its last sign."""

    rate_window: float = 5 * MINUTE
    """Of the recorded rates that burn rates are made of."""

    least: int = 10
    """Endings within ``window`` below which no spike is called one."""
    above_normal: float = 1.5
    """A spike exceeds its normal this many times ..."""
    deviations: float = 5
    """... and by this many standard deviations of a count of that size (the square root of the normal)."""

    storm_window: float = 5 * MINUTE
    storm_factor: float = 3
    """Immediate returns, in multiples of the normal number of handshakes."""
    storm_least: int = 50
    """Handshakes, and endings before them, below which it is no storm."""
    immediate: float = 1
    """Seconds within which a client that comes back has not backed off; a bound of the reconnect histogram."""
    recognised: int = 10
    """Returning clients that must have been recognised before their delays say something."""

    handshake_failures: float = 0.1
    """Share of handshakes that the server's side failed (5xx)."""
    handshake_refusals: float = 0.5
    """Share of handshakes that were refused (4xx) or had no answer."""
    refusals_least: int = 20
    unobserved: float = 0.01
    """Share of connections that are forwarded without being understood."""
    cpu: float = 0.85
    """Of one core: the relay is one thread."""
    descriptors: float = 0.85
    """Of the limit on open files."""

    idle_window: float = HOUR
    idle_least: int = 20
    idle_share: float = 0.5
    """Share of all endings without a Close that must have come at one and the same idle time."""

    down_for: float = 5 * MINUTE
    memory: float = DAY
    """For how long a sidecar that answered once is known, and missed when it no longer does."""
    gone: float = HOUR
    """For how long a job is missed of which nothing is left."""
    stopped: float = 30 * MINUTE
    """A sidecar that was draining when last seen is not down for this long."""
    steady: float = 5 * MINUTE
    """``for`` of the alerts about a state rather than a burst."""
    keep_firing: float = 3 * MINUTE
    """A spike alert outlives a scrape gap of this length."""

    runbooks: str = RUNBOOKS
    severities: Mapping[str, str] = field(default_factory=dict)
    """Alert name -> severity, in place of the alert's own (all its rules but the warning variants)."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that every alert gets besides its own, such as a team."""
    resource_name: str = "websocket-exporter"
    resource_namespace: str = ""
    resource_labels: Mapping[str, str] = field(default_factory=lambda: {"app.kubernetes.io/name": "websocket-exporter"})
    """Labels of the PrometheusRule resource, by which an operator's ruleSelector finds it."""
    folder: str = "WebSocket"
    """Folder of the alerts in Grafana."""
    datasource: str = "prometheus"
    """Grafana's UID of the data source."""
    prometheus_url: str = "http://prometheus:9090"
    """Where Grafana finds Prometheus."""
    scrape_interval: str = "15s"
    """Prometheus' own, so that Grafana's $__rate_interval spans four scrapes."""
    trace_url: str = "http://localhost:16686/trace/"
    """Address of a trace in the tracing backend, less its id at the end; an exemplar's link. Jaeger's by default."""

    timescale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.objective < 1:
            raise ConfigError(f"objective: {self.objective} is not between 0 and 1")
        if self.timescale <= 0:
            raise ConfigError(f"timescale: {self.timescale} is not above 0")
        if self.answered > self.settle:
            raise ConfigError(f"answered: {self.answered:g} s is more than settle, {self.settle:g} s")
        for where, severity in (
            *self.severities.items(),
            *((f"burn {row.factor:g}", row.severity) for row in self.burn),
        ):
            if severity not in SEVERITIES:
                raise ConfigError(f"{where}: severity {severity} is none of {', '.join(SEVERITIES)}")

    @property
    def budget(self) -> float:
        """Share of endings that the server may cause."""
        return round(1 - self.objective, 10)

    def seconds(self, duration: float) -> float:
        """A duration as it goes into a rule."""
        return duration / self.timescale


def load(path: Path) -> Config:
    """Read a configuration. Raises ConfigError, with the file's name, for what it does not understand."""
    try:
        given = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    try:
        return from_mapping({} if given is None else given)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def from_mapping(given: object) -> Config:
    """A configuration from plain values; unknown keys and wrong types are errors."""
    values = _checked(given, _kinds(Config()), "")
    if "burn" in values:
        values["burn"] = tuple(_row(row, index) for index, row in enumerate(values["burn"]))
    return replace(Config(), **values)


def _row(given: object, index: int) -> BurnWindow:
    kinds = _kinds(BURN_WINDOWS[0])
    values = _checked(given, kinds, f"burn[{index}].")
    if missing := sorted(kinds.keys() - values.keys()):
        raise ConfigError(f"burn[{index}]: {', '.join(missing)} missing")
    return BurnWindow(**values)


def _kinds(example: Config | BurnWindow) -> dict[str, type]:
    """What kind of value each field takes, read off an example."""
    return {item.name: type(getattr(example, item.name)) for item in fields(example)}


def _checked(given: object, kinds: Mapping[str, type], where: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ConfigError(f"{where or 'the document'} must be a mapping")
    for key, value in given.items():
        if key not in kinds:
            raise ConfigError(f"{where}{key}: no such setting; there are {', '.join(sorted(kinds))}")
        _check(f"{where}{key}", value, kinds[key])
    return dict(given)


def _check(where: str, value: object, kind: type) -> None:
    fits = False
    match value:
        case bool():
            pass
        case int() | float():
            fits = kind is float or (kind is int and value == int(value))
            if value < 0:
                raise ConfigError(f"{where}: {value} is below 0")
        case str():
            fits = kind is str
        case list():
            fits = kind is tuple
        case dict():
            fits = kind is dict and all(isinstance(text, str) for pair in value.items() for text in pair)
    if not fits:
        names: dict[type, str] = {str: "text", tuple: "a list", dict: "a mapping of texts"}
        wanted = names.get(kind, "a number")
        raise ConfigError(f"{where}: {value!r} is not {wanted}")


__all__ = [
    "DAY", "EXPECTED", "FAULTS", "HOUR", "MINUTE", "NOT_ABNORMAL", "BurnWindow", "Config", "ConfigError",
    "from_mapping", "load",
]  # fmt: skip
