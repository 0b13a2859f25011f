"""Fixtures of the end-to-end tests, for the hostile ones that run a sidecar."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import _no_process_outlives_the_tests, pytest_runtest_makereport, raw_app
from tests.e2e.harness.process import Process, running
from tests.e2e.harness.sidecar import ROOT
from tests.ports import free_port

__all__ = ["_no_process_outlives_the_tests", "pytest_runtest_makereport", "raw_app"]


@pytest.fixture(scope="module")
def load_app() -> Iterator[Process]:
    """The app that plays its part by the path; its port is its name."""
    port = free_port()
    with running(Process(str(port), [sys.executable, "-m", "tests.load.app", str(port)], cwd=ROOT)) as process:
        process.wait_listening(port)
        yield process
