"""The settings of one sidecar: each a flag of `inject` and `webhook` and an annotation, defined once.

A field of `Settings` holds the default, the parser, the help and whether a tenant's annotation may set it when the
webhook injects. The flags, the annotations and the chart's values are made from `OPTIONS`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from exporter.kubernetes.errors import ManifestError, join
from exporter.options import Option, options_of, setting
from exporter.units import one_of, parse_bool, parse_duration, parse_port, parse_route

PREFIX = "websocket-exporter/"
INJECT = PREFIX + "inject"
ORIGINAL = PREFIX + "original"
"""JSON on a changed object: the values before `inject`, enough to undo it."""
STATUS = PREFIX + "status"
"""On a pod, by the webhook: why it has no sidecar although it is annotated for one."""
GENERATED = PREFIX + "generated-for"
"""On a PodMonitor made by `inject`: the workload it belongs to."""
_WRITTEN = {ORIGINAL, STATUS, GENERATED}

LABEL = PREFIX + "sidecar"
"""On every injected pod, "true": the label that deploy/kubernetes/networkpolicy selects."""
CONTAINER = "websocket-exporter"
ADMIN_PORT_NAME = "ws-metrics"
"""The port name that PodMonitors select. Kubernetes allows 15 characters (IANA_SVC_NAME)."""

NATIVE_SINCE = (1, 29)
"""Sidecar containers (init containers with restartPolicy Always) are on by default from here (KEP-753)."""
NATIVE_PORT_NAMES_SINCE = (1, 33)
"""Services resolve named ports of native sidecars from here; 1.29 to 1.32 search ordinary containers only
(kubernetes/kubernetes#128850, not backported)."""


class Scrape(StrEnum):
    """How Prometheus finds the sidecar."""

    ANNOTATIONS = "annotations"
    PODMONITOR = "podmonitor"
    NONE = "none"


def _parse_seconds(text: str) -> str:
    """Check a duration; the sidecar gets it as written."""
    parse_duration(text)
    return text


def matching(pattern: str, accepted: str, *, none: bool = False) -> Callable[[str], str | None]:
    """Return a parser for texts that match; with ``none``, "none" is None."""

    def parse(text: str) -> str | None:
        if none and text == "none":
            return None
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected {accepted}")
        return text

    return parse


def _parse_app_port(text: str) -> str:
    """Parse a port number, written without leading zeros, or a port name."""
    if text.isdecimal():
        return str(parse_port(text))
    if not re.fullmatch(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*", text):
        raise ValueError("expected a port number, or a port name (at most 15 of a-z, 0-9, -)")
    return text


def _parse_version(text: str) -> tuple[int, int]:
    """Parse a Kubernetes version: ``1.29`` or ``v1.29.3`` gives (1, 29)."""
    matched = re.fullmatch(r"v?(\d+)\.(\d+)(\.\d+)?", text)
    if matched is None:
        raise ValueError("expected a Kubernetes version (1.29)")
    return int(matched[1]), int(matched[2])


def _parse_scrape(text: str) -> Scrape:
    return Scrape(one_of(*Scrape)(text))


_operators = partial(setting, tenant=False)
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_CPU = r"[0-9]+m|[0-9]+(\.[0-9]{1,3})?", "a CPU quantity (25m, 0.5)"
_MEMORY = r"[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?", "a memory quantity (64Mi, 1Gi)"
_CONTAINER_NAME = r"(?=.{1,63}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?", "a container name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one sidecar. `image` is the only one without a default: there is no published image."""

    image: str = _operators(
        None, matching(r"\S+", "an image reference"), "Image of the sidecar.", "IMAGE", required=True
    )
    port: str | None = setting(
        None,
        _parse_app_port,
        "App's port, by name or number. Needed if the pod declares several.",
        "NAME|NUMBER",
        environment=False,  # Kubernetes sets WEBSOCKET_EXPORTER_PORT=tcp://... beside a Service of that name
    )
    container: str | None = setting(
        None, matching(*_CONTAINER_NAME), "App's container. Needed if the port alone is ambiguous.", "NAME"
    )
    route: tuple[str, ...] = setting(
        None, parse_route, "Path pattern to count apart, such as '/chat/*'. Repeatable.", "PATTERN", many=True
    )
    native: bool = _operators(
        "true",
        parse_bool,
        "Init container with restartPolicy Always (Kubernetes 1.29 and later), or an ordinary container.",
        negative="--classic",
    )
    kubernetes: tuple[int, int] = _operators(
        "1.29", _parse_version, "Oldest Kubernetes to support; before 1.29 implies --classic.", "VERSION"
    )
    image_pull_policy: str | None = _operators(
        None, one_of(*_PULL_POLICIES), "Image pull policy: Always, IfNotPresent or Never.", "POLICY"
    )
    listen_port: int = setting("10010", parse_port, "Port for the app's clients.", "PORT")
    admin_port: int = setting("10011", parse_port, "Port of /metrics, /livez, /readyz and /drain.", "PORT")
    # Endpoints and load balancers need seconds to learn that a pod goes; outside of Kubernetes nothing has to.
    drain_grace: str = setting("5s", _parse_seconds, "Time that a drain still accepts new sessions.", "DURATION")
    drain_spread: str = setting("20s", _parse_seconds, "Time over which a drain spreads its Closes.", "DURATION")
    # The grace, the spread and one close timeout together.
    drain_timeout: str = setting("30s", _parse_seconds, "Upper limit for the whole drain.", "DURATION")
    # The scrape interval that the Prometheus operator sets where none is given.
    drain_linger: str = setting("30s", _parse_seconds, "Wait for a last scrape after the drain.", "DURATION")
    close_timeout: str = setting("5s", _parse_seconds, "Time for a client to answer a Close.", "DURATION")
    hold_app: bool = setting(
        "true", parse_bool, "Add a preStop to the app that waits for the drain.", negative="--no-hold-app"
    )
    proxy_protocol: bool = setting(
        "false", parse_bool, "Send a PROXY v2 header to the app.", negative="--no-proxy-protocol"
    )
    scrape: Scrape = setting(
        "annotations", _parse_scrape, "Discovery by Prometheus: annotations, podmonitor or none.", "METHOD"
    )
    cpu_request: str = _operators("25m", matching(*_CPU), "CPU request.", "QUANTITY")
    cpu_limit: str | None = _operators(None, matching(*_CPU, none=True), "CPU limit, or none.", "QUANTITY")
    memory_request: str = _operators("64Mi", matching(*_MEMORY), "Memory request.", "QUANTITY")
    memory_limit: str | None = _operators("256Mi", matching(*_MEMORY, none=True), "Memory limit, or none.", "QUANTITY")
    extra_arg: tuple[str, ...] = _operators(
        None, str, "Further argument of the sidecar's command line. Repeatable.", "ARG", many=True, lines=True
    )

    def __post_init__(self) -> None:
        """Raise ValueError for settings that contradict each other."""
        if self.listen_port == self.admin_port:
            raise ValueError(f"listen-port and admin-port are both {self.listen_port}")
        drain = sum(parse_duration(text) for text in (self.drain_grace, self.drain_spread, self.close_timeout))
        if drain > parse_duration(self.drain_timeout):
            raise ValueError(
                f"drain-timeout {self.drain_timeout} is shorter than drain-grace {self.drain_grace}, "
                f"drain-spread {self.drain_spread} and close-timeout {self.close_timeout} together"
            )

    @property
    def runs_native(self) -> bool:
        """Whether the sidecar is an init container with restartPolicy Always."""
        return self.native and self.kubernetes >= NATIVE_SINCE

    @property
    def mirrors_port_name(self) -> bool:
        """Whether Services look for a port's name in ordinary containers only, not in the sidecar."""
        return self.runs_native and self.kubernetes < NATIVE_PORT_NAMES_SINCE

    @property
    def drain_seconds(self) -> int:
        """Whole seconds that a drain may take."""
        return math.ceil(parse_duration(self.drain_timeout))


OPTIONS: Mapping[str, Option] = {option.name: option for option in options_of(Settings)}
"""Every setting, by the name that flags and annotations have."""
_ANNOTATIONS = {"inject": Option("inject", None, parse_bool, "Whether to inject."), **OPTIONS}
TENANT_SETTINGS = frozenset(name for name, option in OPTIONS.items() if option.tenant)
"""Settings that annotations may change when the webhook injects, unless --tenant-settings adds others."""


def parse_annotations(annotations: Mapping[str, str], path: str) -> dict[str, str]:
    """Return the settings among annotations, and `inject`, as name to text. path: of the annotations.

    Raises ManifestError for an unknown name below the prefix and for an invalid value.
    """
    found: dict[str, str] = {}
    for key, text in annotations.items():
        if not key.startswith(PREFIX) or key in _WRITTEN:
            continue
        option = _ANNOTATIONS.get(name := key.removeprefix(PREFIX))
        if option is None:
            raise ManifestError(join(path, key), f"unknown annotation; known are {', '.join(_ANNOTATIONS)}")
        try:
            option.read(text)
        except ValueError as error:
            raise ManifestError(join(path, key), str(error)) from None
        found[name] = text
    return found


def settings_of(settings: Settings, texts: Mapping[str, str], allowed: Collection[str] = OPTIONS.keys()) -> Settings:
    """Return the settings with those of a workload's texts that are `allowed` over them. Raises ManifestError."""
    options = [OPTIONS[name] for name in texts if name in allowed]
    try:
        return replace(settings, **{option.field: option.read(texts[option.name]) for option in options})
    except ValueError as error:
        raise ManifestError("metadata.annotations", str(error)) from None
