"""Write the generated files, or compare them with the committed ones.

A maker returns files of a configuration: path below the repository's root -> text. To add an output, add a maker to
:data:`MAKERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from grafana.source import dashboards, provisioning, rule_files
from grafana.source.config import Config

Maker = Callable[[Config], Mapping[str, str]]

MAKERS: tuple[Maker, ...] = (
    rule_files.prometheus,
    rule_files.prometheus_rule,
    rule_files.grafana_alerting,
    dashboards.files,
    provisioning.files,
)

#: The repository's root, below which the outputs are committed.
HERE = Path(__file__).resolve().parent.parent.parent


def outputs(config: Config) -> dict[str, str]:
    """Return every file: path below the target folder -> text."""
    made: dict[str, str] = {}
    for maker in MAKERS:
        for path, text in maker(config).items():
            if path in made:
                raise ValueError(f"{path} is made twice")
            made[path] = text
    return made


def write(config: Config, target: Path) -> list[str]:
    """Write the files that differ below ``target``; return their paths."""
    made = outputs(config)
    written = [path for path, text in made.items() if _read(target / path) != text]
    for path in written:
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(made[path], encoding="utf-8")
    return written


def drift(config: Config, target: Path) -> list[str]:
    """Return the paths below ``target`` that are missing or differ from their source."""
    return [path for path, text in outputs(config).items() if _read(target / path) != text]


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None
