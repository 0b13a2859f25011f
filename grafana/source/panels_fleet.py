"""The panels of the Fleet dashboard: where, among many services and pods, the trouble is."""

from __future__ import annotations

from exporter.observe.catalogue import ACTIVE, BUILD, HANDSHAKES, UNOBSERVED
from exporter.protocol.enums import Cause
from grafana.source import panels
from grafana.source.colours import BLUE, GREEN, ORANGE, RED, SLATE
from grafana.source.config import FAULTS
from grafana.source.dashboard import Uid, address
from grafana.source.links import Runbook
from grafana.source.panels import COUNT, PER_MINUTE, SHARE, Column, Json, Query, Words
from grafana.source.panels_traffic import ACCEPTED
from grafana.source.queries import (
    DROPPED,
    POD_LABEL,
    SIDECAR,
    Not,
    by,
    by_server,
    closed,
    deployed,
    in_range,
    on,
    one_of,
    per_minute,
    rate,
    series,
)

SERVICE = ("namespace", "job")
WORST = 10

_SERVICE_LINK = {
    "title": "Close codes of this workload",
    "url": address(
        Uid.CLOSE_CODES, namespace="${__data.fields.namespace}", workload="${__data.fields.job}", route="$__all"
    ),
}
_POD_LINK = {
    "title": "This pod",
    "url": address(
        Uid.ONE_POD,
        "route",
        namespace="${__data.fields.namespace}",
        workload="${__data.fields.job}",
        instance="${__data.fields.instance}",
    ),
}


def _cells(expression: str) -> Query:
    """A column of a table."""
    return Query(expression, instant=True, format="table")


def pods() -> Json:
    """How many answer, how many drain."""
    return panels.stat(
        Words("Sidecars", "Sidecars that Prometheus scrapes now.", Runbook.SIDECAR_DOWN),
        COUNT,
        Query(f"count({series(BUILD)})", "sidecars"),
        thresholds=panels.steps((None, SLATE)),
    )


