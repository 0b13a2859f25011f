"""The three dashboards: which panel stands where.

Close codes answers in five seconds whether sockets close because of a deploy, of leaving browsers, or of a bug: weather
on the left, faults on the right, the counts below, and only then the details.
"""

from __future__ import annotations

import json

from grafana.source import panels_closes, panels_fleet, panels_traffic
from grafana.source.config import Config
from grafana.source.dashboard import Dashboard, Uid
from grafana.source.panels import Json


def close_codes() -> Dashboard:
    """Why connections end, for one service or many."""
    return Dashboard(
        Uid.CLOSE_CODES,
        "WebSocket close codes",
        "Going away against internal error: whether sockets close because of a deploy, of leaving browsers, or of"
        " a bug.",
        (
            (9, ((12, panels_closes.going_away()), (12, panels_closes.internal_error()))),
            (
                4,
                tuple(
                    (4, panel)
                    for panel in (
                        *panels_closes.totals(),
                        panels_traffic.active_now(),
                        panels_traffic.handshake_total(),
                    )
                ),
            ),
            (9, ((8, panels_closes.by_code()), (8, panels_closes.by_cause()), (8, panels_closes.by_initiator()))),
            (9, ((8, panels_closes.dropped()), (8, panels_closes.abnormal_share()), (8, panels_traffic.active()))),
            (9, ((12, panels_closes.lifetimes()), (12, panels_closes.table_of_endings()))),
            (
                9,
                (
                    (8, panels_closes.reconnects()),
                    (8, panels_traffic.handshakes()),
                    (8, panels_traffic.handshake_failures()),
                ),
            ),
            (
                10,
                (
                    (8, panels_closes.idle_before_drop()),
                    (8, panels_traffic.ping_rtt()),
                    (8, panels_closes.incomplete()),
                ),
            ),
            (8, ((12, panels_traffic.frames()), (12, panels_traffic.payload()))),
            (16, ((24, panels_closes.what_to_do()),)),
        ),
    )


def one_pod() -> Dashboard:
    """The same of one instance, with its sidecar."""
    first = (panels_traffic.draining_now(), panels_traffic.started(), panels_traffic.version())
    return Dashboard(
        Uid.ONE_POD,
        "WebSocket: one pod",
        "Why connections of one pod end, and how its sidecar is.",
        (
            (9, ((12, panels_closes.going_away()), (12, panels_closes.internal_error()))),
            (4, tuple((4, panel) for panel in (*panels_closes.totals()[1:], *first))),
            (9, ((8, panels_closes.by_code()), (8, panels_closes.by_cause()), (8, panels_closes.by_initiator()))),
            (9, ((8, panels_closes.dropped()), (8, panels_closes.abnormal_share()), (8, panels_traffic.active()))),
            (
                8,
                (
                    (6, panels_traffic.cpu()),
                    (6, panels_traffic.memory()),
                    (6, panels_traffic.descriptors()),
                    (6, panels_traffic.drain()),
                ),
            ),
            (
                8,
                (
                    (8, panels_traffic.unobserved()),
                    (8, panels_traffic.connect_errors()),
                    (8, panels_traffic.handshake_failures()),
                ),
            ),
            (9, ((12, panels_closes.lifetimes()), (12, panels_closes.table_of_endings()))),
            (
                10,
                (
                    (8, panels_closes.idle_before_drop()),
                    (8, panels_traffic.ping_rtt()),
                    (8, panels_closes.reconnects()),
                ),
            ),
            (
                8,
                ((8, panels_traffic.handshake_duration()), (8, panels_traffic.frames()), (8, panels_traffic.payload())),
            ),
            (16, ((24, panels_closes.what_to_do()),)),
        ),
    )


def the_fleet() -> Dashboard:
    """All services."""
    numbers = (
        panels_fleet.pods(),
        panels_fleet.targets_down(),
        *panels_closes.totals()[:3],
        panels_traffic.active_now(),
    )
    return Dashboard(
        Uid.FLEET,
        "WebSocket fleet",
        "Which namespace, workload, pod or version has the trouble.",
        (
            (9, ((12, panels_fleet.weather_by_service()), (12, panels_fleet.faults_by_service()))),
            (4, tuple((4, panel) for panel in numbers)),
            (9, ((24, panels_fleet.workloads()),)),
            (10, ((14, panels_fleet.worst_pods()), (10, panels_fleet.worst_routes()))),
            (8, ((8, panels_fleet.by_namespace()), (8, panels_fleet.by_version()), (8, panels_fleet.versions()))),
            (8, ((12, panels_fleet.failing_handshakes()), (12, panels_fleet.unobserved_by_service()))),
        ),
    )


DASHBOARDS = (close_codes, one_pod, the_fleet)


def files(config: Config) -> dict[str, str]:
    """A file each: path below the repository -> text."""
    made = [make() for make in DASHBOARDS]
    return {f"grafana/dashboards/{dashboard.uid}.json": _text(dashboard.json(config)) for dashboard in made}


def _text(value: Json) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
