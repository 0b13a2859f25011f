"""Panels about the sidecar itself: its processes, its drain, its version."""

from __future__ import annotations

from exporter.observe.catalogue import (
    ACCEPT_PAUSES,
    BUILD,
    DRAIN_SECONDS,
    DRAIN_SESSIONS,
    DRAINING,
    LINES_DROPPED,
    LINES_SUPPRESSED,
    LOOP_TURN,
    RELAY_RESTARTS,
    RELAYS,
    TLS_ERRORS,
)
from grafana.source import panels
from grafana.source.colours import BLUE, GREEN, GREY, ORANGE, RED, SLATE
from grafana.source.config import Config
from grafana.source.links import Runbook
from grafana.source.panels import AGE, BYTES, COUNT, NONE, PER_MINUTE, SECONDS, SHARE, Panel, Query, Words, properties
from grafana.source.promql import CPU, MAX_FDS, OPEN_FDS, RESIDENT, START_TIME, UP
from grafana.source.queries import SIDECAR, by, of_sidecars, on, per_minute, quantile, rate, series


def cpu(config: Config) -> Panel:
    """Build the CPU time of each sidecar."""
    return panels.time_series(
        Words(
            "CPU",
            "CPU time of each sidecar for each of its relays, as a share of one core: a relay has one thread. Near "
            "100 % it delays every message. The dashed line is "
            f"the alert's {config.cpu:g} %.",
            Runbook.SIDECAR_SATURATED,
        ),
        SHARE,
        Query(
            by(
                ("instance",),
                f"{rate(series(CPU))} / {on(SIDECAR)} ({series(RELAYS)} or {on(SIDECAR)} {series(BUILD)})",
            ),
            "{{instance}}",
        ),
        objective=config.cpu / 100,
    )


def memory() -> Panel:
    """Build the resident memory of each sidecar."""
    return panels.time_series(
        Words(
            "Memory",
            "Resident memory of each sidecar. It grows by a few KiB per open session.",
            Runbook.SIDECAR_SATURATED,
        ),
        BYTES,
        Query(by(("instance",), of_sidecars(series(RESIDENT))), "{{instance}}"),
    )


def descriptors(config: Config) -> Panel:
    """Build the share of file descriptors in use."""
    return panels.time_series(
        Words(
            "File descriptors",
            "Open file descriptors of each sidecar as a share of its limit; a session needs two. The dashed line is "
            f"the alert's {config.descriptors:g} %.",
            Runbook.SIDECAR_SATURATED,
        ),
        SHARE,
        Query(
            f"{by(('instance',), of_sidecars(series(OPEN_FDS)))} / {by(('instance',), series(MAX_FDS))}",
            "{{instance}}",
        ),
        objective=config.descriptors / 100,
    )


def loop_turns() -> Panel:
    """Build median and tail of event-loop turns."""
    return panels.time_series(
        Words(
            "Event-loop turns",
            "Duration of one turn of the sidecar's event loop: the longest that a message waits in the sidecar.",
            Runbook.SIDECAR_SATURATED,
        ),
        SECONDS,
        Query(quantile(0.5, LOOP_TURN), "p50"),
        Query(quantile(0.99, LOOP_TURN), "p99"),
        colours={"p50": BLUE, "p99": ORANGE},
    )


def defects() -> Panel:
    """Build restarts of relays, refused clients and log lines that are missing."""
    return panels.time_series(
        Words(
            "Relay restarts, refused clients, missing log lines",
            "Relay processes that died and were restarted: a defect; their sessions ended as relay-lost. Times "
            "accepting paused because descriptors or memory ran out, and failed TLS connections. Log lines and reports "
            "over the rate limit, or lost because standard output was blocked: the metrics are complete, the log is "
            "not.",
            Runbook.SIDECAR_SATURATED,
        ),
        PER_MINUTE,
        Query(per_minute((), series(RELAY_RESTARTS)), "relay restarts"),
        Query(per_minute((), series(ACCEPT_PAUSES)), "accept pauses"),
        Query(per_minute((), series(TLS_ERRORS)), "TLS errors"),
        Query(per_minute((), series(LINES_SUPPRESSED)), "suppressed lines"),
        Query(per_minute((), series(LINES_DROPPED)), "lost lines"),
        colours={
            "relay restarts": RED,
            "accept pauses": ORANGE,
            "TLS errors": BLUE,
            "suppressed lines": GREY,
            "lost lines": SLATE,
        },
    )


def drain() -> Panel:
    """Build the progress of a drain."""
    panel = panels.time_series(
        Words(
            "Drain",
            "During a drain: sessions that are still open, and seconds until the deadline. Sessions left at the "
            "deadline are cut.",
            Runbook.UNEXPECTED_GOING_AWAY,
        ),
        COUNT,
        Query(by((), series(DRAIN_SESSIONS)), "sessions"),
        Query(f"max({series(DRAIN_SECONDS)})", "time left"),
        colours={"sessions": BLUE, "time left": GREY},
        calcs=("max",),
    )
    panel.builder.override_by_name("time left", properties({"unit": SECONDS}))
    return panel


def draining_now() -> Panel:
    """Build whether a drain is on."""
    return panels.number(
        Words("Draining", "Whether a sidecar is ending sessions on purpose.", Runbook.UNEXPECTED_GOING_AWAY),
        NONE,
        Query(f"max({series(DRAINING)})", "draining"),
        ((None, GREY), (0, GREEN), (1, BLUE)),
        texts={"0": "no", "1": "yes"},
    )


def started() -> Panel:
    """Build the time since the last start."""
    return panels.number(
        Words("Started", "Time since the sidecar started.", Runbook.SIDECAR_DOWN),
        AGE,
        Query(f"1000 * max({of_sidecars(series(START_TIME))})", "started"),
        panels.neutral_steps(SLATE),
    )


def version() -> Panel:
    """Build version, Python and engine as text."""
    return panels.number(
        Words("Version", "The sidecar's version, its Python and its engine.", Runbook.SIDECAR_DOWN),
        NONE,
        Query(f"count by ({', '.join(BUILD.labels)}) ({series(BUILD)})", "{{version}}, Python {{python}}, {{engine}}"),
        panels.neutral_steps(SLATE),
        names=True,
    )


def up_now() -> Panel:
    """Build the number of sidecars that answer."""
    return panels.number(
        Words("Sidecars", "Sidecars that Prometheus scrapes now.", Runbook.SIDECAR_DOWN),
        COUNT,
        Query(f"count({series(BUILD)})", "sidecars"),
        panels.neutral_steps(SLATE),
    )


def down_now() -> Panel:
    """Build the number of targets that do not answer."""
    return panels.number(
        Words(
            "Sidecars down",
            "Targets of these workloads whose last scrape failed.",
            Runbook.SIDECAR_DOWN,
        ),
        COUNT,
        Query(f"sum({series(UP)} == bool 0)", "down"),
        ((None, GREY), (0, GREEN), (1, RED)),
    )
