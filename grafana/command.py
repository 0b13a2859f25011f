"""The command `websocket-exporter dashboards`: write the dashboards that the wheel carries."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import click

from grafana.source.config import RUNBOOKS


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
