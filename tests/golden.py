"""Golden files: what a person agreed to, committed. ``UPDATE_GOLDEN=1`` writes them anew, for the diff to be read."""

from __future__ import annotations

import os
from pathlib import Path


def assert_golden(path: Path, text: str) -> None:
    """``text`` is what the file says."""
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text.splitlines() == path.read_text(encoding="utf-8").splitlines(), f"{path} differs; see tests/golden.py"
