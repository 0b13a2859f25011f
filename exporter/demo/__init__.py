"""The command `demo`: a chat server with a bug, its clients, and the sidecar between them."""

from __future__ import annotations


class DemoError(Exception):
    """The demo cannot start or continue. The message is the reason, on one line."""
