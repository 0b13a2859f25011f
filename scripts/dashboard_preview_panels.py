"""Draw each type of panel of a dashboard.

Axes are in inches from a panel's lower left corner; plots get axes of their own within.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

Panel = dict[str, Any]
Numbers = np.ndarray[Any, np.dtype[np.floating[Any]]]


class Look:
    """Colours of everything but data."""

    PAGE, PANEL, EDGE = "#111217", "#181B1F", "#2A2D34"
    TEXT, FAINT, NOTE, GRID = "#DCDCE4", "#9A9BA6", "#FFB357", "#2A2D34"
    DEPLOY, ALARM = "#8AB8FF", "#FF5C6C"


#: For series without a colour of their own, as Grafana's classic palette begins.
PALETTE = ("#73BF69", "#F2CC0C", "#8AB8FF", "#FF780A", "#F2495C", "#5794F2", "#B877D9", "#705DA0")

#: Inches inside a panel.
PAD, TITLE = 0.1, 0.24
LEGEND_ROW, LEGEND_ROWS = 0.145, 4
#: A panel's legend has two columns, unless a name is too long (characters an inch of column) to stand beside its mean.
LEGEND_COLUMNS, LEGEND_DENSITY = 2, 8.5


#: Steps in which Prometheus finds the pods for the first time: no deploy.
FIRST_SCRAPES = 12


@dataclass(frozen=True, slots=True)
class Series:
    """One series: its name in the legend, and its values at the times of the answers, NaN where there are none."""

    name: str
    labels: Mapping[str, str]
    values: Numbers

    @property
    def total(self) -> float:
        """For sorting."""
        return float(np.nansum(np.abs(self.values)))


class Answers:
    """Prometheus' answers, by panel."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.start, self.step = float(data["start"]), float(data["step"])
        self.count = round((data["end"] - data["start"]) / self.step) + 1
        self.times: Numbers = np.arange(self.count) * self.step
        self._by_query = {(answer["panel"], answer["ref"]): answer["result"] for answer in data["answers"]}
        self._exemplars = {one["panel"]: one["exemplars"] for one in data["exemplars"]}
        self.rollouts = self._moments("Draining") | self._moments("Restarts")
        self.alarms = self._moments("Alerts")

    def series(self, panel: Panel) -> list[Series]:
        """Return all series of a panel, in the order of its queries."""
        return [
            Series(_name(target["legendFormat"], one["metric"]), one["metric"], self._aligned(one["values"]))
            for target in panel["targets"]
            for one in self._by_query[panel["title"], target["refId"]]
        ]

    def numbers(self, panel: Panel) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series of an instant query."""
        found = self._by_query[panel["title"], "A"]
        return [(one["metric"], float(one["values"][-1][1])) for one in found]

    def exemplars(self, panel: Panel) -> list[tuple[float, float]]:
        """Seconds since the start, and value, of each exemplar."""
        found = self._exemplars.get(panel["title"], [])
        return sorted({(round(one["timestamp"] - self.start, 1), float(one["value"])) for one in found})

    def _aligned(self, values: Sequence[tuple[float, str]]) -> Numbers:
        line: Numbers = np.full(self.count, math.nan)
        for at, value in values:
            index = round((float(at) - self.start) / self.step)
            if 0 <= index < self.count:
                line[index] = float(value)
        return line

    def _moments(self, mark: str) -> set[float]:
        """Seconds since the start at which an annotation's series begin: one for each run of samples."""
        moments: set[float] = set()
        for one in self._by_query[f"annotation {mark}", ""]:
            ats = [float(at) - self.start for at, _ in one["values"]]
            moments |= {at for before, at in pairwise([-math.inf, *ats]) if at - before > 1.5 * self.step}
        return {at for at in moments if at > FIRST_SCRAPES * self.step}


def _name(legend: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), legend)


def number(value: float, unit: str) -> str:
    """Return a value as Grafana prints it."""
    if math.isnan(value):
        return "-"
    match unit:
        case "percentunit":
            return f"{100 * value:.3g} %"
        case "s":
            return f"{1000 * value:.3g} ms" if 0 < value < 1 else f"{value:.3g} s"
        case "cpm":
            return f"{value:.3g} cpm"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def ground(size: tuple[float, float], face: str, edge: str) -> FancyBboxPatch:
    """Return a panel's background, as large as the panel."""
    box = "round,pad=0,rounding_size=0.04"
    inset = 0.01
    width, height = size[0] - 2 * inset, size[1] - 2 * inset
    return FancyBboxPatch((inset, inset), width, height, box, facecolor=face, edgecolor=edge, linewidth=0.7)


def _title(axes: Axes, panel: Panel) -> tuple[float, float]:
    """Write the title; returns the panel's size in inches."""
    width, height = axes.get_xlim()[1], axes.get_ylim()[1]
    axes.text(PAD, height - 0.15, panel["title"], color=Look.TEXT, size=8.5, weight="bold", va="center")
    return width, height


