"""Vanished clients, exhausted ports, names that move: each in network and mount namespaces of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.faults.netns import CASES

ROOT = Path(__file__).resolve().parents[3]
UNSHARE = ["unshare", "--net", "--mount", "--propagation", "private"]
WAIT_LIMIT = 240


def reason_not_to() -> str:
    """Why namespaces cannot be had here; empty if they can."""
    if missing := [tool for tool in ("unshare", "ip", "mount") if shutil.which(tool) is None]:
        return f"needs {', '.join(missing)} (Debian packages util-linux, iproute2, mount)"
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True)
    return f"needs leave to make namespaces: {tried.stderr.strip()}" if tried.returncode else ""


@pytest.mark.parametrize("case", CASES)
def test_isolated(case: str) -> None:
    """See the function of that name in :mod:`tests.integration.faults.netns`."""
    if reason := reason_not_to():
        pytest.skip(reason)
    command = [*UNSHARE, sys.executable, "-m", "tests.integration.faults.netns", case]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr
