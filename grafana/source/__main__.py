"""``python -m grafana.source``: write dashboards, rules and provisioning."""

from __future__ import annotations

from pathlib import Path

import click

from grafana.source.config import Config, ConfigError, load
from grafana.source.generate import HERE, drift, write


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a file differs from its source.")
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="YAML file with settings.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=HERE, help="Folder to write to.")
def main(check: bool, config_path: Path | None, output: Path) -> None:
    """Generate dashboards, recording rules and alerts."""
    try:
        config = load(config_path) if config_path else Config()
        changed = drift(config, output) if check else write(config, output)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
    for path in changed:
        click.echo(f"{output / path}: {'differs from its source' if check else 'written'}")
    if check and changed:
        raise click.ClickException("run python -m grafana.source")


if __name__ == "__main__":
    main(prog_name="python -m grafana.source")
