"""Metrics of the catalogue that the sidecar does not expose yet: their panels show "no data"."""

from exporter.observe.catalogue import (
    LARGEST_MESSAGE,
    LINES_SUPPRESSED,
    LOOP_TURN,
    PLANNED,
    RELAY_RESTARTS,
    STALL_DURATION,
    STALLED,
    SUSPECT_CLOSES,
)

__all__ = [
    "LARGEST_MESSAGE",
    "LINES_SUPPRESSED",
    "LOOP_TURN",
    "PLANNED",
    "RELAY_RESTARTS",
    "STALLED",
    "STALL_DURATION",
    "SUSPECT_CLOSES",
]