def _inner(figure: Figure, axes: Axes, left: float, bottom: float, right: float, top: float) -> Axes:
    """Axes within a panel, given by margins in inches."""
    box = axes.get_position()
    width, height = axes.get_xlim()[1], axes.get_ylim()[1]
    x, y = box.x0 + box.width * left / width, box.y0 + box.height * bottom / height
    inner = figure.add_axes(
        (x, y, box.width * (1 - (left + right) / width), box.height * (1 - (bottom + top) / height))
    )
    inner.set_facecolor("none")
    for spine in inner.spines.values():
        spine.set_visible(False)
    inner.tick_params(colors=Look.FAINT, length=0, labelsize=6.5, pad=2)
    return inner


def _clock(axes: Axes, answers: Answers) -> None:
    """Draw the time axis in minutes since the start, with the marks of rollouts and alerts."""
    axes.set_xlim(0, answers.times[-1])
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 1.5, 2, 3, 6]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{int(at) // 60}:{int(at) % 60:02}" if at else ""))
    axes.tick_params(axis="x", pad=5)
    for moments, colour in ((answers.rollouts, Look.DEPLOY), (answers.alarms, Look.ALARM)):
        for at in sorted(moments):
            axes.axvline(at, color=colour, linewidth=0.7, linestyle=(0, (3, 2)), alpha=0.75, zorder=1)
            axes.plot(at, 0, marker="^", markersize=4, color=colour, clip_on=False, zorder=6,
                      transform=axes.get_xaxis_transform())  # fmt: skip


def _override(panel: Panel, name: str, wanted: str) -> Any:
    """Return the value that the overrides give to a property of a series; later ones win."""
    found = None
    for override in panel["fieldConfig"]["overrides"]:
        kind, matched = override["matcher"]["id"], override["matcher"]["options"]
        if matched == name if kind == "byName" else re.search(matched.strip("/"), name):
            for prop in override["properties"]:
                found = prop["value"] if prop["id"] == wanted else found
    return found


def _colour(panel: Panel, name: str) -> str | None:
    colour = _override(panel, name, "color")
    return colour["fixedColor"] if colour else None


def timeseries(figure: Figure, axes: Axes, panel: Panel, answers: Answers, caption: str = "") -> None:
    """Draw lines, or areas on top of each other; the legend with the mean of each below.

    With a ``caption`` the marks are named and series that are zero all the time are left out.
    """
    width, height = _title(axes, panel)
    lines = sorted(answers.series(panel), key=lambda one: one.total, reverse=True)
    if caption:
        lines = [line for line in lines if line.total]
        axes.text(width - 0.12, height - 0.15, caption, color=Look.TEXT, size=8.5, va="center", ha="right")
    unit = panel["fieldConfig"]["defaults"]["unit"]
    spare = iter(PALETTE * 4)
    colours = {line.name: _colour(panel, line.name) or next(spare) for line in lines}
    longest = max((len(line.name) for line in lines), default=0)
    columns = LEGEND_COLUMNS if longest <= LEGEND_DENSITY * width / LEGEND_COLUMNS else 1
    shown = lines[: columns * LEGEND_ROWS]
    rows = max(1, math.ceil(len(shown) / columns))
    plot = _inner(figure, axes, 0.52, 0.33 + rows * LEGEND_ROW, 0.14, TITLE + 0.1)
    _plot(plot, panel, lines, colours, answers)
    if caption:
        for moments, colour, word in (
            (answers.rollouts, Look.DEPLOY, "rollout "),
            (answers.alarms, Look.ALARM, "alert "),
        ):
            plot.text(min(moments), plot.get_ylim()[1], word, color=colour, size=8, va="top", ha="right")
    plot.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, unit)))
    for index, line in enumerate(shown):
        row, column = divmod(index, columns)
        x, y = PAD + column * (width - PAD) / columns, PAD + (rows - 1 - row) * LEGEND_ROW
        axes.add_patch(Rectangle((x, y - 0.015), 0.12, 0.03, color=colours[line.name]))
        mean = float(np.nanmean(line.values)) if line.total else 0.0
        axes.text(x + 0.17, y, line.name, color=Look.TEXT, size=6.5, va="center")
        right = PAD + (column + 1) * (width - PAD) / columns - 0.15
        axes.text(right, y, f"mean {number(mean, unit)}", color=Look.FAINT, size=6.2, va="center", ha="right")


