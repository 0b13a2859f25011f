"""The settings of one sidecar: each a flag of `inject` and `webhook` and an annotation, defined once.

A field of `Settings` holds the default, the parser, the help and whether a tenant's annotation may set it when the
webhook injects. The flags, the annotations and the chart's values are made from `OPTIONS`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from exporter.kubernetes.errors import ManifestError, join
from exporter.units import parse_duration

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

_CPU = re.compile(r"\d+m|\d+(\.\d{1,3})?")
_MEMORY = re.compile(r"\d+(\.\d+)?(Ki|Mi|Gi|Ti|k|M|G|T)?")
_PORT_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
_CONTAINER_NAME = re.compile(r"(?=.{1,63}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?")


class Scrape(StrEnum):
    """How Prometheus finds the sidecar."""

    ANNOTATIONS = "annotations"
    PODMONITOR = "podmonitor"
    NONE = "none"


def parse_seconds(text: str) -> str:
    """Return the text if it is a duration: the sidecar gets it as written."""
    try:
        parse_duration(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a duration: {error}") from error
    return text


def parse_bool(text: str) -> bool:
    """Parse `true` or `false`."""
    if text not in {"true", "false"}:
        raise ValueError(f'{text!r} is neither "true" nor "false"')
    return text == "true"


def parse_port(text: str) -> str:
    """Parse a port number (1 to 65535) or a port name."""
    if text.isdecimal():
        return str(parse_port_number(text))
    if not _PORT_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is neither a port number nor a port name (at most 15 of a-z, 0-9, -)")
    return text


def parse_port_number(text: str) -> int:
    """Parse a port number, 1 to 65535."""
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65535):
        raise ValueError(f"{text!r} is not a port number (1 to 65535)")
    return int(text)


def parse_container(text: str) -> str:
    """Parse a container name (RFC 1123 label)."""
    if not _CONTAINER_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a container name")
    return text


def parse_lines(text: str) -> tuple[str, ...]:
    """Parse one entry per line; blank lines are skipped."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def parse_routes(text: str) -> tuple[str, ...]:
    """Parse path patterns separated by white space, as in WEBSOCKET_EXPORTER_ROUTE."""
    patterns = tuple(text.split())
    for pattern in patterns:
        if not pattern.startswith("/") or not pattern.isprintable():
            raise ValueError(f"{pattern!r} is not a pattern for paths that begins with a slash (/chat/*)")
    return patterns


def parse_version(text: str) -> tuple[int, int]:
    """Parse a Kubernetes version: `1.29` or `v1.29.3` gives (1, 29)."""
    matched = re.fullmatch(r"v?(\d+)\.(\d+)(\.\d+)?", text)
    if matched is None:
        raise ValueError(f"{text!r} is not a Kubernetes version (1.29)")
    return int(matched[1]), int(matched[2])


def parse_image(text: str) -> str:
    """Parse an image reference: any text without white space."""
    if not text or any(character.isspace() for character in text):
        raise ValueError(f"{text!r} is not an image reference")
    return text


def parse_scrape(text: str) -> Scrape:
    """Parse annotations, podmonitor or none."""
    return Scrape(_one_of(*Scrape)(text))


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is none of {', '.join(choices)}")
        return text

    return parse


def _quantity(pattern: re.Pattern[str], kind: str, *, optional: bool) -> Callable[[str], str | None]:
    """Return a parser for a resource quantity; "none" means no limit where that is allowed."""

    def parse(text: str) -> str | None:
        if optional and text == "none":
            return None
        if not pattern.fullmatch(text):
            raise ValueError(f"{text!r} is not {kind}")
        return text

    return parse


_CPU_KIND, _MEMORY_KIND = "a CPU quantity (25m, 0.5)", "a memory quantity (64Mi, 1Gi)"


@dataclass(frozen=True, slots=True)
class Option:
    """One setting as users write it. name: in flags and annotations. default: as text, None without one."""

    name: str
    default: str | None
    parse: Callable[[str], Any]
    help: str
    metavar: str
    many: bool
    flags: str
    """The flag, or both flags of a switch."""
    switch: bool
    tenant: bool
    """Whether an annotation may set it when the webhook injects."""
    environment: bool

    @property
    def field(self) -> str:
        """The name of the field of `Settings`."""
        return self.name.replace("-", "_")


