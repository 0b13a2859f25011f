"""The pictures of the dashboard, which `make dashboard-preview` draws from an end-to-end run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from grafana.source.dashboard import Uid

from .variables import load

DOCS = Path(__file__).parents[2] / "docs"
CLOSE_CODES = load()[Uid.CLOSE_CODES]["panels"]

WHOLE = [
    panel["title"] + (f" ({len(panel['panels'])} panels)" if panel.get("collapsed") else "") for panel in CLOSE_CODES
]
CROP = [panel["title"] for panel in CLOSE_CODES if panel["type"] == "timeseries"][:2]


@pytest.mark.parametrize(("name", "titles"), [("dashboard-preview.png", WHOLE), ("readme-panels.png", CROP)])
def test_picture_shows_the_panels_of_the_dashboard(name: str, titles: list[str]) -> None:
    """A picture has the rows and panels of the committed dashboard, in its order."""
    with Image.open(DOCS / name) as picture:
        drawn = json.loads(picture.info["panels"])
    assert drawn == titles, "run make dashboard-preview"


def test_readme_shows_the_crop() -> None:
    """The README has the picture of two panels."""
    assert "](docs/readme-panels.png)" in (DOCS.parent / "README.md").read_text(encoding="utf-8")
