"""Fixtures shared by the end-to-end tests."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port

from .harness.bench import Bench
from .harness.process import Process
from .harness.sidecar import Sidecar, audited
from .harness.wire import RawApp

HERE = Path(__file__).resolve().parent

NPM_WAIT_LIMIT = 180
"""Seconds for npm to install a handful of packages."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """With a failure, show what the processes that still run have said."""
    report = yield
    if report.failed:
        for process in Process.live:
            report.sections.append((f"output of {process.name} (pid {process.pid})", process.tail()))
    return report


@pytest.fixture(scope="session", autouse=True)
def _no_process_outlives_the_tests() -> Iterator[None]:
    """End whatever a failing test may have left."""
    try:
        yield
    finally:
        for process in list(Process.live):
            process.stop()


@pytest.fixture(scope="session")
def node_packages() -> None:
    """Install the npm packages of package-lock.json, once; without node or npm the stacks skip themselves."""
    lock, installed = HERE / "package-lock.json", HERE / "node_modules" / ".installed-lock.json"
    if installed.is_file() and installed.read_bytes() == lock.read_bytes():
        return
    if shutil.which("node") is None or shutil.which("npm") is None:
        return
    done = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund"],
        cwd=HERE,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=NPM_WAIT_LIMIT,
    )
    if done.returncode == 0:
        shutil.copy(lock, installed)
    else:
        print(done.stderr)


@pytest.fixture(scope="module")
def raw_app() -> Iterator[RawApp]:
    """An app whose part the test plays; one for the tests of a module."""
    with closing(RawApp(free_port())) as app:
        yield app


@pytest.fixture(scope="module")
def raw_sidecar(raw_app: RawApp) -> Iterator[Sidecar]:
    """A sidecar in front of `raw_app`; when the module is done its books must balance."""
    with audited(raw_app.port) as sidecar:
        yield sidecar


@pytest.fixture(scope="module")
def bench(node_packages: None) -> Iterator[Bench]:
    """A sidecar whose app is exchanged from test to test."""
    bench = Bench()
    try:
        yield bench
        bench.sidecar.check_books()
    finally:
        bench.close()
