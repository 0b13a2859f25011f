"""The commands `inject` and `webhook`: flags to settings, files to streams, errors to one line and exit status 2."""

from __future__ import annotations

import asyncio
import difflib
import signal
import ssl
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click

from exporter.address import Address, parse_listen
from exporter.kubernetes.errors import ManifestError
from exporter.kubernetes.inject import Scope
from exporter.kubernetes.inject import inject as inject_streams
from exporter.kubernetes.inject import remove as remove_from_streams
from exporter.kubernetes.manifest_stream import join_files
from exporter.kubernetes.settings import OPTIONS, PREFIX, TENANT_SETTINGS, Settings, matching
from exporter.kubernetes.workloads import TEMPLATES, parse_template_path
from exporter.listening import CannotListen, open_listeners
from exporter.options import Option, add_options, parsed
from exporter.units import parse_timeout

_ONLY = parsed(matching(r"[^/]+/[^/]+", "KIND/NAME (Deployment/chat)"))
_repeatable = partial(click.option, multiple=True)
_setting_options = add_options(OPTIONS.values(), check_required=False)


def _settings(options: dict[str, Any]) -> Settings:
    if options["image"] is None:
        raise click.UsageError(
            f"missing --image IMAGE, or {OPTIONS['image'].variable}: "
            "the sidecar's image in your registry (none is published)"
        )
    try:
        return Settings(**options)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _fail(command: str, message: str) -> NoReturn:
    click.echo(f"websocket-exporter {command}: {message}", err=True)
    sys.exit(2)


def _read(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return name and text of every input; `-` is standard input. Exits with one line if one cannot be read."""
    inputs = []
    for name in names:
        shown = "stdin" if name == "-" else name
        try:
            data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
            inputs.append((shown, data.decode("utf-8")))
        except OSError as error:
            _fail("inject", f"{shown}: {error.strerror}")
        except UnicodeDecodeError as error:
            _fail("inject", f"{shown}: byte {error.start} is not UTF-8")
    return inputs


def _diff(inputs: Iterable[tuple[str, str]], outputs: Iterable[str]) -> Iterator[str]:
    """Yield a unified diff of every input that changes."""
    for (name, before), after in zip(inputs, outputs, strict=True):
        lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), name, f"{name} (after)")
        for line in lines:
            yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


@click.command(name="inject", epilog=f"Annotations {PREFIX}NAME on a workload or its pod template override the flags.")
@_repeatable(
    "-f", "--filename", default=("-",), metavar="FILE", help="Manifest file; - is stdin, the default. Repeatable."
)
@click.option("--remove", is_flag=True, help="Remove the sidecar and restore the original.")
@_repeatable("--only", metavar="KIND/NAME", type=_ONLY, help="Workload to change; others pass through. Repeatable.")
@click.option("--diff", is_flag=True, help="Print a unified diff instead of the manifests.")
@click.option("--strict", is_flag=True, help="Fail on an object that takes no sidecar instead of a warning.")
@_repeatable(
    "--pod-template-path",
    metavar="KIND.GROUP=PATH",
    type=parsed(parse_template_path),
    help="Custom kind with a pod template, such as GameServer.agones.dev=spec.template. Repeatable.",
)
@_setting_options
def inject(
    filename: tuple[str, ...],
    remove: bool,
    only: tuple[str, ...],
    diff: bool,
    strict: bool,
    pod_template_path: tuple[tuple[str, str], ...],
    **options: Any,
) -> None:
    """Add the sidecar to Kubernetes manifests.

    Reads YAML or JSON, one object, many or a List, and writes the same with the sidecar in every workload; Services
    and NetworkPolicies in the input are changed to match, everything else passes through byte for byte. Warnings go
    to stderr. Invalid input prints one line on stderr, nothing on stdout, and exits with status 2.
    """
    change = remove_from_streams if remove else partial(inject_streams, settings=_settings(options))
    scope = Scope(only, strict, {**TEMPLATES, **dict(pod_template_path)})
    inputs = _read(filename)
    warnings: list[str] = []
    try:
        outputs = change(inputs, warn=warnings.append, scope=scope)
    except ManifestError as error:
        _fail("inject", str(error))
    for warning in warnings:
        click.echo(f"websocket-exporter inject: warning: {warning}", err=True)
    text = "".join(_diff(inputs, outputs)) if diff else join_files(outputs)
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


_NOT_TENANT = ", ".join(name for name in OPTIONS if name not in TENANT_SETTINGS)


def _parse_tenant(text: str) -> frozenset[str]:
    """Parse names of settings separated by commas or white space, or `all`."""
    names = frozenset(text.replace(",", " ").split())
    if names == {"all"}:
        return frozenset(OPTIONS)
    for name in sorted(names - OPTIONS.keys()):
        raise ValueError(f"{name!r} is no setting; expected all, or some of {_NOT_TENANT}")
    return names


_SERVER_OPTIONS = (
    Option("bind", ":8443", parse_listen, "Address for HTTPS.", "[HOST]:PORT"),
    Option("tls_cert", None, Path, "Certificate chain, PEM.", "PATH", required=True),
    Option("tls_key", None, Path, "Private key, PEM.", "PATH", required=True),
    Option("tls_check", "10s", parse_timeout, "Interval between checks for new TLS files.", "DURATION"),
    Option(
        "tenant_settings",
        "",
        _parse_tenant,
        f"Further settings that annotations may change, of {_NOT_TENANT}.",
        "NAME,...|all",
    ),
)


@click.command(name="webhook")
@add_options(_SERVER_OPTIONS)
@_setting_options
def webhook(
    bind: Address, tls_cert: Path, tls_key: Path, tls_check: float, tenant_settings: frozenset[str], **options: Any
) -> None:
    """Serve inject as a Kubernetes mutating admission webhook, POST /inject.

    Changes pods annotated websocket-exporter/inject: "true" and admits every pod. The sidecar's flags are those of
    inject; a pod's annotations override them, but image, resources and arguments only with --tenant-settings.
    """
    from exporter.kubernetes.webhook import serve
    from exporter.reloading_cert import ReloadingCert  # inject needs no server

    settings = _settings(options)
    try:
        certificate = ReloadingCert(tls_cert, tls_key)
    except (OSError, ssl.SSLError) as error:
        raise click.UsageError(f"--tls-cert {tls_cert}, --tls-key {tls_key}: {error.strerror or error}") from None

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(listeners, settings, TENANT_SETTINGS | tenant_settings, certificate, tls_check, stop)

    try:
        (listeners,) = open_listeners("--bind", bind)
    except CannotListen as error:
        _fail("webhook", str(error))
    asyncio.run(run())
