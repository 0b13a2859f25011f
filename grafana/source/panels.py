"""Builders of panels, on grafana-foundation-sdk for the oldest Grafana that the dashboards support.

A panel without a unit, a description or a runbook cannot be built: all are arguments without a default.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, heatmap, prometheus, stat, table, text, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as sdk
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode
from grafana_foundation_sdk.models.text import TextMode

from grafana.source.colours import GREEN, GREY, ORANGE, RED
from grafana.source.links import Runbook

Json = dict[str, Any]

DATASOURCE = sdk.DataSourceRef(type_val="prometheus", uid="$datasource")

PER_MINUTE, PER_SECOND = units.CountsPerMinute, units.CountsPerSecond
REQUESTS, BYTES_PER_SECOND = units.RequestsPerSecond, units.BytesPerSecondSI
COUNT, NONE, SHARE = units.Short, units.NoUnit, units.PercentUnit
SECONDS, BYTES, AGE = units.Seconds, units.BytesIEC, units.DateTimeFromNow

NO_DATA = "no data"


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel. ``legend`` names its series with ``{{label}}``; ``exemplars`` requests trace ids too."""

    expr: str
    legend: str = "__auto"
    instant: bool = False
    exemplars: bool = False
    format: PromQueryFormat = PromQueryFormat.TIME_SERIES

    def target(self, ref: str) -> prometheus.Dataquery:
        """Return the query as a panel's target."""
        query = (
            prometheus.Dataquery()
            .datasource(DATASOURCE)
            .editor_mode(QueryEditorMode.CODE)
            .exemplar(self.exemplars)
            .expr(self.expr)
            .format(self.format)
            .legend_format(self.legend)
            .ref_id(ref)
        )
        return query.instant() if self.instant else query.range()


@dataclass(frozen=True, slots=True)
class Words:
    """The texts of a panel: its title, its meaning, and the runbook for it."""

    title: str
    description: str
    runbook: Runbook


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel before it has its place and its links."""

    title: str
    runbook: Runbook
    builder: timeseries.Panel | stat.Panel | heatmap.Panel | bargauge.Panel | table.Panel | text.Panel


Colours = Mapping[str, str]
Steps = Sequence[tuple[float | None, str]]

_Builder = TypeVar("_Builder", timeseries.Panel, stat.Panel, heatmap.Panel, bargauge.Panel, table.Panel, text.Panel)


def _begin(builder: _Builder, words: Words, unit: str, queries: Iterable[Query]) -> _Builder:
    builder.title(words.title).description(words.description).datasource(DATASOURCE).unit(unit)
    for ref, query in zip("ABCDEFGH", queries, strict=False):
        builder.with_target(query.target(ref))
    return builder


def fixed(colour: str) -> Json:
    """Return a colour that does not depend on values."""
    return {"mode": "fixed", "fixedColor": colour}


def thresholds(steps: Steps) -> build.ThresholdsConfig:
    """Return thresholds: the colour from each value on; the first value is None, for everything below the next."""
    return build.ThresholdsConfig().mode(sdk.ThresholdsMode.ABSOLUTE).steps([sdk.Threshold(*step) for step in steps])


def properties(values: Mapping[str, object]) -> list[sdk.DynamicConfigValue]:
    """Return an override's properties."""
    return [sdk.DynamicConfigValue(name, value) for name, value in values.items()]


def fault_steps(limit: float = 0.5) -> Steps:
    """Grey without data, green at 0, red from ``limit`` on."""
    return (None, GREY), (0, GREEN), (limit, RED)


def warning_steps(limit: float = 0.5) -> Steps:
    """Grey without data, green at 0, orange from ``limit`` on."""
    return (None, GREY), (0, GREEN), (limit, ORANGE)


def neutral_steps(colour: str) -> Steps:
    """Grey without data, else one colour."""
    return (None, GREY), (0, colour)


def time_series(
    words: Words,
    unit: str,
    *queries: Query,
    colours: Colours | None = None,
    patterns: Colours | None = None,
    stacked: bool = False,
    objective: float | None = None,
    calcs: Sequence[str] = ("mean", "max"),
) -> Panel:
    """Build lines over time, or areas on top of each other if ``stacked``.

    :param colours: by the names of the series.
    :param patterns: colours by regular expressions of the names; later ones win.
    :param objective: the value from which an alert may fire; drawn as a dashed line.
    """
    legend = (
        common.VizLegendOptions()
        .display_mode(kinds.LegendDisplayMode.TABLE)
        .placement(kinds.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(list(calcs))
    )
    tooltip = common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING)
    stacking = kinds.StackingMode.NORMAL if stacked else kinds.StackingMode.NONE
    panel = (
        _begin(timeseries.Panel(), words, unit, queries)
        .min(0)
        .axis_soft_min(0)
        .color_scheme(build.FieldColor().mode(sdk.FieldColorModeId.PALETTE_CLASSIC))
        .draw_style(kinds.GraphDrawStyle.LINE)
        .line_interpolation(kinds.LineInterpolation.LINEAR)
        .line_width(1 if stacked else 2)
        .fill_opacity(60 if stacked else 8)
        .show_points(kinds.VisibilityMode.NEVER)
        .stacking(common.StackingConfig().mode(stacking).group("A"))
        .legend(legend)
        .tooltip(tooltip)
    )
    if objective is not None:
        style = common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(thresholds([(None, "transparent"), (objective, RED)])).thresholds_style(style)
    for name, colour in (colours or {}).items():
        panel.override_by_name(name, properties({"color": fixed(colour)}))
    for pattern, colour in (patterns or {}).items():
        panel.override_by_regexp(f"/{pattern}/", properties({"color": fixed(colour)}))
    return Panel(words.title, words.runbook, panel)


