"""A sidecar proxy that counts why WebSocket connections end, for Prometheus."""

__version__ = "0.2.0"
