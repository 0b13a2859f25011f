"""Grafana's variables, replaced as Grafana does it, so that Prometheus can parse a panel's query."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.observe import catalogue
from exporter.observe.catalogue import Metric

FOLDER = Path(__file__).parents[2] / "grafana" / "dashboards"

#: Metrics of the catalogue that the sidecar does not expose yet, if there are any.
PLANNED: tuple[Metric, ...] = getattr(catalogue, "PLANNED", ())

#: Everything selected; a day shown, scraped every 15 seconds.
ALL: Mapping[str, str] = {
    "__rate_interval": "1m0s",
    "__range": "86400s",
    "namespace": ".*",
    "job": ".+",
    "pod": ".+",
    "instance": ".+",
    "route": ".+",
}


def load() -> dict[str, dict[str, Any]]:
    """The committed dashboards by UID."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))]
    return {dashboard["uid"]: dashboard for dashboard in found}


def all_panels(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every panel but the rows, those inside collapsed rows included."""
    found = [inner for panel in dashboard["panels"] for inner in (panel, *panel.get("panels", ()))]
    return [panel for panel in found if panel["type"] != "row"]


@dataclass(frozen=True)
class Asked:
    """One query: where it stands, and its text with the variables replaced."""

    dashboard: str
    panel: str
    ref: str
    expr: str
    instant: bool
    exemplar: bool

    def __str__(self) -> str:
        return f"{self.dashboard} / {self.panel} / {self.ref}"


def replaced(expr: str, values: Mapping[str, str] = ALL) -> str:
    """``expr`` with every variable's value. KeyError for a variable that the dashboards do not have."""
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], expr)


def queries(dashboard: Mapping[str, Any], values: Mapping[str, str] = ALL) -> Iterator[Asked]:
    """Every query of every panel and annotation."""
    for panel in all_panels(dashboard):
        for target in panel.get("targets", []):
            expr = replaced(target["expr"], values)
            yield Asked(dashboard["uid"], panel["title"], target["refId"], expr, target["instant"], target["exemplar"])
    for mark in dashboard["annotations"]["list"]:
        yield Asked(dashboard["uid"], f"annotation {mark['name']}", "", replaced(mark["expr"], values), False, False)
