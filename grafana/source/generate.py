"""Writes all that is made from this source, or compares it with what is there.

A maker turns the configuration into files: path below the repository's root -> text. To add an output, add a maker to
:data:`MAKERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from grafana.source import dashboards, provisioning, rule_files, runbooks
from grafana.source.config import Config

Maker = Callable[[Config], Mapping[str, str]]

MAKERS: tuple[Maker, ...] = (
    rule_files.prometheus,
    rule_files.prometheus_rule,
    rule_files.grafana_alerting,
    dashboards.files,
    provisioning.files,
    runbooks.pages,
)

#: Where the committed outputs are: the repository's root.
HERE = Path(__file__).resolve().parent.parent.parent


def outputs(config: Config) -> dict[str, str]:
    """Every file that there is to write: path below the target folder -> text."""
    made: dict[str, str] = {}
    for maker in MAKERS:
        for path, text in maker(config).items():
            if path in made:
                raise ValueError(f"{path} is made twice")
            made[path] = text
    return made


def write(config: Config, target: Path) -> list[str]:
    """Write what differs below ``target``; returns the paths that were written."""
    made = outputs(config)
    written = [path for path, text in made.items() if _read(target / path) != text]
    for path in written:
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(made[path], encoding="utf-8")
    return written


def drift(config: Config, target: Path) -> list[str]:
    """Paths below ``target`` that are missing or differ from what the source says."""
    return [path for path, text in outputs(config).items() if _read(target / path) != text]


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None
