"""Settings of an installation: selectors, thresholds, windows, severities. Read from YAML, strictly.

All durations are seconds. ``timescale`` divides every one of them that ends up in a rule, so that a test can live
through an hour's alert in a minute; counts and percentages stay as they are.
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

#: Ages at which load balancers and platforms end sessions, and which of them do (by default or at most).
KNOWN_AGES: Mapping[float, str] = {
    30: "a GCP or GKE load balancer (backend service timeout of 30 s)",
    60: "a request timeout of a proxy or of the app's server",
    100: "a request timeout of a proxy or of the app's server",
    300: "Cloud Run (request timeout of 5 min) or a proxy's request timeout",
    600: "a request timeout of a proxy or of the app's server",
    3600: "Cloud Run or App Engine (at most one hour), or a token that expires after an hour",
    7200: "AWS API Gateway (at most two hours)",
}

RUNBOOKS = "https://github.com/websocket-exporter/websocket-exporter/blob/main/docs/runbooks/"

#: Causes of closes by the server that count against its objective.
FAULTS = SERVER_FAULTS
#: Causes that a rollout, a scale-down, a leaving browser or a setting of the sidecar explains.
EXPECTED = ROUTINE_CAUSES
#: Every other cause is abnormal: in the log, on the page, in reports and on the dashboards.
NOT_ABNORMAL = NOT_ABNORMAL_CAUSES

#: Causes that are compared with their normal together: TCP ended by an app that goes on accepting connections; an app
#: process that died under its sessions; closes by 1001 or 1012 of the server
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
    :ivar least: faults in the long window below which there is no alert.
    """

    factor: float
    long: float
    short: float
    least: int
    severity: str


BURN_WINDOWS = (
    BurnWindow(14.4, HOUR, 5 * MINUTE, 10, "critical"),
    BurnWindow(6, 6 * HOUR, 30 * MINUTE, 20, "critical"),
    BurnWindow(1, 3 * DAY, 6 * HOUR, 50, "warning"),
)

