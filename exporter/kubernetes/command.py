"""The commands `inject` and `webhook`: flags to settings, files to streams, problems to one line and exit
status 2.
"""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from exporter.address import parse_listen
from exporter.kubernetes.errors import ManifestError
from exporter.kubernetes.inject import inject as inject_streams
from exporter.kubernetes.inject import remove as remove_from_streams
from exporter.kubernetes.settings import PREFIX, READERS, Settings, check
from exporter.units import parse_duration

_Command = TypeVar("_Command", bound=Callable[..., Any])

_HELP = {
    "port": "The app's port, by name or number. Needed if the pod declares several.",
    "container": "The app's container, if its port alone does not tell.",
    "route": "A path pattern to count apart, like '/chat/*'. May be given several times.",
    "image": "The sidecar's image.",
    "image-pull-policy": "Always, IfNotPresent or Never.",
    "listen-port": "Where the sidecar listens for the app's clients.",
    "admin-port": "Where the sidecar has /metrics, /livez, /readyz and /drain.",
    "drain-grace": "How long a drain still serves new handshakes before it tells sessions.",
    "drain-spread": "Over which time a drain tells the sessions.",
    "drain-timeout": "How long a drain may take at most.",
    "drain-linger": "How long the sidecar waits for its last scrape after a drain.",
    "close-timeout": "How long a client may take to answer a Close.",
    "cpu-request": "CPU the sidecar asks for.",
    "cpu-limit": "CPU the sidecar may use, or none.",
    "memory-request": "Memory the sidecar asks for.",
    "memory-limit": "Memory the sidecar may use, or none.",
    "scrape": "How Prometheus finds it: annotations, podmonitor or none.",
    "kubernetes": "The oldest Kubernetes it must run on; before 1.29 means --classic.",
    "extra-arg": "One more argument for the sidecar's command line. May be given several times.",
}
_MULTIPLE = {"route", "extra-arg"}
_NO_ENVIRONMENT = {"port"}
"""Kubernetes sets WEBSOCKET_EXPORTER_PORT=tcp://... beside a Service of the name websocket-exporter."""


