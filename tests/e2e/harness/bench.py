"""A sidecar whose app is exchanged from test to test."""

from __future__ import annotations

from tests.ports import free_port

from .process import Process
from .sidecar import Sidecar
from .stack import Stack


class Bench:
    """One sidecar and, behind it, the stack that the current test asks for."""

    def __init__(self) -> None:
        """Start the sidecar; no app runs yet."""
        self.upstream_port = free_port()
        self.sidecar = Sidecar(self.upstream_port)
        self._stack: Stack | None = None
        self._app: Process | None = None

    def app(self, stack: Stack) -> Process:
        """The stack's process: the one that runs already, or a new one."""
        if self._app is None or self._stack != stack or self._app.returncode is not None:
            self.retire()
            self._app = stack.start(self.upstream_port)
            self._stack = stack
        return self._app

    def retire(self) -> None:
        """End the app, if one runs."""
        if self._app is not None:
            self._app.stop()
            self._app = None

    def close(self) -> None:
        """End the app and the sidecar."""
        try:
            self.retire()
        finally:
            self.sidecar.stop()
