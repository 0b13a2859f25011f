"""The program reads the command line of `run` in a child process and serves with what it sent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: Runs the program with a supervisor that prints what it gets, and whether click was imported here.
PRINTING = """
import sys
from exporter import supervisor
supervisor.run = lambda settings: print(settings, "click" in sys.modules) or 7
from exporter.__main__ import main
main()
"""


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    return subprocess.run(
        [sys.executable, "-c", PRINTING, *arguments], cwd=ROOT, env={**os.environ, **environment},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_run_with_valid_settings_serves_without_click() -> None:
    """The supervisor gets flags, variables and compiled rules; its status is the program's."""
    done = call(
        *("run", "--upstream", "127.0.0.1:1", "--reason", "a.*b=forbidden", "--route", "/a/*", "--code", "4401"),
        WEBSOCKET_EXPORTER_LISTEN="127.0.0.1:2",
    )
    assert done.returncode == 7, done.stderr
    assert "port=2," in done.stdout
    assert "'/a/*'" in done.stdout
    assert "Rule object" in done.stdout
    assert done.stdout.endswith("False\n")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("run", "--upstream", "nonsense"), 2, "--upstream"),
        (("run",), 2, "Missing option '--upstream'"),
        (("run", "--no-such-flag"), 2, "--no-such-flag"),
        (("run", "--help"), 0, ""),
        (("explain", "1011"), 0, ""),
    ],
)
def test_run_without_settings_ends_with_the_childs_status(arguments: tuple[str, ...], status: int, words: str) -> None:
    """An invalid command line is one line and status 2; other commands run in this process."""
    done = call(*arguments)
    assert done.returncode == status, done
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == (1 if status else 0)
