"""Which Python the benchmarks run on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "benchmark-python"


def chosen(distribution: Path, first_on_path: Path) -> str:
    """What the script prints for a distribution's Python and the one that is found first."""
    path = f"{first_on_path}:{os.environ['PATH']}"
    done = subprocess.run(
        [SCRIPT, distribution], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )
    return done.stdout


def stand_in(folder: Path, version: str) -> Path:
    """A folder with a ``python3`` of ``version`` that is content with whatever it is asked to do."""
    folder.mkdir()
    program = folder / "python3"
    program.write_text(f"#!/bin/sh\necho '{version}'\n")
    program.chmod(0o755)
    return folder


def test_the_distributions_is_taken_if_it_is_of_the_same_version(tmp_path: Path) -> None:
    """It is built with more care than the first on PATH may be."""
    distribution = stand_in(tmp_path / "distribution", "(3, 11)")
    assert chosen(distribution, stand_in(tmp_path / "first", "(3, 11)")) == f"{distribution}:"


def test_another_version_is_not_taken(tmp_path: Path) -> None:
    """What is compiled is compiled once: for the version that all else runs on."""
    distribution = stand_in(tmp_path / "distribution", "(3, 11)")
    assert chosen(distribution, stand_in(tmp_path / "first", "(3, 12)")) == ""


def test_without_one_the_first_on_path_stays(tmp_path: Path) -> None:
    """Where the distribution has no Python nothing is put before it."""
    assert chosen(tmp_path / "nowhere", stand_in(tmp_path / "first", "(3, 11)")) == ""