def _option(
    default: str | None,
    parse: Callable[[str], Any],
    help: str,
    metavar: str = "",
    *,
    many: bool = False,
    required: bool = False,
    flags: str = "",
    tenant: bool = True,
    environment: bool = True,
) -> Any:
    made = MISSING if required else () if many else None if default is None else parse(default)
    given = {
        "default": default,
        "parse": parse,
        "help": help,
        "metavar": metavar,
        "many": many,
        "flags": flags,
        "switch": parse is parse_bool,
        "tenant": tenant,
        "environment": environment,
    }
    return field(default=made, metadata=given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one sidecar. `image` is the only one without a default: there is no published image."""

    image: str = _option(None, parse_image, "Image of the sidecar.", "IMAGE", required=True, tenant=False)
    port: str | None = _option(
        None,
        parse_port,
        "App's port, by name or number. Needed if the pod declares several.",
        "NAME|NUMBER",
        environment=False,  # Kubernetes sets WEBSOCKET_EXPORTER_PORT=tcp://... beside a Service of that name
    )
    container: str | None = _option(
        None, parse_container, "App's container. Needed if the port alone is ambiguous.", "NAME"
    )
    route: tuple[str, ...] = _option(
        None, parse_routes, "Path pattern to count apart, such as '/chat/*'. Repeatable.", "PATTERN", many=True
    )
    native: bool = _option(
        "true",
        parse_bool,
        "Init container with restartPolicy Always (Kubernetes 1.29 and later), or an ordinary container.",
        flags="--native/--classic",
        tenant=False,
    )
    kubernetes: tuple[int, int] = _option(
        "1.29", parse_version, "Oldest Kubernetes to support; before 1.29 implies --classic.", "VERSION", tenant=False
    )
    image_pull_policy: str | None = _option(
        None,
        _one_of("Always", "IfNotPresent", "Never"),
        "Image pull policy: Always, IfNotPresent or Never.",
        "POLICY",
        tenant=False,
    )
    listen_port: int = _option("10010", parse_port_number, "Port for the app's clients.", "PORT")
    admin_port: int = _option("10011", parse_port_number, "Port of /metrics, /livez, /readyz and /drain.", "PORT")
    # Endpoints and load balancers need seconds to learn that a pod goes; outside of Kubernetes nothing has to.
    drain_grace: str = _option("5s", parse_seconds, "Time that a drain still accepts new sessions.", "DURATION")
    drain_spread: str = _option("20s", parse_seconds, "Time over which a drain spreads its Closes.", "DURATION")
    # The grace, the spread and one close timeout together.
    drain_timeout: str = _option("30s", parse_seconds, "Upper limit for the whole drain.", "DURATION")
    # The scrape interval that the Prometheus operator sets where none is given.
    drain_linger: str = _option("30s", parse_seconds, "Wait for a last scrape after the drain.", "DURATION")
    close_timeout: str = _option("5s", parse_seconds, "Time for a client to answer a Close.", "DURATION")
    hold_app: bool = _option(
        "true", parse_bool, "Add a preStop to the app that waits for the drain.", flags="--hold-app/--no-hold-app"
    )
    proxy_protocol: bool = _option(
        "false", parse_bool, "Send a PROXY v2 header to the app.", flags="--proxy-protocol/--no-proxy-protocol"
    )
    scrape: Scrape = _option(
        "annotations", parse_scrape, "Discovery by Prometheus: annotations, podmonitor or none.", "METHOD"
    )
    cpu_request: str = _option(
        "25m", _quantity(_CPU, _CPU_KIND, optional=False), "CPU request.", "QUANTITY", tenant=False
    )
    cpu_limit: str | None = _option(
        None, _quantity(_CPU, _CPU_KIND, optional=True), "CPU limit, or none.", "QUANTITY", tenant=False
    )
    memory_request: str = _option(
        "64Mi", _quantity(_MEMORY, _MEMORY_KIND, optional=False), "Memory request.", "QUANTITY", tenant=False
    )
    memory_limit: str | None = _option(
        "256Mi", _quantity(_MEMORY, _MEMORY_KIND, optional=True), "Memory limit, or none.", "QUANTITY", tenant=False
    )
    extra_arg: tuple[str, ...] = _option(
        None, parse_lines, "Further argument of the sidecar's command line. Repeatable.", "ARG", many=True, tenant=False
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
    def drain_seconds(self) -> int:
        """Whole seconds that a drain may take."""
        return math.ceil(parse_duration(self.drain_timeout))

    @property
    def linger_seconds(self) -> int:
        """Whole seconds that the sidecar may wait for its last scrape."""
        return math.ceil(parse_duration(self.drain_linger))


def _options() -> dict[str, Option]:
    found = {}
    for one in fields(Settings):
        name = one.name.replace("_", "-")
        flags = one.metadata["flags"] or f"--{name}"
        found[name] = Option(name=name, **{**one.metadata, "flags": flags})
    return found


OPTIONS: Mapping[str, Option] = _options()
"""Every setting, by the name that flags and annotations have."""
TENANT_SETTINGS = frozenset(name for name, option in OPTIONS.items() if option.tenant)
"""Settings that annotations may change when the webhook injects, unless --tenant-settings adds others."""


def override(settings: Settings, texts: Mapping[str, str]) -> Settings:
    """Return the settings with `texts` (name to text) over them. Raises ValueError."""
    return replace(settings, **{OPTIONS[name].field: OPTIONS[name].parse(text) for name, text in texts.items()})


def parse_annotations(annotations: Mapping[str, str], path: str) -> dict[str, str]:
    """Return the settings among annotations, and `inject`, as name to text. path: of the annotations.

    Raises ManifestError for an unknown name below the prefix and for an invalid value.
    """
    found: dict[str, str] = {}
    for key, text in annotations.items():
        if not key.startswith(PREFIX) or key in _WRITTEN:
            continue
        name = key.removeprefix(PREFIX)
        if key != INJECT and name not in OPTIONS:
            known = ", ".join(["inject", *OPTIONS])
            raise ManifestError(join(path, key), f"unknown annotation; known are {known}")
        try:
            (parse_bool if key == INJECT else OPTIONS[name].parse)(text)
        except ValueError as error:
            raise ManifestError(join(path, key), str(error)) from None
        found[name] = text
    return found


def settings_of(
    settings: Settings, texts: Mapping[str, str], path: str, allowed: Collection[str] = OPTIONS.keys()
) -> Settings:
    """Return the settings with a workload's annotations over them, those that are `allowed`.

    Raises ManifestError if they contradict each other.
    """
    try:
        return override(settings, {name: text for name, text in texts.items() if name in allowed})
    except ValueError as error:
        raise ManifestError(path, str(error)) from None
