"""The three dashboards: their rows, and the place of each panel.

Server faults come first, beside Going away: they say within seconds whether sessions end because of a bug, or because
of a rollout and leaving browsers.
"""

from __future__ import annotations

from exporter.protocol.enums import Peer
from grafana.source import panels_closes as closes
from grafana.source import panels_fleet as fleet
from grafana.source import panels_sidecar as sidecar
from grafana.source import panels_traffic as traffic
from grafana.source.config import Config
from grafana.source.dashboard import Dashboard, Line, Row, Uid


def close_codes(config: Config) -> Dashboard:
    """Return the dashboard of one service or many."""
    return Dashboard(
        Uid.CLOSE_CODES,
        "WebSocket close codes",
        "Why WebSocket sessions end: faults of the app, or rollouts and leaving browsers.",
        (
            _overview(config),
            _causes(config, (9, ((24, closes.against_normal(config)),))),
            _handshakes(config),
            _traffic(),
            _diagnosis(),
            _sidecar(config, collapsed=True),
        ),
    )


def one_pod(config: Config) -> Dashboard:
    """Return the dashboard of one instance, with its sidecar."""
    state = (sidecar.draining_now(), sidecar.started(), sidecar.version())
    return Dashboard(
        Uid.ONE_POD,
        "WebSocket: one pod",
        "Why WebSocket sessions of one pod end, and the state of its sidecar.",
        (
            _overview(config, (4, tuple((8, panel) for panel in state))),
            _causes(config),
            _sidecar(config, collapsed=False),
            _handshakes(config),
            _traffic(),
            _diagnosis(),
        ),
    )


def the_fleet(config: Config) -> Dashboard:
    """Return the dashboard of all services."""
    numbers = (
        closes.faults_total(),
        closes.going_away_total(),
        closes.fault_share(config),
        traffic.active_now(),
        sidecar.up_now(),
        sidecar.down_now(),
    )
    return Dashboard(
        Uid.FLEET,
        "WebSocket fleet",
        "The namespace, workload, pod, route or version with the trouble.",
        (
            Row(
                "Overview",
                (
                    (4, tuple((4, panel) for panel in numbers)),
                    (9, ((12, fleet.faults_by_service()), (12, fleet.going_away_by_service()))),
                    (9, ((24, fleet.workloads()),)),
                ),
            ),
            Row("Causes", ((10, ((14, fleet.worst_pods()), (10, fleet.worst_routes()))),)),
            Row("Handshakes", ((8, ((12, fleet.failing_handshakes()), (12, fleet.unobserved_by_service()))),)),
            Row("Traffic", ((8, ((24, fleet.by_namespace()),)),)),
            Row("Sidecar", ((8, ((12, fleet.by_version()), (12, fleet.versions()))),)),
        ),
    )


def _overview(config: Config, *lines: Line) -> Row:
    numbers = (
        closes.faults_total(),
        closes.going_away_total(),
        closes.fault_share(config),
        closes.abnormal_total(),
        traffic.handshake_total(),
        traffic.active_now(),
    )
    charts = ((12, closes.faults_by_cause()), (12, closes.going_away()))
    return Row("Overview", ((4, tuple((4, panel) for panel in numbers)), *lines, (9, charts)))


def _causes(config: Config, *lines: Line) -> Row:
    return Row(
        "Causes",
        (
            (10, ((12, closes.by_cause()), (12, closes.by_code()))),
            (9, ((8, closes.dropped()), (8, closes.pings()), (8, closes.suspect_closes()))),
            (9, ((12, closes.table_of_closes()), (6, closes.abnormal_share(config)), (6, closes.by_initiator()))),
            *lines,
        ),
    )


def _handshakes(config: Config) -> Row:
    return Row(
        "Handshakes",
        (
            (9, ((12, traffic.handshakes()), (12, traffic.handshake_failures()))),
            (
                9,
                (
                    (8, traffic.handshake_failed_share(config)),
                    (8, traffic.handshake_duration()),
                    (8, closes.reconnects()),
                ),
            ),
        ),
        collapsed=True,
    )


def _traffic() -> Row:
    return Row(
        "Traffic",
        (
            (8, ((8, traffic.active()), (8, traffic.frames()), (8, traffic.payload()))),
            (8, ((8, traffic.largest_message()), (8, traffic.stalled()), (8, traffic.stall_duration()))),
        ),
        collapsed=True,
    )


def _diagnosis() -> Row:
    return Row(
        "Diagnosis",
        (
            (
                12,
                (
                    (8, closes.known_ages(Peer.CLIENT)),
                    (8, closes.known_ages(Peer.SERVER)),
                    (8, closes.idle_before_drop()),
                ),
            ),
            (9, ((8, closes.lifetimes()), (8, traffic.ping_rtt()), (8, closes.incomplete()))),
            (16, ((10, closes.causes()), (14, closes.remedies()))),
        ),
        collapsed=True,
    )


def _sidecar(config: Config, collapsed: bool) -> Row:
    return Row(
        "Sidecar",
        (
            (8, ((8, traffic.unobserved()), (8, traffic.connect_errors()), (8, sidecar.loop_turns()))),
            (8, ((8, sidecar.cpu(config)), (8, sidecar.memory()), (8, sidecar.descriptors(config)))),
            (8, ((12, sidecar.drain()), (12, sidecar.defects()))),
        ),
        collapsed,
    )


DASHBOARDS = (close_codes, one_pod, the_fleet)


def files(config: Config) -> dict[str, str]:
    """Return a file per dashboard: path below the repository -> text."""
    made = [make(config) for make in DASHBOARDS]
    return {f"grafana/dashboards/{dashboard.uid}.json": dashboard.json(config) for dashboard in made}
