"""The fixtures of the end-to-end tests serve here too."""

from __future__ import annotations

from tests.e2e.conftest import (
    _no_process_outlives_the_tests,
    pytest_runtest_makereport,
    raw_app,
    raw_sidecar,
)

__all__ = ["_no_process_outlives_the_tests", "pytest_runtest_makereport", "raw_app", "raw_sidecar"]
