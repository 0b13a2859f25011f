"""The command line. Each command imports its modules when it runs: ``explain`` needs no event loop."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

import click

from exporter import __version__
from exporter.config import Group, Settings, options, unknown_variables
from exporter.options import add_options

#: Commands that live in packages of their own: name -> module that holds a click command of that name.
_ELSEWHERE = {
    "dashboards": "grafana.command",
    "demo": "exporter.demo.runner",
    "inject": "exporter.kubernetes.command",
    "rules": "grafana.command",
    "webhook": "exporter.kubernetes.command",
}

_USAGE_ERROR = 2

#: Serves with settings; returns the exit status.
Serve = Callable[[Settings], int]


class _Commands(click.Group):
    """The commands of this module and, imported when they are used, those of other modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _ELSEWHERE:
            command: click.Command = getattr(import_module(_ELSEWHERE[cmd_name]), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="websocket-exporter")
def cli() -> None:
    """Forward WebSocket traffic unchanged and count for Prometheus why connections end."""


class _RunCommand(click.Command):
    """`run`: its help has sections, and a flag that takes one value is given once."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, given = self.make_parser(ctx).parse_args(list(args))
        for param, times in Counter(given).items():
            if isinstance(param, click.Option) and times > 1 and not param.multiple:
                raise click.UsageError(f"{param.opts[0]}: given {times} times", ctx)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups = {option.field: option.group for option in options()}
        for group in (*Group, None):
            params = [param for param in self.get_params(ctx) if groups.get(param.name or "") == group]
            records = [record for param in params if (record := param.get_help_record(ctx)) is not None]
            with formatter.section(f"{group} options" if group else "Other options"):
                formatter.write_dl(records)


@cli.command(cls=_RunCommand)
@add_options(options())
@click.option("--check", is_flag=True, help="validate settings, files and ports, and exit without serving")
@click.pass_obj
def run(serve: Serve | None, /, check: bool, **values: Any) -> None:
    """Run the sidecar.

    Every option can be set by an environment variable, WEBSOCKET_EXPORTER_<OPTION>. Durations are seconds (5, 0.5) or
    carry units (500ms, 1m30s, 2h).
    """
    try:
        settings = Settings(**values)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    for name in unknown_variables(os.environ, (option.variable for option in options())):
        click.echo(
            f"websocket-exporter: warning: {name} is not a setting; see 'websocket-exporter run --help'", err=True
        )
    if not check:
        if serve is None:
            from exporter import supervisor

            serve = supervisor.run
        sys.exit(serve(settings))
    from exporter import preflight
    from exporter.listening import CannotListen

    try:
        preflight.check(settings)
    except (CannotListen, preflight.CannotUse) as error:
        raise click.ClickException(str(error)) from error
    click.echo("settings, files and ports are valid")


@cli.command()
@click.argument("subjects", nargs=-1, metavar="[CODE|LABEL|CAUSE]...")
@click.option("--preset", "presets", multiple=True, metavar="NAME", help="codes of a known protocol; repeatable")
@click.option("--json", "as_json", is_flag=True, help="JSON output")
def explain(subjects: tuple[str, ...], presets: tuple[str, ...], as_json: bool) -> None:
    """Explain close codes (1011), code labels (4xxx) and causes (app-down); two stand side by side.

    Exits with status 1 if no peer can send one of the codes.
    """
    from exporter import explain as explainer
    from exporter.protocol.presets import PRESETS

    if unknown := [name for name in presets if name not in PRESETS]:
        raise click.UsageError(f"--preset: {unknown[0]}: expected one of {', '.join(PRESETS)}")
    if not subjects and not presets:
        raise click.UsageError("expected a code, a label or a cause, such as 1011, 4xxx or app-down")
    try:
        found = [explainer.subject(text, presets) for text in subjects]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    found = found or [explainer.preset_subject(name) for name in presets]
    click.echo(explainer.as_json(found) if as_json else explainer.as_text(found))
    sys.exit(0 if all(one.possible for one in found) else 1)


@cli.command()
@click.option(
    "--admin",
    default="127.0.0.1:10011",
    show_default=True,
    metavar="[https://]HOST:PORT",
    help="the sidecar's admin port",
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="return only when the drain is done")
def drain(admin: str, wait: bool) -> None:
    """Begin to drain a running sidecar; for a preStop hook."""
    from exporter.admin.drain_client import DrainFailed, drain_and_wait

    try:
        drain_and_wait(admin, wait)
    except DrainFailed as error:
        raise click.ClickException(str(error)) from error


def main(serve: Serve | None = None) -> NoReturn:
    """Run a command and exit: one clear line for a wrong value, never a traceback.

    :param serve: serves with the settings of `run` and returns the exit status; None serves in this process.
    """
    try:
        status = cli.main(prog_name="websocket-exporter", standalone_mode=False, obj=serve)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        status = _USAGE_ERROR
    except click.UsageError as error:
        message = error.format_message().removesuffix(".")
        command = error.ctx.command_path if error.ctx else "websocket-exporter"
        click.echo(f"websocket-exporter: error: {message}; see '{command} --help'", err=True)
        status = _USAGE_ERROR
    except click.ClickException as error:
        click.echo(f"websocket-exporter: error: {error.format_message()}", err=True)
        status = error.exit_code
    except click.Abort:
        status = 130
    sys.exit(status if isinstance(status, int) else 0)
