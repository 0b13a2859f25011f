"""Panels of the Fleet dashboard: the namespace, workload, pod, route or version with the trouble."""

from __future__ import annotations

from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from exporter.observe.catalogue import ACTIVE, BUILD, HANDSHAKES, UNOBSERVED
from exporter.protocol.enums import Cause
from grafana.source import panels
from grafana.source.colours import BLUE, RED
from grafana.source.config import FAULTS
from grafana.source.dashboard import Uid, address
from grafana.source.links import Runbook
from grafana.source.panels import COUNT, PER_MINUTE, SHARE, Column, Panel, Query, Words
from grafana.source.panels_traffic import ACCEPTED
from grafana.source.queries import (
    POD_LABEL,
    SIDECAR,
    Not,
    by,
    by_server,
    closed,
    expected,
    in_range,
    on,
    one_of,
    per_minute,
    rate,
    series,
    server_faults,
)

SERVICE = ("namespace", "job")
WORST = 10

_NAMESPACE, _JOB = "${__data.fields.namespace}", "${__data.fields.job}"
_SERVICE_LINK = {
    "title": "Close codes of this workload",
    "url": address(Uid.CLOSE_CODES, namespace=_NAMESPACE, job=_JOB, route="$__all"),
}
_POD_LINK = {
    "title": "This pod",
    "url": address(Uid.ONE_POD, "route", namespace=_NAMESPACE, job=_JOB, instance="${__data.fields.instance}"),
}

#: Faults other than an internal error: sessions that end without a word of the app.
_DROPS = tuple(cause for cause in FAULTS if cause != Cause.INTERNAL_ERROR)


def _cells(expression: str) -> Query:
    """Return a column of a table."""
    return Query(expression, instant=True, format=PromQueryFormat.TABLE)


def faults_by_service() -> Panel:
    """Build the apps' faults by workload."""
    return panels.time_series(
        Words(
            "Server faults by workload",
            "Closes that are the app's fault, by namespace and workload: internal errors, dropped sessions, lost "
            "workers, an app that is down.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        PER_MINUTE,
        Query(per_minute(SERVICE, server_faults()), "{{namespace}}/{{job}}", exemplars=True),
    )


def going_away_by_service() -> Panel:
    """Build expected closes by workload."""
    return panels.time_series(
        Words(
            "Going away by workload",
            "Closes with an ordinary reason, by namespace and workload: rollouts, restarts, drains, leaving browsers.",
            Runbook.UNEXPECTED_GOING_AWAY,
        ),
        PER_MINUTE,
        Query(per_minute(SERVICE, expected()), "{{namespace}}/{{job}}", exemplars=True),
    )


def by_namespace() -> Panel:
    """Build open sessions by namespace."""
    return panels.time_series(
        Words("Active sessions by namespace", "WebSocket connections that are open.", Runbook.RECONNECT_STORM),
        COUNT,
        Query(by(("namespace",), series(ACTIVE)), "{{namespace}}"),
        stacked=True,
        calcs=("lastNotNull", "max"),
    )


def by_version() -> Panel:
    """Build the apps' faults by the sidecar's version."""
    version = f"{rate(server_faults())} * {on(SIDECAR)} group_left (version) {series(BUILD)}"
    return panels.time_series(
        Words(
            "Server faults by sidecar version",
            "The same faults by the version of the sidecar that counted them: a difference points at the sidecar, "
            "none at the app.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        PER_MINUTE,
        Query(f"60 * {by(('version',), version)}", "{{version}}"),
    )


def versions() -> Panel:
    """Build the number of sidecars by version."""
    return panels.time_series(
        Words("Sidecars by version", "Number of sidecars that run each version.", Runbook.SIDECAR_DOWN),
        COUNT,
        Query(f"count by (version) ({series(BUILD)})", "{{version}}"),
        stacked=True,
        calcs=("lastNotNull",),
    )


def workloads() -> Panel:
    """Build a table with one row per workload."""
    every = in_range(SERVICE, closed())
    return panels.rows(
        Words(
            "Workloads",
            "One row per namespace and workload: sessions open now, and closes in the time range. The share is that "
            "of server faults among all closes. A click on a workload opens its close codes.",
            Runbook.ERROR_BUDGET_BURN,
        ),
        [
            Column("namespace", "Namespace"),
            Column("job", "Workload", links=(_SERVICE_LINK,)),
            Column("Value #A", "Server faults", COUNT, bar=RED),
            Column("Value #B", "Going away", COUNT, bar=BLUE),
            Column("Value #C", "Internal errors", COUNT),
            Column("Value #D", "Dropped or lost", COUNT),
            Column("Value #E", "Share of faults", SHARE),
            Column("Value #F", "Closes", COUNT),
            Column("Value #G", "Active", COUNT),
        ],
        _cells(in_range(SERVICE, server_faults())),
        _cells(in_range(SERVICE, expected())),
        _cells(in_range(SERVICE, by_server(cause=Cause.INTERNAL_ERROR))),
        _cells(in_range(SERVICE, by_server(cause=one_of(_DROPS)))),
        _cells(f"{in_range(SERVICE, server_faults())} / ({every} > 0)"),
        _cells(every),
        _cells(by(SERVICE, series(ACTIVE))),
        sort="Server faults",
    )


def worst_pods() -> Panel:
    """Build a table of the pods with the most faults."""
    return _worst(
        "Pods with the most server faults",
        "Pods with the most server faults in the time range. One pod far above the others is a bad node or a canary; "
        "all alike is the code. A click opens the pod.",
        (*SERVICE, POD_LABEL, "instance"),
        [
            Column("namespace", "Namespace"),
            Column("job", "Workload"),
            Column(POD_LABEL, "Pod", links=(_POD_LINK,)),
            Column("instance", "Instance", links=(_POD_LINK,)),
        ],
    )


def worst_routes() -> Panel:
    """Build a table of the routes with the most faults."""
    return _worst(
        "Routes with the most server faults",
        "Routes with the most server faults in the time range.",
        (*SERVICE, "route"),
        [Column("namespace", "Namespace"), Column("job", "Workload", links=(_SERVICE_LINK,)), Column("route", "Route")],
    )


def _worst(title: str, description: str, labels: tuple[str, ...], columns: list[Column]) -> Panel:
    return panels.rows(
        Words(title, description, Runbook.INTERNAL_ERROR_SPIKE),
        [*columns, Column("Value", "Server faults", COUNT, bar=RED)],
        _cells(f"topk({WORST}, {in_range(labels, server_faults())} > 0)"),
        sort="Server faults",
    )


def failing_handshakes() -> Panel:
    """Build handshakes that were not accepted, by workload."""
    return panels.time_series(
        Words(
            "Handshakes not accepted by workload",
            "Handshakes with an answer other than 101, or none.",
            Runbook.HANDSHAKE_FAILURES,
        ),
        PER_MINUTE,
        Query(per_minute(SERVICE, series(HANDSHAKES, status=Not((ACCEPTED,)))), "{{namespace}}/{{job}}"),
    )


def unobserved_by_service() -> Panel:
    """Build unobserved connections by workload."""
    return panels.time_series(
        Words(
            "Unobserved connections by workload",
            "Connections that are forwarded but not parsed: their closes are missing above.",
            Runbook.UNOBSERVED_TRAFFIC,
        ),
        PER_MINUTE,
        Query(per_minute(SERVICE, series(UNOBSERVED)), "{{namespace}}/{{job}}"),
    )
