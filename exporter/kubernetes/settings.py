"""What the sidecar shall be like: one frozen object, filled from flags, overridden per workload by
annotations.

Every setting is a flag of `inject` and `webhook` (`--drain-timeout`) and an annotation
(`websocket-exporter/drain-timeout`) of the same name; its reader below is the one place that says what is
accepted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from exporter import __version__
from exporter.kubernetes.errors import ManifestError, join
from exporter.units import parse_duration

PREFIX = "websocket-exporter/"
INJECT = PREFIX + "inject"
ORIGINAL = PREFIX + "original"
"""JSON, on a pod template or a Service: what `inject` changed, enough to undo it."""
STATUS = PREFIX + "status"
"""On a pod, by the webhook: why there is no sidecar in it although it asked for one."""
GENERATED = PREFIX + "generated-for"
"""On a PodMonitor that `inject` made: the workload it was made for."""

_OURS = {ORIGINAL, STATUS, GENERATED}
CONTAINER = "websocket-exporter"
ADMIN_PORT_NAME = "ws-metrics"
"""What PodMonitors select. At most 15 characters (IANA_SVC_NAME, as Kubernetes checks port names)."""

NATIVE_SINCE = (1, 29)
"""Sidecar containers (init containers with restartPolicy Always) are on by default from here (KEP-753)."""
NATIVE_PORT_NAMES_SINCE = (1, 33)
"""Services find named ports of native sidecars from here; 1.29 to 1.32 look at ordinary containers only
(kubernetes/kubernetes#128850, not backported)."""

DEFAULT_DRAIN_GRACE = "5s"
"""For endpoints to travel to every node and load balancer. The sidecar's own default is none: that is for
outside of Kubernetes, where nothing has to learn."""
DEFAULT_DRAIN_SPREAD = "20s"
DEFAULT_CLOSE_TIMEOUT = "5s"
DEFAULT_DRAIN_TIMEOUT = "30s"
"""Grace, spread and one close timeout fit into it exactly."""
DEFAULT_DRAIN_LINGER = "30s"
"""The scrape interval that the Prometheus operator gives where none is set."""

_CPU = re.compile(r"\d+m|\d+(\.\d{1,3})?")
_MEMORY = re.compile(r"\d+(\.\d+)?(Ki|Mi|Gi|Ti|k|M|G|T)?")
_PORT_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
_CONTAINER_NAME = re.compile(r"(?=.{1,63}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?")


class Scrape(StrEnum):
    """How Prometheus shall find the sidecar."""

    ANNOTATIONS = "annotations"
    PODMONITOR = "podmonitor"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Settings:
    """The wish for one sidecar. `None` means: find it out, or leave it out."""

    port: str | None = None
    container: str | None = None
    route: tuple[str, ...] = ()
    native: bool = True
    kubernetes: tuple[int, int] = NATIVE_SINCE
    image: str = f"websocket-exporter:{__version__}"
    image_pull_policy: str | None = None
    listen_port: int = 10010
    admin_port: int = 10011
    drain_grace: str = DEFAULT_DRAIN_GRACE
    drain_spread: str = DEFAULT_DRAIN_SPREAD
    drain_timeout: str = DEFAULT_DRAIN_TIMEOUT
    drain_linger: str = DEFAULT_DRAIN_LINGER
    close_timeout: str = DEFAULT_CLOSE_TIMEOUT
    hold_app: bool = True
    proxy_protocol: bool = False
    scrape: Scrape = Scrape.ANNOTATIONS
    cpu_request: str = "25m"
    cpu_limit: str | None = None
    memory_request: str = "64Mi"
    memory_limit: str | None = "256Mi"
    extra_arg: tuple[str, ...] = ()

    @property
    def runs_native(self) -> bool:
        """Whether the sidecar becomes an init container with restartPolicy Always."""
        return self.native and self.kubernetes >= NATIVE_SINCE


def read_duration(text: str) -> str:
    """The text itself, once it is known to be a duration."""
    try:
        parse_duration(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a duration: {error}") from error
    return text


def read_bool(text: str) -> bool:
    """`true` or `false`."""
    if text not in {"true", "false"}:
        raise ValueError(f'{text!r} is neither "true" nor "false"')
    return text == "true"


def read_port(text: str) -> str:
    """A port number (1 to 65535) or a port name as Kubernetes has them."""
    if text.isdecimal():
        return str(read_number(text))
    if not _PORT_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is neither a port number nor a port name (at most 15 of a-z, 0-9, -)")
    return text


def read_number(text: str) -> int:
    """A port number, 1 to 65535."""
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65535):
        raise ValueError(f"{text!r} is not a port number (1 to 65535)")
    return int(text)


def read_container(text: str) -> str:
    """A container's name (RFC 1123 label)."""
    if not _CONTAINER_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a container name")
    return text


def read_list(text: str) -> tuple[str, ...]:
    """One entry a line; blank lines are nothing."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def read_routes(text: str) -> tuple[str, ...]:
    """Path patterns between blanks or line breaks, as in the sidecar's environment; each begins with a slash."""
    patterns = tuple(text.split())
    for pattern in patterns:
        if not pattern.startswith("/") or not pattern.isprintable():
            raise ValueError(f"{pattern!r} is not a pattern for paths that begins with a slash (/chat/*)")
    return patterns


def read_version(text: str) -> tuple[int, int]:
    """`1.29` or `v1.29.3` gives (1, 29)."""
    matched = re.fullmatch(r"v?(\d+)\.(\d+)(\.\d+)?", text)
    if matched is None:
        raise ValueError(f"{text!r} is not a Kubernetes version (1.29)")
    return int(matched[1]), int(matched[2])


def read_image(text: str) -> str:
    """An image reference: any text without blanks."""
    if not text or any(character.isspace() for character in text):
        raise ValueError(f"{text!r} is not an image reference")
    return text


def read_pull_policy(text: str) -> str:
    """Always, IfNotPresent or Never."""
    if text not in {"Always", "IfNotPresent", "Never"}:
        raise ValueError(f"{text!r} is none of Always, IfNotPresent, Never")
    return text


def read_scrape(text: str) -> Scrape:
    """annotations, podmonitor or none."""
    if text not in set(Scrape):
        raise ValueError(f"{text!r} is none of {', '.join(Scrape)}")
    return Scrape(text)


def read_cpu(text: str) -> str:
    """A CPU quantity: `25m`, `0.5`, `1`."""
    return _quantity(text, _CPU, "a CPU quantity (25m, 0.5)")


def read_memory(text: str) -> str:
    """A memory quantity: `64Mi`, `1Gi`."""
    return _quantity(text, _MEMORY, "a memory quantity (64Mi, 1Gi)")


def _quantity(text: str, pattern: re.Pattern[str], what: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f"{text!r} is not {what}")
    return text


def _optional(reader: Callable[[str], str]) -> Callable[[str], str | None]:
    def read(text: str) -> str | None:
        return None if text == "none" else reader(text)

    return read


READERS: dict[str, Callable[[str], Any]] = {
    "port": read_port,
    "container": read_container,
    "route": read_routes,
    "native": read_bool,
    "kubernetes": read_version,
    "image": read_image,
    "image-pull-policy": read_pull_policy,
    "listen-port": read_number,
    "admin-port": read_number,
    "drain-grace": read_duration,
    "drain-spread": read_duration,
    "drain-timeout": read_duration,
    "drain-linger": read_duration,
    "close-timeout": read_duration,
    "hold-app": read_bool,
    "proxy-protocol": read_bool,
    "scrape": read_scrape,
    "cpu-request": read_cpu,
    "cpu-limit": _optional(read_cpu),
    "memory-request": read_memory,
    "memory-limit": _optional(read_memory),
    "extra-arg": read_list,
}
"""Setting name, as in flags and annotations, to the function that reads its text (raises ValueError)."""


def override(settings: Settings, texts: dict[str, str]) -> Settings:
    """The settings with `texts` (setting name to text) over them. Raises ValueError for a text that does not
    fit.
    """
    return replace(settings, **{name.replace("-", "_"): READERS[name](text) for name, text in texts.items()})


def check(settings: Settings) -> None:
    """Raises ValueError if settings contradict each other."""
    if settings.listen_port == settings.admin_port:
        raise ValueError(f"listen-port and admin-port are both {settings.listen_port}")
    drain = sum(parse_duration(text) for text in (settings.drain_grace, settings.drain_spread, settings.close_timeout))
    if drain > parse_duration(settings.drain_timeout):
        raise ValueError(
            f"drain-timeout {settings.drain_timeout} is shorter than drain-grace {settings.drain_grace}, "
            f"drain-spread {settings.drain_spread} and close-timeout {settings.close_timeout} together"
        )


def drain_seconds(settings: Settings) -> int:
    """Whole seconds a drain may take."""
    return math.ceil(parse_duration(settings.drain_timeout))


def linger_seconds(settings: Settings) -> int:
    """Whole seconds the sidecar may wait for its last scrape."""
    return math.ceil(parse_duration(settings.drain_linger))


def parse_annotations(annotations: Mapping[str, str], path: str) -> dict[str, str]:
    """Our settings among annotations: setting name to text, each checked. `path` is that of the annotations.

    Raises ManifestError for an unknown name under our prefix and for a value that does not fit.
    """
    found: dict[str, str] = {}
    for key, text in annotations.items():
        if not key.startswith(PREFIX) or key in _OURS:
            continue
        name = key.removeprefix(PREFIX)
        reader = read_bool if key == INJECT else READERS.get(name)
        if reader is None:
            known = ", ".join(["inject", *READERS])
            raise ManifestError(join(path, key), f"is not an annotation of ours; known are {known}")
        try:
            reader(text)
        except ValueError as error:
            raise ManifestError(join(path, key), str(error)) from None
        found[name] = text
    return found


def settings_of(settings: Settings, texts: Mapping[str, str], path: str) -> Settings:
    """The settings with a workload's wishes over them. Raises ManifestError if they contradict each other."""
    changed = override(settings, {name: text for name, text in texts.items() if name != "inject"})
    try:
        check(changed)
    except ValueError as error:
        raise ManifestError(path, str(error)) from None
    return changed
