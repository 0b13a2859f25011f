"""The three dashboards: which panel stands where.

Close codes answers in five seconds whether sockets close because of a deploy, of leaving browsers, or of a bug: weather
on the left, faults on the right, the counts below, and only then the details.
"""

from __future__ import annotations

import json

from grafana.source import endings, fleet, traffic
from grafana.source.config import Config
from grafana.source.frame import Dashboard, Uid
from grafana.source.panels import Json


def close_codes() -> Dashboard:
    """Why connections end, for one service or many."""
    return Dashboard(
        Uid.CLOSE_CODES,
        "WebSocket close codes",
        "Going away against internal error: whether sockets close because of a deploy, of leaving browsers, or of"
        " a bug.",
        (
            (9, ((12, endings.going_away()), (12, endings.internal_error()))),
            (4, tuple((4, panel) for panel in (*endings.totals(), traffic.active_now(), traffic.handshake_total()))),
            (9, ((8, endings.by_code()), (8, endings.by_cause()), (8, endings.by_initiator()))),
            (9, ((8, endings.dropped()), (8, endings.abnormal_share()), (8, traffic.active()))),
            (9, ((12, endings.lifetimes()), (12, endings.table_of_endings()))),
            (9, ((8, endings.reconnects()), (8, traffic.handshakes()), (8, traffic.handshake_failures()))),
            (10, ((8, endings.idle_before_drop()), (8, traffic.ping_rtt()), (8, endings.incomplete()))),
            (8, ((12, traffic.frames()), (12, traffic.payload()))),
            (16, ((24, endings.what_to_do()),)),
        ),
    )


def one_pod() -> Dashboard:
    """The same of one instance, with its sidecar."""
    first = (traffic.draining_now(), traffic.started(), traffic.version())
    return Dashboard(
        Uid.ONE_POD,
        "WebSocket: one pod",
        "Why connections of one pod end, and how its sidecar is.",
        (
            (9, ((12, endings.going_away()), (12, endings.internal_error()))),
            (4, tuple((4, panel) for panel in (*endings.totals()[1:], *first))),
            (9, ((8, endings.by_code()), (8, endings.by_cause()), (8, endings.by_initiator()))),
            (9, ((8, endings.dropped()), (8, endings.abnormal_share()), (8, traffic.active()))),
            (8, ((6, traffic.cpu()), (6, traffic.memory()), (6, traffic.descriptors()), (6, traffic.drain()))),
            (8, ((8, traffic.unobserved()), (8, traffic.connect_errors()), (8, traffic.handshake_failures()))),
            (9, ((12, endings.lifetimes()), (12, endings.table_of_endings()))),
            (10, ((8, endings.idle_before_drop()), (8, traffic.ping_rtt()), (8, endings.reconnects()))),
            (8, ((8, traffic.handshake_duration()), (8, traffic.frames()), (8, traffic.payload()))),
            (16, ((24, endings.what_to_do()),)),
        ),
    )


def the_fleet() -> Dashboard:
    """All services."""
    numbers = (fleet.pods(), fleet.targets_down(), *endings.totals()[:3], traffic.active_now())
    return Dashboard(
        Uid.FLEET,
        "WebSocket fleet",
        "Which namespace, workload, pod or version has the trouble.",
        (
            (9, ((12, fleet.weather_by_service()), (12, fleet.faults_by_service()))),
            (4, tuple((4, panel) for panel in numbers)),
            (9, ((24, fleet.workloads()),)),
            (10, ((14, fleet.worst_pods()), (10, fleet.worst_routes()))),
            (8, ((8, fleet.by_namespace()), (8, fleet.by_version()), (8, fleet.versions()))),
            (8, ((12, fleet.failing_handshakes()), (12, fleet.unobserved_by_service()))),
        ),
    )


DASHBOARDS = (close_codes, one_pod, the_fleet)


def files(config: Config) -> dict[str, str]:
    """A file each: path below the repository -> text."""
    made = [make() for make in DASHBOARDS]
    return {f"grafana/dashboards/{dashboard.uid}.json": _text(dashboard.json(config)) for dashboard in made}


def _text(value: Json) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
