"""Fixtures of the end-to-end tests, for the hostile ones that run a sidecar."""

from tests.e2e.conftest import _no_process_outlives_the_tests, pytest_runtest_makereport, raw_app

__all__ = ["_no_process_outlives_the_tests", "pytest_runtest_makereport", "raw_app"]