def _reader(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A click callback that reads a setting's text by the setting's own reader."""

    def read(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        try:
            found = READERS[name](text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        return found

    def callback(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
        return tuple(one for text in value for one in read(text)) if name in _MULTIPLE else read(value)

    return callback


def _setting_options(command: _Command) -> _Command:
    """The flags that inject and webhook share: one for each setting."""
    default = Settings()
    for name, text in reversed(_HELP.items()):
        value = getattr(default, name.replace("-", "_"))
        value = ".".join(map(str, value)) if name == "kubernetes" else value
        command = click.option(
            f"--{name}",
            type=str,
            callback=_reader(name),
            multiple=name in _MULTIPLE,
            default=None if name in _MULTIPLE or value is None else str(value),
            envvar=None if name in _NO_ENVIRONMENT else f"WEBSOCKET_EXPORTER_{name.replace('-', '_').upper()}",
            show_default=True,
            help=text,
        )(command)
    switches: list[tuple[str, str, bool, str]] = [
        (
            "--native/--classic",
            "native",
            True,
            "An init container that stays (Kubernetes 1.29 and later), or an ordinary one.",
        ),
        ("--hold-app/--no-hold-app", "hold_app", True, "Give the app a preStop that waits for the drain."),
        ("--proxy-protocol/--no-proxy-protocol", "proxy_protocol", False, "Send the app a PROXY v2 header."),
    ]
    for flags, name, on, text in reversed(switches):
        command = click.option(
            flags, name, default=on, show_default=True, envvar=f"WEBSOCKET_EXPORTER_{name.upper()}", help=text
        )(command)
    return command


def _settings(options: dict[str, Any]) -> Settings:
    settings = Settings(**options)
    try:
        check(settings)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return settings


def _fail(command: str, message: str) -> NoReturn:
    click.echo(f"websocket-exporter {command}: {message}", err=True)
    sys.exit(2)


def _read(names: Iterable[str]) -> list[tuple[str, str]]:
    """Name and text of every input; `-` is standard input. Ends the command on what cannot be read."""
    inputs = []
    for name in names:
        shown = "stdin" if name == "-" else name
        try:
            if name == "-":
                data = sys.stdin.buffer.read()
            else:
                with open(name, "rb") as file:
                    data = file.read()
            inputs.append((shown, data.decode("utf-8")))
        except OSError as error:
            _fail("inject", f"{shown}: {error.strerror}")
        except UnicodeDecodeError as error:
            _fail("inject", f"{shown}: byte {error.start} is not UTF-8")
    return inputs


@click.command(name="inject", epilog=f"Annotations {PREFIX}NAME on a workload or its pod template override the flags.")
@click.option(
    "-f",
    "--filename",
    multiple=True,
    default=("-",),
    show_default=False,
    help="A manifest file; - is stdin, the default.",
)
@click.option("--remove", is_flag=True, help="Take the sidecar out instead, and give back the original.")
@_setting_options
def inject(filename: tuple[str, ...], remove: bool, **options: Any) -> None:
    """Put the sidecar into Kubernetes manifests.

    Reads YAML or JSON, one object, many or a List, and writes the same with the sidecar in every workload and
    the Services before it sent to the sidecar. What else is in the stream passes through. Warnings go to
    stderr. Bad input is one line on stderr, exit status 2, and nothing on stdout.
    """
    settings = _settings(options)
    inputs = _read(filename)
    warnings: list[str] = []
    try:
        text = (
            remove_from_streams(inputs, warnings.append)
            if remove
            else inject_streams(inputs, settings, warnings.append)
        )
    except ManifestError as error:
        _fail("inject", str(error))
    for warning in warnings:
        click.echo(f"websocket-exporter inject: warning: {warning}", err=True)
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


def _address(text: str) -> tuple[str | None, int]:
    try:
        address = parse_listen(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not an address (:8443, 127.0.0.1:8443)", param_hint="'--bind'") from None
    return address.host or None, address.port


def _interval(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    try:
        found = parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if found <= 0:
        raise click.BadParameter(f"{value!r} must be more than nothing")
    return found


@click.command(name="webhook")
@click.option(
    "--bind",
    default=":8443",
    envvar="WEBSOCKET_EXPORTER_BIND",
    show_default=True,
    help="Where to serve HTTPS.",
)
@click.option(
    "--tls-cert",
    type=click.Path(path_type=Path),
    required=True,
    envvar="WEBSOCKET_EXPORTER_TLS_CERT",
    help="The certificate chain, PEM.",
)
@click.option(
    "--tls-key",
    type=click.Path(path_type=Path),
    required=True,
    envvar="WEBSOCKET_EXPORTER_TLS_KEY",
    help="The private key, PEM.",
)
@click.option(
    "--tls-check",
    default="10s",
    show_default=True,
    callback=_interval,
    envvar="WEBSOCKET_EXPORTER_TLS_CHECK",
    help="How often to look for new ones.",
)
@_setting_options
def webhook(bind: str, tls_cert: Path, tls_key: Path, tls_check: float, **options: Any) -> None:
    """Serve inject as a Kubernetes mutating admission webhook, POST /inject.

    Changes pods annotated websocket-exporter/inject: "true" and lets every pod through. The sidecar's flags
    are as for inject; annotations override them per pod.
    """
    from exporter.kubernetes.webhook import serve
    from exporter.reloading_cert import ReloadingCert  # the server is not for inject to load

    settings = _settings(options)
    host, port = _address(bind)
    try:
        certificate = ReloadingCert(tls_cert, tls_key)
    except (OSError, ssl.SSLError) as error:
        _fail("webhook", f"--tls-cert {tls_cert}, --tls-key {tls_key}: {error.strerror or error}")

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(settings, host, port, certificate, tls_check, stop)

    try:
        asyncio.run(run())
    except OSError as error:
        _fail("webhook", f"--bind {bind}: {error.strerror or error}")
