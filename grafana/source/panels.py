"""Makers of panels: plain dictionaries in the shape of Grafana's dashboard schema.

Plain dicts and not grafana-foundation-sdk, because a panel is a dozen lines here that look like the JSON they become,
and thirty of chained calls there; the tests read every dashboard back through the SDK's models all the same.

A panel without a unit, a description or a link cannot be made: all are arguments without a default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana.source.links import Runbook

Json = dict[str, Any]

DATASOURCE: Json = {"type": "prometheus", "uid": "$datasource"}

#: Units as Grafana names them.
PER_MINUTE, PER_SECOND = "suffix:/min", "suffix:/s"
COUNT, SHARE, SECONDS, BYTES, BYTES_PER_SECOND, CORES = "short", "percentunit", "s", "bytes", "Bps", "suffix: cores"
DATE, NONE = "dateTimeFromNow", "none"


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel. ``legend`` names its series with ``{{label}}``; ``exemplars`` asks for trace ids too."""

    expr: str
    legend: str = ""
    instant: bool = False
    exemplars: bool = False
    format: str = "time_series"

    def target(self, ref: str) -> Json:
        """The query as a panel's target."""
        return {
            "datasource": DATASOURCE,
            "editorMode": "code",
            "exemplar": self.exemplars,
            "expr": self.expr,
            "format": self.format,
            "instant": self.instant,
            "legendFormat": self.legend or "__auto",
            "range": not self.instant,
            "refId": ref,
        }


@dataclass(frozen=True, slots=True)
class Words:
    """What a person reads of a panel: its title, what it means, and the runbook that goes on from there."""

    title: str
    description: str
    runbook: Runbook


Colours = Mapping[str, str]


def _panel(kind: str, words: Words, unit: str, queries: Sequence[Query], options: Json, defaults: Json) -> Json:
    return {
        "type": kind,
        "title": words.title,
        "description": words.description,
        "datasource": DATASOURCE,
        "runbook": words.runbook,  # the dashboard that takes the panel in makes links of it
        "links": [],
        "fieldConfig": {"defaults": {"unit": unit, **defaults}, "overrides": []},
        "options": options,
        "targets": [query.target(ref) for ref, query in zip("ABCDEFGH", queries, strict=False)],
    }


def fixed(colour: str) -> Json:
    """A colour that does not depend on values."""
    return {"mode": "fixed", "fixedColor": colour}


def steps(*pairs: tuple[float | None, str]) -> Json:
    """Thresholds: the colour from each value on; the first value is None, for all below the next."""
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in pairs]}


def override(series: str, *properties: tuple[str, Any]) -> Json:
    """Properties of the one series (or column) of this name."""
    return {
        "matcher": {"id": "byName", "options": series},
        "properties": [{"id": name, "value": value} for name, value in properties],
    }