def faults_by_service() -> Json:
    """The server's faults."""
    return panels.timeseries(
        Words(
            "The server's faults by workload",
            "Endings that the server began with an internal error, by dropping the connection, or by going down, by "
            "namespace and workload.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        PER_MINUTE,
        Query(per_minute(SERVICE, by_server(cause=one_of(FAULTS))), "{{namespace}}/{{job}}", exemplars=True),
    )


def weather_by_service() -> Json:
    """Deploys."""
    return panels.timeseries(
        Words(
            "Going away by workload",
            "Endings by 1001, 1012 or a drain that the server or the sidecar began, by namespace and workload: "
            "deploys.",
            Runbook.UNEXPECTED_GOING_AWAY,
        ),
        PER_MINUTE,
        Query(per_minute(SERVICE, deployed()), "{{namespace}}/{{job}}", exemplars=True),
    )


def by_namespace() -> Json:
    """Sessions."""
    return panels.timeseries(
        Words("Active sessions by namespace", "WebSocket connections that are open.", Runbook.RECONNECT_STORM),
        COUNT,
        Query(by(("namespace",), series(ACTIVE)), "{{namespace}}"),
        stacked=True,
        calcs=("lastNotNull", "max"),
    )


def by_version() -> Json:
    """Faults a pod of each version."""
    version = f"{rate(by_server(cause=one_of(FAULTS)))} * {on(SIDECAR)} group_left (version) {series(BUILD)}"
    return panels.timeseries(
        Words(
            "The server's faults by sidecar version",
            "The same faults by the version of the sidecar that saw them: a difference points at the sidecar, "
            "none at the app.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        PER_MINUTE,
        Query(f"60 * {by(('version',), version)}", "{{version}}"),
    )


def versions() -> Json:
    """A rollout of the sidecar."""
    return panels.timeseries(
        Words(
            "Sidecars by version", "How many sidecars run each version: a rollout of the sidecar.", Runbook.SIDECAR_DOWN
        ),
        COUNT,
        Query(f"count by (version) ({series(BUILD)})", "{{version}}"),
        stacked=True,
        calcs=("lastNotNull",),
    )


def workloads() -> Json:
    """One row a workload."""
    fault, every = by_server(cause=one_of(FAULTS)), closed()
    return panels.table(
        Words(
            "Workloads",
            "One row for each namespace and workload: sessions open now, and endings in the time shown. The share"
            " is that of the server's faults in all endings. A click on a workload opens its close codes.",
            Runbook.ERROR_BUDGET_BURN,
        ),
        COUNT,
        [
            Column("namespace", "Namespace"),
            Column("job", "Workload", links=(_SERVICE_LINK,)),
            Column("Value #A", "Active", COUNT),
            Column("Value #B", "Endings", COUNT),
            Column("Value #C", "Going away", COUNT, bar=BLUE),
            Column("Value #D", "Internal errors", COUNT, bar=RED),
            Column("Value #E", "Dropped", COUNT, bar=ORANGE),
            Column("Value #F", "Share of faults", SHARE),
        ],
        _cells(by(SERVICE, series(ACTIVE))),
        _cells(in_range(SERVICE, every)),
        _cells(in_range(SERVICE, deployed())),
        _cells(in_range(SERVICE, by_server(cause=Cause.INTERNAL_ERROR))),
        _cells(in_range(SERVICE, by_server(cause=one_of(DROPPED)))),
        _cells(f"{in_range(SERVICE, fault)} / ({in_range(SERVICE, every)} > 0)"),
        sort="Internal errors",
    )


def worst_pods() -> Json:
    """The worst ten."""
    labels = (*SERVICE, POD_LABEL, "instance")
    return _worst(
        "The worst ten pods",
        "Pods whose server began most endings by a fault in the time shown. One pod far above the others is a bad"
        " node or a canary; all alike is the code. A click opens the pod.",
        labels,
        [
            Column("namespace", "Namespace"),
            Column("job", "Workload"),
            Column(POD_LABEL, "Pod", links=(_POD_LINK,)),
            Column("instance", "Instance", links=(_POD_LINK,)),
        ],
    )


def worst_routes() -> Json:
    """The worst ten."""
    return _worst(
        "The worst ten routes",
        "Routes whose server began most endings by a fault in the time shown.",
        (*SERVICE, "route"),
        [Column("namespace", "Namespace"), Column("job", "Workload", links=(_SERVICE_LINK,)), Column("route", "Route")],
    )


def _worst(title: str, description: str, labels: tuple[str, ...], columns: list[Column]) -> Json:
    expression = f"topk({WORST}, {in_range(labels, by_server(cause=one_of(FAULTS)))} > 0)"
    return panels.table(
        Words(title, description, Runbook.INTERNAL_ERROR_SPIKE),
        COUNT,
        [*columns, Column("Value", "Faults", COUNT, bar=RED)],
        _cells(expression),
        sort="Faults",
    )


def failing_handshakes() -> Json:
    """By workload."""
    return panels.timeseries(
        Words("Failed handshakes by workload", "Upgrades that were not answered with 101.", Runbook.HANDSHAKE_FAILURES),
        PER_MINUTE,
        Query(per_minute(SERVICE, series(HANDSHAKES, status=Not((ACCEPTED,)))), "{{namespace}}/{{job}}"),
    )


def unobserved_by_service() -> Json:
    """By workload."""
    return panels.timeseries(
        Words(
            "Unobserved connections by workload",
            "Connections that are forwarded and no longer understood: their endings are missing above.",
            Runbook.UNOBSERVED_TRAFFIC,
        ),
        PER_MINUTE,
        Query(per_minute(SERVICE, series(UNOBSERVED)), "{{namespace}}/{{job}}"),
    )


def targets_down() -> Json:
    """Known targets that do not answer."""
    return panels.stat(
        Words(
            "Sidecars down",
            "Targets that Prometheus knows of these workloads and that did not answer its last scrape.",
            Runbook.SIDECAR_DOWN,
        ),
        COUNT,
        Query('count(up{namespace=~"$namespace", job=~"$workload", instance=~"$instance"} == 0) or vector(0)', "down"),
        thresholds=panels.steps((None, GREEN), (1, RED)),
    )