SEVERITIES = ("critical", "warning", "info")


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting of the generator. The committed files are made with the defaults."""

    job_selector: str = 'job=~".+"'
    """Label matchers in every selector."""
    objective: float = 99.9
    """Percentage of closes that the server must not have caused."""
    burn: tuple[BurnWindow, ...] = BURN_WINDOWS
    disabled: tuple[str, ...] = ()
    """Names of alerts to leave out."""

    interval: float = 30
    """Between two evaluations. The error budget's counts are sums times the interval, so every group names it."""
    slow_interval: float = 2 * MINUTE
    """Between two evaluations of medians over hours, and of alerts that look back an hour or more."""
    window: float = 10 * MINUTE
    """Over which closes are counted for the spike alerts."""
    short_window: float = 5 * MINUTE
    """A rise over a large normal stands out in this window first."""
    settle: float = 2 * MINUTE
    """Closes count at this age, if their pod still answers: a pod that stops takes its burst with it. Longer than a
    pod takes from its burst to its end, short enough to page within five minutes."""
    drain_burst: float = 3 * MINUTE
    """A draining pod is forgiven its worst this long: one burst, as scrapes a minute apart see it."""
    usual: float = 12 * HOUR
    """The normal is the median of this time; a spike is held for half of it."""
    smooth: float = HOUR
    """The share of a class is taken over this time: over ten minutes the share of a rare close is mostly none, and so
    would be its median."""
    samples: int = 20
    """Values of the past below which there is no normal."""
    deploy: float = 15 * MINUTE
    """A rollout counts as in progress for this long after its last sign."""
    rate_window: float = 5 * MINUTE
    """Of the recorded rates that the error budget sums."""

    least: int = 10
    """Closes within ``window`` below which there is no spike."""
    deviations: float = 5.5
    """A spike exceeds its normal by this many standard deviations of a count: the square root of the normal and
    ``slack``, by chance, and ``drift``, added as variances."""
    drift: float = 7
    """Percentage of the normal by which it wanders; of a large normal, where chance is small."""
    slack: float = 3
    """Closes that a normal of none is taken for in that square root."""
    short_least: int = 20
    """The same within ``short_window`` ..."""
    confirming_deviations: float = 3.5
    """... where fewer scrapes make a count less exact, so the long window must agree by this much."""
    ping_timeouts: float = 10
    """Percentage of all closes below which ping timeouts are a network's usual trouble."""

    crashed_pods: float = 20
    """Percentage of pods (at least two) whose app died within ``window`` that pages."""
    crash_recent: float = 2 * MINUTE
    """An app that died within this time, and before it, died twice."""

    quiet_window: float = 6 * HOUR
    """A service with few closes is judged over this time."""
    quiet_least: int = 5
    """Faults within it below which there is no alert."""
    quiet_share: float = 30
    """Percentage of closes within it that were faults."""

    storm_window: float = 5 * MINUTE
    storm_normal: float = HOUR
    """Normal handshakes and closes are the mean of this time."""
    storm_factor: float = 3
    """Immediate returns, in multiples of the normal number of handshakes."""
    storm_least: int = 50
    """Handshakes, and closes before them, below which there is no storm."""
    storm_sessions: float = 1.5
    """Open sessions, in multiples of their normal: with more, the clients are visitors and do not return."""
    immediate: float = 1
    """Seconds within which a client that returns has not backed off; a bound of the reconnect histogram."""
    recognised: float = 10
    """Percentage of handshakes that must come from recognised clients (at least ten) for their delays to count."""

    handshake_failures: float = 10
    """Percentage of handshakes that failed on the server's side (5xx)."""
    handshake_refusals: float = 50
    """Percentage of handshakes that were refused (4xx) or got no answer."""
    refusals_least: int = 20
    unobserved: float = 1
    """Percentage of connections that the sidecar forwards without analysing them."""
    cpu: float = 85
    """Percentage of a core for each relay of a sidecar, which has one thread."""
    descriptors: float = 85
    """Percentage of the limit on open files."""

    cutoff_window: float = HOUR
    cutoff_least: int = 20
    """Closes at one idle time or age within that time below which there is no cut-off."""
    cutoff_share: float = 50
    """Percentage of the closes without a Close frame that one idle time must explain; of the sessions that reached an
    age, those that ended at it."""
    cutoff_density: float = 3
    """Closes per second of age at a cut-off, in multiples of those just before it."""

    down_for: float = 8 * MINUTE
    """Longer than a node that vanished stays in service discovery."""
    memory: float = DAY
    """For how long a sidecar that answered once is missed while it is discovered and does not answer."""
    gone: float = HOUR
    """For how long a job is missed of which nothing is left."""
    stopped: float = 30 * MINUTE
    """A sidecar that was draining when last seen is not down for this long."""
    restarts: int = 3
    """Starts of one sidecar within ``window`` (and the first) that make a loop."""
    steady: float = 5 * MINUTE
    """``for`` of the alerts about a state rather than a burst."""
    keep_firing: float = 3 * MINUTE
    """A spike alert outlives a scrape gap of this length."""
    keep_ticket: float = 3 * HOUR
    """A warning of the error budget outlives a quiet stretch of this length, rather than come again after it."""

    runbooks: str = RUNBOOKS
    """Address of the runbooks' folder."""
    grafana_url: str = "http://localhost:3000"
    """Grafana's address, for links to the dashboards."""
    severities: Mapping[str, str] = field(default_factory=dict)
    """Alert name -> severity. Lesser degrees of an alert keep theirs; the error budget's are in ``burn``."""
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
        if not 0 < self.objective < 100:
            raise ConfigError(f"objective: {self.objective:g} is not between 0 and 100")
        if self.timescale <= 0:
            raise ConfigError(f"timescale: {self.timescale:g} is not above 0")
        for where, severity in (
            *self.severities.items(),
            *((f"burn {row.factor:g}", row.severity) for row in self.burn),
        ):
            if severity not in SEVERITIES:
                raise ConfigError(f"{where}: severity {severity} is none of {', '.join(SEVERITIES)}")

    @property
    def budget(self) -> float:
        """Share of closes that the server may cause."""
        return round(1 - self.objective / 100, 10)

    def seconds(self, duration: float) -> float:
        """Return a duration as it goes into a rule."""
        return duration / self.timescale


def load(path: Path) -> Config:
    """Read settings from a YAML file. ConfigError with the file's name for unknown keys and wrong types."""
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


def from_mapping(given: object, base: Config | None = None) -> Config:
    """Return ``base`` with plain values in it; ConfigError for unknown keys and wrong types."""
    values = _checked(given, _kinds(Config()), "")
    if "burn" in values:
        values["burn"] = tuple(_row(row, index) for index, row in enumerate(values["burn"]))
    if "disabled" in values:
        values["disabled"] = tuple(map(str, values["disabled"]))
    return replace(base or Config(), **values)


def _row(given: object, index: int) -> BurnWindow:
    kinds = _kinds(BURN_WINDOWS[0])
    values = _checked(given, kinds, f"burn[{index}].")
    if missing := sorted(kinds.keys() - values.keys()):
        raise ConfigError(f"burn[{index}]: {', '.join(missing)} missing")
    return BurnWindow(**values)


def _kinds(example: Config | BurnWindow) -> dict[str, type]:
    """Return the type of each field, from an example."""
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
    "CRASHED", "DAY", "DROPPED", "EXPECTED", "FAULTS", "HOUR", "KNOWN_AGES", "LEAVING", "MINUTE", "NOT_ABNORMAL",
    "BurnWindow", "Config", "ConfigError", "from_mapping", "load",
]  # fmt: skip
