"""The table of bounds in SECURITY.md names constants, settings and tests that exist."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from exporter.cli import cli

ROOT = Path(__file__).parents[2]


def rows() -> list[list[str]]:
    text = (ROOT / "SECURITY.md").read_text().partition("## Bounds")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_bound_has_a_constant_or_setting_and_a_test(row: list[str]) -> None:
    """Each row names at least one constant or setting, and one test; all of them exist."""
    _, bound, limits, tests = row
    assert bound
    flags = {flag for option in cli.commands["run"].params for flag in option.opts}
    for limit in (named := re.findall(r"`([^`]+)`", limits)):
        if limit.startswith("--"):
            assert limit in flags
        else:
            module, _, constant = limit.rpartition(".")
            assert hasattr(import_module(f"exporter.{module}"), constant), limit
    assert named
    paths = re.findall(r"`([^`]+)`", tests)
    assert paths
    assert [path for path in paths if not (ROOT / "tests" / path).is_file()] == []
