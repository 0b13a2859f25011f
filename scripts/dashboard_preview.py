"""A picture of the Close codes dashboard, drawn from the answers that a real Prometheus gave to its queries.

It is a preview of the data and says so: Grafana itself is not needed for it. Panels stand where the dashboard's JSON
has them, in its colours, with its titles and units; how each kind is drawn is in :mod:`preview_panels`.

    python scripts/dashboard_preview.py DATA.json PICTURE.png

DATA is what the end-to-end test of the alerts keeps: ``start``, ``end``, ``step`` in seconds, ``answers`` (panel, ref,
result of the HTTP API) and ``exemplars`` (panel, exemplars).
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from preview_panels import DRAW, Answers, Look, ground

from grafana.source.config import Config
from grafana.source.dashboards import close_codes

#: Inches: the picture's width, a grid row's height, what stands above and between the panels.
WIDTH, ROW, HEAD, GAP = 13.5, 0.27, 0.95, 0.045
DPI = 130
COLUMNS = 24
LAST_PANEL_ROWS = 10
"""The table of remedies is long; here it is cut, as a window would cut it."""

NOTE = (
    "Preview of the data: what a real Prometheus answered to the panels' queries in the end-to-end test (two pods; a "
    "deploy of one, then a bug in both), drawn with matplotlib. Not a screenshot of Grafana."
)


def draw(data: dict[str, Any], config: Config) -> Figure:
    """The figure."""
    dashboard = close_codes().json(config)
    panels = dashboard["panels"]
    panels[-1]["gridPos"]["h"] = LAST_PANEL_ROWS
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    height = HEAD + rows * ROW + GAP
    mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 7.5})
    figure = Figure(figsize=(WIDTH, height), facecolor=Look.PAGE)
    _head(figure, dashboard, height)
    answers = Answers(data, dashboard["annotations"]["list"])
    for panel in panels:
        x, y, w, h = (panel["gridPos"][key] for key in "xywh")
        unit = (WIDTH - GAP) / COLUMNS
        box = (GAP + x * unit, height - HEAD - (y + h) * ROW, w * unit - GAP, h * ROW - GAP)
        axes = figure.add_axes((box[0] / WIDTH, box[1] / height, box[2] / WIDTH, box[3] / height))
        _frame(axes, box[2:])
        DRAW[panel["type"]](figure, axes, panel, answers)
    return figure


def _frame(axes: Axes, size: tuple[float, float]) -> None:
    """A panel's ground, in inches from its lower left corner."""
    axes.set(xlim=(0, size[0]), ylim=(0, size[1]))
    axes.axis("off")
    axes.add_patch(ground(size, Look.PANEL, Look.EDGE))


def _head(figure: Figure, dashboard: dict[str, Any], height: float) -> None:
    def at(inches_from_top: float) -> float:
        return 1 - inches_from_top / height

    left = 2.5 * GAP / WIDTH
    figure.text(left, at(0.3), dashboard["title"], color=Look.TEXT, size=15, weight="bold", va="center")
    figure.text(left, at(0.58), NOTE, color=Look.NOTE, size=8, va="center")
    chips = "      ".join(
        f"{variable['label']}  {'Prometheus' if variable['type'] == 'datasource' else 'All'}"
        for variable in dashboard["templating"]["list"]
    )
    figure.text(1 - left, at(0.3), chips, color=Look.FAINT, size=8.5, va="center", ha="right")
    marks = (("▲ a pod drains or starts", Look.DEPLOY), ("▲ an alert fires", Look.ALARM))
    for n, (words, colour) in enumerate(marks):
        figure.text(left + n * 0.145, at(0.8), words, color=colour, size=8, va="center")
    figure.text(1 - left, at(0.8), "time in minutes and seconds", color=Look.FAINT, size=8, va="center", ha="right")


@click.command()
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("picture", type=click.Path(dir_okay=False, path_type=Path))
def main(data: Path, picture: Path) -> None:
    """Draw PICTURE from DATA."""
    figure = draw(json.loads(data.read_text(encoding="utf-8")), Config())
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI, facecolor=Look.PAGE)
    Image.open(drawn).convert("RGB").quantize(192, dither=Image.Dither.NONE).save(picture, optimize=True)
    click.echo(f"{picture}: {picture.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
