"""Headless Chromium in a process group of our own, steered by Playwright over the DevTools protocol."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.waiting import eventually

from .process import Process

FLAGS = (
    "--headless",
    # Chromium may keep a page that was navigated away from, and its open WebSocket, in the back/forward
    # cache. Drivers of browsers switch it off, and so do we: the tests are about pages that are left for good.
    "--disable-features=BackForwardCache",
    "--log-level=3",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-extensions",
    "--no-first-run",
    "--remote-debugging-port=0",
)


@dataclass(frozen=True)
class Chromium:
    """A running browser: its process, and where its DevTools listen."""

    process: Process
    devtools: str


def executable() -> str:
    """The browser's path; skips the running test if there is none."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs a browser (Debian package chromium)")
    return path


@contextlib.contextmanager
def chromium() -> Iterator[Chromium]:
    """Start a browser with a fresh profile, and end its whole group afterwards."""
    path = executable()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = Process("chromium", [path, *FLAGS, f"--user-data-dir={profile}", "about:blank"])
        try:
            # Two lines, written once the port is open: the port, and the path of the browser's own endpoint.
            announced = Path(profile) / "DevToolsActivePort"
            eventually(lambda: announced.is_file() and announced.read_text().count("\n"), "DevTools are open")
            port = announced.read_text().splitlines()[0]
            yield Chromium(process, f"http://127.0.0.1:{port}")
        finally:
            process.kill_group()
            process.stop()
