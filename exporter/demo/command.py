"""The command line of `demo`."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from exporter.address import Address, parse_listen
from exporter.demo.chat_server import Bug, BugKind
from exporter.demo.runner import Demo, DemoError, run
from exporter.options import parsed
from exporter.units import parse_duration

_ADDRESS: dict[str, Any] = {"type": parsed(parse_listen), "metavar": "[HOST]:PORT"}
_DURATION: dict[str, Any] = {"type": parsed(parse_duration), "metavar": "DURATION"}
_KINDS = click.Choice([kind.value for kind in BugKind])


@click.command(context_settings={"show_default": True})
@click.option("--listen", default="127.0.0.1:10010", help="address for clients", **_ADDRESS)
@click.option("--admin", default="127.0.0.1:10011", help="address of the page and of /metrics", **_ADDRESS)
@click.option(
    "--app-port", type=click.IntRange(0, 65535), metavar="PORT", default=0, help="port of the app; 0 is any free one"
)
@click.option("--clients", type=click.IntRange(1, 1000), metavar="N", default=30, help="number of clients")
@click.option(
    "--bug-rate", type=click.FloatRange(0, 1), metavar="SHARE", default=0.01, help="share of messages that fail"
)
@click.option(
    "--bug-kind", type=_KINDS, metavar="KIND", default="both", help="how they fail: raises (1011), drops (1006), both"
)
@click.option("--restart-every", default="1m", help="interval between restarts of the app; 0 disables", **_DURATION)
@click.option("--for", "duration", default="0", help="time until the demo ends; 0 is until Ctrl-C", **_DURATION)
@click.option("--tour", is_flag=True, show_default=False, help="step-by-step explanation of the closes as they happen")
def demo(app_port: int, bug_rate: float, bug_kind: str, **options: Any) -> None:
    """Run a chat server with a bug, clients, and the sidecar between them, until Ctrl-C."""
    try:
        demo = Demo(app=Address("127.0.0.1", app_port), bug=Bug(bug_rate, BugKind(bug_kind)), **options)
        asyncio.run(run(demo))
    except DemoError as error:
        raise click.ClickException(str(error)) from None
