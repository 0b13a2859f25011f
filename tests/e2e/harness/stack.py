"""The server stacks under test: how each is started. One small app file each in ../stacks."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from .process import Process

HERE = Path(__file__).resolve().parents[1]
STACKS = HERE / "stacks"
CLIENTS = HERE / "clients"


@dataclass(frozen=True)
class Stack:
    """A server program; `{port}` in its command line is the port that it listens on."""

    name: str
    argv: tuple[str, ...]
    needs: str
    """The Python module, or `node`, without which it cannot run."""

    def start(self, port: int) -> Process:
        """Start it and wait until it listens."""
        skip_without(self.needs)
        process = Process(self.name, [part.format(port=port) for part in self.argv], cwd=STACKS)
        try:
            process.wait_listening(port)
        except BaseException:
            process.stop()
            raise
        return process


def skip_without(needs: str) -> None:
    """Skip the running test, with the reason, if a tool is not installed."""
    if needs == "node":
        if shutil.which("node") is None:
            pytest.skip("needs node (Debian package nodejs)")
        if not (HERE / "node_modules" / "ws").is_dir():
            pytest.skip("needs the npm packages of tests/e2e/package.json")
    elif importlib.util.find_spec(needs) is None:
        pytest.skip(f"needs the Python package {needs} (requirements/e2e.txt)")


def python(name: str, script: str, *flags: str, needs: str) -> Stack:
    """A stack that is a Python script taking its port first."""
    return Stack(name, (sys.executable, script, "{port}", *flags), needs)


def uvicorn(name: str, module: str, *flags: str, needs: str = "uvicorn") -> Stack:
    """An ASGI application under uvicorn."""
    argv = (sys.executable, "-m", "uvicorn", f"{module}:app", "--port", "{port}", *flags)
    return Stack(name, argv, needs)


def granian(name: str, module: str, *flags: str) -> Stack:
    """An ASGI application under granian."""
    serve = (sys.executable, "-m", "granian", "--interface", "asgi", "--port", "{port}")
    return Stack(name, (*serve, *flags, f"{module}:app"), "granian")


def daphne(name: str, module: str, *flags: str) -> Stack:
    """An ASGI application under daphne."""
    argv = (sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", "{port}", *flags, f"{module}:app")
    return Stack(name, argv, "daphne")


def node(name: str, *flags: str, script: str = "node_ws.mjs") -> Stack:
    """A server on Node, the one on ws unless told otherwise."""
    return Stack(name, ("node", script, "{port}", *flags), "node")
