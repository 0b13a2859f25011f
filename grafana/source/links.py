"""Runbooks that panels link to."""

from __future__ import annotations

from enum import StrEnum


class Runbook(StrEnum):
    """Alerts with a runbook; a dashboard with a name that no alert has cannot be built."""

    INTERNAL_ERROR_SPIKE = "WebSocketInternalErrorSpike"
    APP_DROPS_CONNECTIONS = "WebSocketAppDropsConnections"
    APP_DOWN = "WebSocketAppDown"
    ERROR_BUDGET_BURN = "WebSocketErrorBudgetBurn"
    UNEXPECTED_GOING_AWAY = "WebSocketUnexpectedGoingAway"
    RECONNECT_STORM = "WebSocketReconnectStorm"
    HANDSHAKE_FAILURES = "WebSocketHandshakeFailures"
    UNOBSERVED_TRAFFIC = "WebSocketUnobservedTraffic"
    SIDECAR_DOWN = "WebSocketSidecarDown"
    SIDECAR_SATURATED = "WebSocketSidecarSaturated"
    IDLE_CUTOFF = "WebSocketIdleCutoff"
    FIXED_AGE_CUTOFF = "WebSocketFixedAgeCutoff"
