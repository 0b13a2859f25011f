"""The fixtures of the end-to-end tests serve here too; but every test has an app of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.e2e.conftest import _no_process_outlives_the_tests, pytest_runtest_makereport
from tests.e2e.harness.wire import RawApp
from tests.ports import free_port

__all__ = ["_no_process_outlives_the_tests", "pytest_runtest_makereport"]


@pytest.fixture
def raw_app() -> Iterator[RawApp]:
    """An app whose part the test plays. What a test in trouble leaves in its queue is no other test's client."""
    with closing(RawApp(free_port())) as app:
        yield app