def _plot(plot: Axes, panel: Panel, lines: Sequence[Series], colours: Mapping[str, str], answers: Answers) -> None:
    custom = panel["fieldConfig"]["defaults"]["custom"]
    if custom["stacking"]["mode"] == "normal":
        floor: Numbers = np.zeros(answers.count)
        for line in sorted(lines, key=lambda one: one.name):
            top = floor + np.nan_to_num(line.values)
            plot.fill_between(answers.times, floor, top, color=colours[line.name], alpha=0.72, linewidth=0)
            plot.plot(answers.times, top, color=colours[line.name], linewidth=0.9)
            floor = top
    else:
        for line in reversed(lines):
            style = "dashed" if _override(panel, line.name, "custom.lineStyle") else "solid"
            plot.plot(answers.times, line.values, color=colours[line.name], linewidth=1.3, linestyle=style)
    if custom.get("thresholdsStyle", {}).get("mode") == "dashed":
        limit = panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]
        plot.axhline(limit["value"], color=limit["color"], linewidth=1, linestyle=(0, (6, 4)))
    if not lines:
        plot.text(0.5, 0.5, "No data", color=Look.FAINT, size=9, ha="center", va="center", transform=plot.transAxes)
    _clock(plot, answers)
    plot.set_ylim(0, plot.get_ylim()[1] if any(line.total for line in lines) else 1)
    plot.yaxis.set_major_locator(MaxNLocator(4))
    plot.grid(color=Look.GRID, linewidth=0.6)
    plot.set_axisbelow(True)


def stat(figure: Figure, axes: Axes, panel: Panel, answers: Answers) -> None:
    """Draw a number on its colour."""
    width, height = axes.get_xlim()[1], axes.get_ylim()[1]
    values = answers.series(panel)[0].values
    value = float(values[~np.isnan(values)][-1])
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    colour = [step["color"] for step in steps if step.get("value") is None or value >= step["value"]][-1]
    axes.add_patch(ground((width, height), colour, "none"))
    dark = _luminance(colour) > 0.55
    ink = "#101216" if dark else "#FFFFFF"
    if panel["options"]["graphMode"] == "area":
        plot = _inner(figure, axes, 0.02, 0.02, 0.02, height * 0.6)
        plot.axis("off")
        plot.fill_between(answers.times, 0, np.nan_to_num(values), color="white", alpha=0.25, linewidth=0)
        plot.set(xlim=(0, answers.times[-1]), ylim=(0, float(np.nanmax(values)) * 1.1))
    axes.text(width / 2, height - 0.18, panel["title"], color=ink, size=8.5, weight="bold", va="center", ha="center")
    axes.text(width / 2, height * 0.4, number(value, panel["fieldConfig"]["defaults"]["unit"]),
              color=ink, size=22, weight="bold", va="center", ha="center")  # fmt: skip


def _luminance(colour: str) -> float:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _by_index(places: Mapping[str, int]) -> list[str]:
    return sorted(places, key=lambda name: places[name])


def table(figure: Figure, axes: Axes, panel: Panel, answers: Answers) -> None:
    """Rows by value, largest first, as many as fit."""
    width, height = _title(axes, panel)
    organise = panel["transformations"][-1]["options"]
    names: dict[str, str] = {name: organise["renameByName"][name] for name in _by_index(organise["indexByName"])}
    rows = sorted(answers.numbers(panel), key=lambda row: row[1], reverse=True)
    columns = list(names)
    places = [PAD + 0.05 + n * (width * 0.62 - PAD) / (len(columns) - 1) for n in range(len(columns))]
    line = 0.167
    y = height - TITLE - 0.16
    for x, column in zip(places, columns, strict=True):
        axes.text(x, y, names[column], color=Look.DEPLOY, size=7, weight="bold", va="center")
    looks = {override["matcher"]["options"]: override["properties"] for override in panel["fieldConfig"]["overrides"]}
    for labels, value in rows[: int((y - 0.1) / line)]:
        y -= line
        axes.plot([PAD, width - PAD], [y + line / 2, y + line / 2], color=Look.GRID, linewidth=0.5)
        for x, column in zip(places[:-1], columns[:-1], strict=True):
            text = labels.get(column, "")
            axes.text(x, y, text, color=_mapped(looks[names[column]], text) or Look.TEXT, size=7, va="center")
        length = (width - PAD - 0.35 - places[-1]) * value / rows[0][1]
        axes.add_patch(Rectangle((places[-1], y - 0.045), length, 0.09, color=PALETTE[5], alpha=0.8))
        axes.text(places[-1] + length + 0.06, y, f"{value:.0f}", color=Look.TEXT, size=7, va="center")


def _mapped(properties: Sequence[Mapping[str, Any]], text: str) -> str | None:
    for prop in properties:
        if prop["id"] == "mappings":
            found: str | None = prop["value"][0]["options"].get(text, {}).get("color")
            return found
    return None


DRAW: Mapping[str, Callable[[Figure, Axes, Panel, Answers], None]] = {
    "timeseries": timeseries,
    "stat": stat,
    "table": table,
}

__all__ = ["DRAW", "Answers", "Look", "Series", "ground", "number"]