def timeseries(
    words: Words,
    unit: str,
    *queries: Query,
    colours: Colours | None = None,
    stacked: bool = False,
    ceiling: float | None = None,
    calcs: Sequence[str] = ("mean", "max"),
    links: Sequence[Json] = (),
) -> Json:
    """Lines over time, or areas on top of each other if ``stacked``; ``colours`` by the series' names."""
    custom: Json = {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 1 if stacked else 2,
        "fillOpacity": 60 if stacked else 8,
        "gradientMode": "none",
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "axisSoftMin": 0,
    }
    options = {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": list(calcs)},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    defaults: Json = {"custom": custom, "min": 0, "color": {"mode": "palette-classic"}, "links": list(links)}
    if ceiling is not None:
        defaults["max"] = ceiling
    panel = _panel("timeseries", words, unit, queries, options, defaults)
    panel["fieldConfig"]["overrides"] = [override(name, ("color", fixed(c))) for name, c in (colours or {}).items()]
    return panel


def stat(
    words: Words, unit: str, *queries: Query, thresholds: Json, sparkline: bool = False, text: str = "auto"
) -> Json:
    """One number (a query each) on a coloured ground."""
    options = {
        "colorMode": "background",
        "graphMode": "area" if sparkline else "none",
        "justifyMode": "center",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": text,
    }
    defaults = {"thresholds": thresholds, "color": {"mode": "thresholds"}, "noValue": "0"}
    return _panel("stat", words, unit, queries, options, defaults)


def heatmap(words: Words, unit: str, query: Query) -> Json:
    """A histogram's buckets over time; ``unit`` is the buckets' own."""
    options = {
        "calculate": False,
        "cellGap": 1,
        "cellValues": {"unit": COUNT},
        "color": {"mode": "scheme", "scheme": "Blues", "steps": 64, "exponent": 0.5, "reverse": False},
        "exemplars": {"color": "#FF9830"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "tooltip": {"mode": "single", "showColorScale": True, "yHistogram": True},
        "yAxis": {"axisPlacement": "left", "unit": unit, "reverse": False},
    }
    return _panel("heatmap", words, unit, [query], options, {})


def bargauge(words: Words, unit: str, *queries: Query, colour: str) -> Json:
    """Horizontal bars, a series each."""
    options = {
        "displayMode": "basic",
        "minVizHeight": 8,
        "minVizWidth": 0,
        "namePlacement": "left",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showUnfilled": True,
        "sizing": "auto",
        "valueMode": "color",
    }
    defaults = {"color": fixed(colour), "min": 0, "decimals": 0}
    return _panel("bargauge", words, unit, queries, options, defaults)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: the name of the field in the data, its heading, how it looks."""

    name: str
    heading: str
    unit: str = NONE
    colours: Colours = field(default_factory=dict)
    links: Sequence[Json] = ()
    bar: str = ""

    def override(self) -> Json:
        """The column's look, for the panel."""
        properties: list[tuple[str, Any]] = [("unit", self.unit)]
        if self.colours:
            mapping = {value: {"color": colour, "index": i} for i, (value, colour) in enumerate(self.colours.items())}
            properties += [
                ("mappings", [{"type": "value", "options": mapping}]),
                ("custom.cellOptions", {"type": "color-text"}),
            ]
        if self.bar:
            cell = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
            properties += [("custom.cellOptions", cell), ("color", fixed(self.bar)), ("min", 0), ("decimals", 0)]
        if self.links:
            properties.append(("links", list(self.links)))
        return override(self.heading, *properties)


def table(words: Words, unit: str, columns: Sequence[Column], *queries: Query, sort: str) -> Json:
    """Rows by labels, with one value column for each query, sorted by the heading ``sort``, largest first.

    Fields of the data that are no column are left out.
    """
    names = {column.name: column.heading for column in columns}
    organise = {
        "id": "organize",
        "options": {
            "indexByName": {column.name: i for i, column in enumerate(columns)},
            "renameByName": names,
            "includeByName": dict.fromkeys(names, True),
        },
    }
    options = {"cellHeight": "sm", "showHeader": True, "sortBy": [{"displayName": sort, "desc": True}]}
    panel = _panel("table", words, unit, queries, options, {"custom": {"align": "auto", "filterable": True}})
    panel["transformations"] = [{"id": "merge", "options": {}}, organise]
    panel["fieldConfig"]["overrides"] = [column.override() for column in columns]
    return panel


def text(words: Words, markdown: str) -> Json:
    """Words only. It has no values, so its unit is none."""
    panel = _panel("text", words, NONE, (), {"mode": "markdown", "content": markdown}, {})
    del panel["targets"]
    return panel


def place(rows: Iterable[tuple[int, Sequence[tuple[int, Json]]]]) -> list[Json]:
    """Panels on Grafana's grid of 24 columns: rows of a height, each with (width, panel) from left to right.

    :raises ValueError: for a row that is not 24 wide.
    """
    placed: list[Json] = []
    y = 0
    for height, row in rows:
        if sum(width for width, _ in row) != 24:
            raise ValueError(f"not 24 wide: {[panel['title'] for _, panel in row]}")
        x = 0
        for width, panel in row:
            placed.append(panel | {"id": len(placed) + 1, "gridPos": {"x": x, "y": y, "w": width, "h": height}})
            x += width
        y += height
    return placed
