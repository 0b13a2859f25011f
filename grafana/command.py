"""The commands `websocket-exporter dashboards` and `rules`: dashboards and alert rules from the installed package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML

from grafana.source.config import RUNBOOKS, Config, ConfigError, from_mapping, load
from grafana.source.rule_files import FORMATS, formatted


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--runbooks", metavar="URL", default=RUNBOOKS, help="prefix of the links to runbooks", show_default=True)
def dashboards(folder: Path, runbooks: str) -> None:
    """Write the Grafana dashboards into DIR, for provisioning or import."""
    escaped = json.dumps(runbooks, ensure_ascii=False)[1:-1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source in sorted(files("grafana").joinpath("dashboards").iterdir(), key=lambda path: path.name):
            if source.name.endswith(".json"):
                text = source.read_text(encoding="utf-8").replace(RUNBOOKS, escaped)
                (folder / source.name).write_text(text, encoding="utf-8")
                click.echo(folder / source.name)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error


@click.command()
@click.option("--objective", type=float, metavar="PERCENT", help="closes that the server must not have caused  [99.9]")
@click.option("--disable", multiple=True, metavar="ALERT", help="leave this alert out; may be given again")
@click.option("--severity", "severities", multiple=True, metavar="ALERT=SEVERITY", help="critical, warning or info")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="label of every alert; may be given again")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="a threshold, such as least=20")
@click.option("--runbooks", metavar="URL", help="prefix of the links to runbooks")
@click.option("--grafana-url", metavar="URL", help="Grafana's address, for links to dashboards")
@click.option("--config", "path", type=click.Path(path_type=Path, dir_okay=False), help="YAML file of settings")
@click.option("--format", "kind", type=click.Choice(FORMATS), default=FORMATS[0], show_default=True)
def rules(
    objective: float | None,
    disable: tuple[str, ...],
    severities: tuple[str, ...],
    labels: tuple[str, ...],
    settings: tuple[str, ...],
    runbooks: str | None,
    grafana_url: str | None,
    path: Path | None,
    kind: str,
) -> None:
    """Print the alert rules, as a rule file for Prometheus or in another format.

    Flags win over the file. A wrong value prints one line and exits with status 2.
    """
    try:
        config = load(path) if path else Config()
        given: dict[str, Any] = {
            name: YAML(typ="safe").load(value) for name, value in _pairs("--set", settings).items()
        }
        given |= {
            name: value
            for name, value in (("objective", objective), ("runbooks", runbooks), ("grafana_url", grafana_url))
            if value is not None
        }
        given |= {"disabled": [*config.disabled, *disable]}
        given |= {"severities": {**config.severities, **_pairs("--severity", severities)}}
        given |= {"labels": {**config.labels, **_pairs("--label", labels)}}
        click.echo(formatted(from_mapping(given, config), kind), nl=False)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error


def _pairs(flag: str, given: tuple[str, ...]) -> Mapping[str, str]:
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ConfigError(f"{flag}: {text!r} is not NAME=VALUE")
        pairs[name] = value
    return pairs