def number(
    words: Words,
    unit: str,
    query: Query,
    steps: Steps,
    sparkline: bool = False,
    names: bool = False,
    texts: Mapping[str, str] | None = None,
) -> Panel:
    """Build one number on a coloured ground, grey if there is no data.

    :param names: show the series' names instead of their values.
    :param texts: words in place of values.
    """
    panel = (
        _begin(stat.Panel(), words, unit, [query])
        .color_mode(kinds.BigValueColorMode.BACKGROUND)
        .graph_mode(kinds.BigValueGraphMode.AREA if sparkline else kinds.BigValueGraphMode.NONE)
        .justify_mode(kinds.BigValueJustifyMode.CENTER)
        .orientation(kinds.VizOrientation.AUTO)
        .reduce_options(_last())
        .text_mode(kinds.BigValueTextMode.NAME if names else kinds.BigValueTextMode.AUTO)
        .color_scheme(build.FieldColor().mode(sdk.FieldColorModeId.THRESHOLDS))
        .thresholds(thresholds(steps))
        .no_value(NO_DATA)
    )
    if texts:
        results = {value: sdk.ValueMappingResult(text=shown, index=i) for i, (value, shown) in enumerate(texts.items())}
        panel.mappings([sdk.ValueMap(results)])
    return Panel(words.title, words.runbook, panel)


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False)


def heat_map(words: Words, unit: str, query: Query) -> Panel:
    """Build a histogram's buckets over time; ``unit`` is the unit of the buckets."""
    colour = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(64).exponent(0.5)
    panel = (
        _begin(heatmap.Panel(), words, unit, [query])
        .calculate(False)
        .cell_gap(1)
        .cell_values(heatmap.CellValues().unit(COUNT))
        .color(colour.reverse(False).fill("dark-blue"))
        .exemplars_color("#FF9830")
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .rows_frame(heatmap.RowsHeatmapOptions().layout(kinds.HeatmapCellLayout.AUTO))
        .show_legend()
        .mode(kinds.TooltipDisplayMode.SINGLE)
        .show_color_scale(True)
        .show_y_histogram()
        .y_axis(heatmap.YAxisConfig().axis_placement(kinds.AxisPlacement.LEFT).unit(unit).reverse(False))
    )
    return Panel(words.title, words.runbook, panel)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a histogram: its bucket's upper bound as the series has it, its name, its colour."""

    bound: float
    name: str
    colour: str


def bars(words: Words, unit: str, query: Query, named: Iterable[Bar], colour: str) -> Panel:
    """Build horizontal bars, one per bucket of a histogram; ``named`` ones have a name and a colour of their own."""
    panel = (
        _begin(bargauge.Panel(), words, unit, [query])
        .display_mode(kinds.BarGaugeDisplayMode.BASIC)
        .name_placement(kinds.BarGaugeNamePlacement.LEFT)
        .orientation(kinds.VizOrientation.HORIZONTAL)
        .reduce_options(_last())
        .show_unfilled(True)
        .min_viz_height(8)
        .sizing(kinds.BarGaugeSizing.AUTO)
        .value_mode(kinds.BarGaugeValueMode.COLOR)
        .color_scheme(build.FieldColor().mode(sdk.FieldColorModeId.FIXED).fixed_color(colour))
        .min(0)
        .decimals(0)
        .no_value(NO_DATA)
    )
    for bar in named:
        pattern = r"\+Inf" if math.isinf(bar.bound) else re.escape(f"{bar.bound:g}") + r"(\.0)?"
        panel.override_by_regexp(f"/^{pattern}$/", properties({"displayName": bar.name, "color": fixed(bar.colour)}))
    return Panel(words.title, words.runbook, panel)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: the name of the field in the data, its heading, its looks."""

    name: str
    heading: str
    unit: str = NONE
    colours: Colours = field(default_factory=dict)
    links: Sequence[Json] = ()
    bar: str = ""

    def properties(self) -> list[sdk.DynamicConfigValue]:
        """Return the override of this column."""
        values: dict[str, object] = {"unit": self.unit}
        if self.colours:
            options = {value: {"color": colour, "index": i} for i, (value, colour) in enumerate(self.colours.items())}
            values["mappings"] = [{"type": "value", "options": options}]
            values["custom.cellOptions"] = {"type": "color-text"}
        if self.bar:
            values["custom.cellOptions"] = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
            values |= {"color": fixed(self.bar), "min": 0, "decimals": 0}
        if self.links:
            values["links"] = list(self.links)
        return properties(values)


def rows(words: Words, columns: Sequence[Column], *queries: Query, sort: str) -> Panel:
    """Build a table: rows by labels, one value column per query, sorted by the heading ``sort``, largest first.

    Fields of the data that are no column are left out.
    """
    names = {column.name: column.heading for column in columns}
    organise = {
        "indexByName": {column.name: i for i, column in enumerate(columns)},
        "renameByName": names,
        "includeByName": dict.fromkeys(names, True),
    }
    panel = (
        _begin(table.Panel(), words, COUNT, queries)
        .align(kinds.FieldTextAlignment.AUTO)
        .filterable(True)
        .show_header(True)
        .sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
        .with_transformation(sdk.DataTransformerConfig("merge", options={}))
        .with_transformation(sdk.DataTransformerConfig("organize", options=organise))
        .no_value(NO_DATA)
    )
    for column in columns:
        panel.override_by_name(column.heading, column.properties())
    return Panel(words.title, words.runbook, panel)


def page(words: Words, markdown: str) -> Panel:
    """Build a text. It has no values, so its unit is none."""
    panel = _begin(text.Panel(), words, NONE, ()).mode(TextMode.MARKDOWN).content(markdown)
    return Panel(words.title, words.runbook, panel)
