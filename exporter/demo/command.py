"""``websocket-exporter demo``: the demo's door."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import click

from exporter.address import Address, parse_listen
from exporter.demo import DemoError
from exporter.demo.supervisor import Plan, run
from exporter.units import parse_duration

_T = TypeVar("_T")


def _read(parse: Callable[[str], _T]) -> Callable[[click.Context, click.Parameter, str], _T]:
    """A click callback that turns the text of an option into a value, or into one clear line."""

    def callback(_ctx: click.Context, _param: click.Parameter, value: str) -> _T:
        try:
            return parse(value)
        except ValueError as wrong:
            raise click.BadParameter(f"{value!r}: {wrong}") from None

    return callback


_ADDRESS = _read(parse_listen)
_DURATION = _read(parse_duration)


@click.command(context_settings={"show_default": True})
@click.option(
    "--listen",
    callback=_ADDRESS,
    metavar="[HOST]:PORT",
    default="127.0.0.1:10010",
    help="Where clients connect.",
)
@click.option(
    "--admin",
    callback=_ADDRESS,
    metavar="[HOST]:PORT",
    default="127.0.0.1:10011",
    help="Landing page and metrics.",
)
@click.option("--app-port", type=click.IntRange(0, 65535), default=0, help="The app's port; 0 takes a free one.")
@click.option("--clients", type=click.IntRange(1, 1000), default=30, help="How many visitors.")
@click.option("--bug-rate", type=click.FloatRange(0, 1), default=0.01, help="Share of messages that fail.")
@click.option(
    "--restart-every",
    callback=_DURATION,
    metavar="DURATION",
    default="1m",
    help="Restart the app so often; 0: never.",
)
@click.option(
    "--for",
    "duration",
    callback=_DURATION,
    metavar="DURATION",
    default="0",
    help="End after so long; 0: on Ctrl-C.",
)
def demo(
    listen: Address,
    admin: Address,
    app_port: int,
    clients: int,
    bug_rate: float,
    restart_every: float,
    duration: float,
) -> None:
    """An app with traffic and the sidecar between them, to look at. Ends on Ctrl-C."""
    app = Address("127.0.0.1", app_port)
    plan = Plan(listen, admin, app, clients, bug_rate, restart_every, duration)
    try:
        asyncio.run(run(plan))
    except DemoError as failed:
        raise click.ClickException(str(failed)) from None
