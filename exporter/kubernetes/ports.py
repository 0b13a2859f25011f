"""The app's port in a pod: by name, by number, or the only one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from exporter.kubernetes.errors import ManifestError, NotInjectable, kind_of, list_at, metadata_of
from exporter.kubernetes.settings import PREFIX, Settings

_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
_NAME_LENGTH = 15
_LISTED = 5
"""Ports that an error message lists."""


@dataclass(frozen=True, slots=True)
class ContainerPort:
    """A TCP port of a container. `entry` is its item in the container's `ports`, None if it is not declared."""

    number: int
    name: str | None
    container: dict[str, Any]
    container_path: str
    entry: dict[str, Any] | None

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.container.get("name"), self.name, self.number) if part)


def declared(spec: dict[str, Any]) -> Iterator[ContainerPort]:
    """Yield every TCP port that the ordinary containers of a pod spec declare. Raises ManifestError."""
    for index, container in enumerate(list_at(spec, "containers", "spec")):
        container_path = f"spec.containers[{index}]"
        for number, entry in enumerate(list_at(container, "ports", container_path)):
            port, name, where = entry.get("containerPort"), entry.get("name"), f"{container_path}.ports[{number}]"
            if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
                shown = port if isinstance(port, int | str) else kind_of(port)
                raise ManifestError(f"{where}.containerPort", f"must be a port number (1 to 65535), is {shown}")
            if not isinstance(name, str | None):
                raise ManifestError(f"{where}.name", f"must be a string, is {kind_of(name)}")
            if entry.get("protocol", "TCP") == "TCP":
                yield ContainerPort(port, name, container, container_path, entry)


def app_port(template: dict[str, Any], settings: Settings) -> ContainerPort:
    """Return the port to put the sidecar in front of.

    Raises NotInjectable if there is no TCP port, ManifestError if the port cannot be determined.
    """
    spec, where = template["spec"], "spec.containers"
    containers = list_at(spec, "containers", "spec")
    if not containers:
        raise ManifestError(where, "there is no container")
    hint = f"choose with --port or the annotation {PREFIX}port"
    wanted = settings.container
    if wanted is not None and all(container.get("name") != wanted for container in containers):
        raise ManifestError(where, f"no container is named {wanted!r}")
    fitting = [
        port
        for port in declared(spec)
        if wanted in (None, port.container.get("name")) and settings.port in (None, port.name, str(port.number))
    ]
    if not fitting:
        if settings.port is None:
            raise NotInjectable(where, f"no container declares a TCP port; {hint}")
        if settings.port.isdecimal():
            return _undeclared(template, containers, int(settings.port), wanted)
        raise ManifestError(where, f"no container declares a TCP port named {settings.port!r}")
    if len(fitting) > 1:
        found = ", ".join(map(str, fitting[:_LISTED])) + (", ..." if len(fitting) > _LISTED else "")
        if settings.port is not None:
            hint = f"choose with --container or the annotation {PREFIX}container"
        raise ManifestError(where, f"there are several ports ({found}); {hint}, or leave it out with --only")
    return fitting[0]


def _undeclared(
    template: dict[str, Any], containers: list[dict[str, Any]], number: int, wanted: str | None
) -> ContainerPort:
    """Return a port that no container declares: containerPort only informs, so the app may listen there."""
    only = containers[0].get("name") if len(containers) == 1 else None
    name = wanted or metadata_of(template, "annotations").get(_DEFAULT_CONTAINER) or only
    for index, container in enumerate(containers):
        if container.get("name") == name:
            return ContainerPort(number, None, container, f"spec.containers[{index}]", None)
    raise ManifestError(
        "spec.containers",
        f"no container declares port {number}; choose one with --container or the annotation {PREFIX}container",
    )


def free_name(wish: str, spec: dict[str, Any]) -> str:
    """Return a port name that is free in a pod spec: `wish`, cut to 15 characters, with a number if it is taken."""
    used = {
        entry["name"]
        for key in ("initContainers", "containers")
        for index, container in enumerate(list_at(spec, key, "spec"))
        for entry in list_at(container, "ports", f"spec.{key}[{index}]")
        if isinstance(entry.get("name"), str)
    }
    endings = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    names = (wish[: _NAME_LENGTH - len(ending)].rstrip("-") + ending for ending in endings)
    return next(name for name in names if name not in used)
