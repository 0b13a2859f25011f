"""Draw pictures of the Close codes dashboard from the answers of a real Prometheus to its queries.

The pictures are previews of the data and say so: no Grafana is needed for them. Panels stand where the committed JSON
has them, in its colours, with its titles and units; dashboard_preview_panels.py draws each type of panel.

    python scripts/dashboard_preview.py DATA.json FOLDER

DATA is written by the end-to-end test of the alerts: ``start``, ``end``, ``step`` in seconds, ``answers`` (panel, ref,
result of the HTTP API) and ``exemplars`` (panel, exemplars). FOLDER receives dashboard-preview.png, the open rows, and
readme-panels.png, the two charts of the first row.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
from dashboard_preview_panels import DRAW, Answers, Look, ground, timeseries
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

DASHBOARD = Path(__file__).parents[1] / "grafana" / "dashboards" / "websocket-close-codes.json"

#: Inches: the picture's width, a grid row's height, the space above and between the panels.
WIDTH, ROW, HEAD, GAP = 13.5, 0.27, 0.95, 0.045
README_SIZE = (9.6, 3.0)
DPI = 130
COLUMNS = 24
COLOURS = 192

#: Beside the titles of the panels in readme-panels.png.
CAPTIONS = {
    "Server faults by cause": "a bug: find the stack trace",
    "Going away by cause": "a rollout and leaving browsers: nothing to do",
}

#: Key of the list of drawn panels in a picture's metadata.
DRAWN = "panels"

NOTE = (
    "Preview of the data: answers of a real Prometheus to the panels' queries in the end-to-end test (two pods; a "
    "rollout of one, then a bug in both), drawn with matplotlib. Not a screenshot of Grafana."
)


def whole(data: dict[str, Any], dashboard: dict[str, Any]) -> tuple[Figure, list[str]]:
    """Draw the open rows; returns the figure and the titles of its panels."""
    tops = dashboard["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in tops if not panel.get("collapsed"))
    closed = [panel for panel in tops if panel.get("collapsed")]
    height = HEAD + (rows + len(closed)) * ROW + GAP
    figure = Figure(figsize=(WIDTH, height), facecolor=Look.PAGE)
    _head(figure, dashboard, height)
    answers = Answers(data)
    for number, row in enumerate(closed):
        row["gridPos"]["y"] = rows + number
    titles: list[str] = []
    for panel in tops:
        x, y, w, h = (panel["gridPos"][key] for key in "xywh")
        unit = (WIDTH - GAP) / COLUMNS
        box = (GAP + x * unit, height - HEAD - (y + h) * ROW, w * unit - GAP, h * ROW - GAP)
        axes = figure.add_axes((box[0] / WIDTH, box[1] / height, box[2] / WIDTH, box[3] / height))
        axes.set(xlim=(0, box[2]), ylim=(0, box[3]))
        axes.axis("off")
        inside = f" ({len(panel['panels'])} panels)" if panel.get("collapsed") else ""
        titles.append(panel["title"] + inside)
        if panel["type"] == "row":
            mark = "▸" if panel.get("collapsed") else "▾"
            axes.text(0.06, box[3] / 2, f"{mark}  {titles[-1]}", color=Look.TEXT, size=10, va="center")
        else:
            axes.add_patch(ground(box[2:], Look.PANEL, Look.EDGE))
            DRAW[panel["type"]](figure, axes, panel, answers)
    return figure, titles


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


def crop(data: dict[str, Any], dashboard: dict[str, Any]) -> tuple[Figure, list[str]]:
    """Draw the first two charts side by side; returns the figure and the titles of its panels."""
    charts = [panel for panel in dashboard["panels"] if panel["type"] == "timeseries"][:2]
    width, height = README_SIZE
    figure = Figure(figsize=README_SIZE, facecolor=Look.PAGE)
    answers = Answers(data)
    for number, panel in enumerate(charts):
        box = (GAP + number * width / 2, GAP, width / 2 - 2 * GAP, height - 2 * GAP)
        axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
        axes.set(xlim=(0, box[2]), ylim=(0, box[3]))
        axes.axis("off")
        axes.add_patch(ground(box[2:], Look.PANEL, Look.EDGE))
        timeseries(figure, axes, panel, answers, CAPTIONS[panel["title"]])
    return figure, [panel["title"] for panel in charts]


def save(figure: Figure, titles: list[str], path: Path) -> None:
    """Write a picture, with the titles of its panels in the metadata."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI, facecolor=Look.PAGE)
    about = PngInfo()
    about.add_text(DRAWN, json.dumps(titles))
    image = Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    image.save(path, optimize=True, pnginfo=about)
    click.echo(f"{path}: {path.stat().st_size // 1024} KiB")


@click.command()
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(data: Path, folder: Path) -> None:
    """Draw dashboard-preview.png and readme-panels.png in FOLDER from DATA."""
    answers = json.loads(data.read_text(encoding="utf-8"))
    mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 7.5})
    for draw, name in ((whole, "dashboard-preview.png"), (crop, "readme-panels.png")):
        figure, titles = draw(answers, json.loads(DASHBOARD.read_text(encoding="utf-8")))
        save(figure, titles, folder / name)


if __name__ == "__main__":
    main()
