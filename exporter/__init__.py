"""websocket-exporter: a sidecar that overhears WebSocket traffic and tells Prometheus why connections end."""

__version__ = "0.2.0"
