"""Write the tables of docs/reference.md from the code; with --check, report whether they are up to date."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable

import click
from markers import write_tables

from exporter.cli import cli
from exporter.config import options
from exporter.observe.catalogue import CATALOGUE
from exporter.protocol.causes import CAUSES
from exporter.protocol.close_codes import REGISTRY
from exporter.protocol.presets import PRESETS


def table(header: str, rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table; ``header`` names its columns, separated by commas."""
    columns = header.split(",")
    lines = [columns, ["---"] * len(columns), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    """Return ``text`` as Markdown code; the empty text stays empty."""
    return f"`{text}`" if text else ""


def sentence(text: str) -> str:
    """Return ``text`` without the full stop at its end, as cells have it."""
    return text.strip().removesuffix(".")


def flags() -> str:
    """Return the flags of ``run``, group by group as in its help."""

    def rows() -> Iterable[Iterable[str]]:
        for group, members in itertools.groupby(options(), lambda option: option.group):
            yield f"**{group}**", "", ""
            for option in members:
                default = "required" if option.required else code("" if option.switch else option.default or "")
                yield code(f"{option.flag} {option.metavar}".strip()), default, sentence(option.help)
        known = {option.flag for option in options()}
        yield from (row for flag, row in _rows("run") if flag not in known)

    return table("flag,default,meaning", rows())


def command_flags(name: str) -> str:
    """Return the flags of the command ``name``."""
    return table("flag,default,meaning", (row for _, row in _rows(name)))


def _rows(name: str) -> Iterable[tuple[str, Iterable[str]]]:
    """Yield each flag of the command ``name`` with its row."""
    context = click.Context(cli)
    command = cli.get_command(context, name)
    if command is None:
        raise SystemExit(f"the command line has no command {name}")

    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            metavar = "" if parameter.is_flag else f" {parameter.make_metavar(click.Context(command))}"
            names = ", ".join([*parameter.opts, *parameter.secondary_opts])
            default = str(parameter.default) if isinstance(parameter.default, str | int | float) else ""
            default = "" if parameter.is_flag else default
            yield parameter.opts[0], (code(names + metavar), code(default), sentence(parameter.help or ""))


def metrics() -> str:
    """Return the metrics."""
    return table(
        "metric,type,labels,meaning",
        (
            (code(metric.name), metric.kind, ", ".join(map(code, metric.labels)), sentence(metric.help))
            for metric in CATALOGUE
        ),
    )


def causes() -> str:
    """Return the causes."""
    return table(
        "cause,initiator,severity,logged as,meaning",
        (
            (
                code(info.cause),
                ", ".join(info.initiators),
                info.severity,
                "warning" if info.abnormal else "info",
                sentence(info.meaning),
            )
            for info in CAUSES.values()
        ),
    )


def codes() -> str:
    """Return the registered close codes."""
    return table(
        "code,name,cause label,in a frame,meaning",
        (
            (
                str(info.code),
                info.name,
                code(info.cause),
                "yes" if info.on_the_wire else "never",
                sentence(info.meaning),
            )
            for info in REGISTRY.values()
        ),
    )


def presets() -> str:
    """Return the presets of private close codes."""
    return table(
        "preset,codes that keep their number,ranges",
        (
            (
                code(name),
                ", ".join(map(str, preset.codes)),
                ", ".join(f"{span.start} to {span.stop - 1}: {code(cause)}" for span, cause in preset.ranges),
            )
            for name, preset in PRESETS.items()
        ),
    )


TABLES: dict[str, Callable[[], str]] = {
    "flags of run": flags,
    **{
        f"flags of {name}": (lambda name=name: command_flags(name))
        for name in ("inject", "drain", "explain", "demo", "rules", "dashboards")
    },
    "metrics": metrics,
    "causes": causes,
    "codes": codes,
    "presets": presets,
}


if __name__ == "__main__":
    sys.exit(write_tables("docs/reference.md", "scripts/reference.py", TABLES))
