"""Which port of a pod is the app's: by name, by number, or the only one there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from exporter.kubernetes.errors import ManifestError, kind_of, list_at
from exporter.kubernetes.settings import PREFIX, Settings

_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


@dataclass(frozen=True, slots=True)
class ContainerPort:
    """The app's port. `entry` is its line in the container's `ports`, None if the manifest does not declare
    it.
    """

    number: int
    container: dict[str, Any]
    container_path: str
    entry: dict[str, Any] | None

    @property
    def name(self) -> str | None:
        """The port's name, if it has one."""
        return self.entry.get("name") if self.entry else None


def declared(spec: dict[str, Any], path: str) -> Iterator[ContainerPort]:
    """Every TCP port the ordinary containers of a pod spec declare. Raises ManifestError for a bad one."""
    for index, container in enumerate(list_at(spec, "containers", path)):
        container_path = f"{path}.containers[{index}]"
        for number, entry in enumerate(list_at(container, "ports", container_path)):
            port, where = entry.get("containerPort"), f"{container_path}.ports[{number}]"
            if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
                shown = port if isinstance(port, int | str) else kind_of(port)
                raise ManifestError(f"{where}.containerPort", f"must be a port number (1 to 65535), is {shown}")
            if not isinstance(entry.get("name"), str | None):
                raise ManifestError(f"{where}.name", f"must be a string, is {kind_of(entry['name'])}")
            if entry.get("protocol", "TCP") == "TCP":
                yield ContainerPort(port, container, container_path, entry)


def app_port(template: dict[str, Any], path: str, settings: Settings) -> ContainerPort:
    """The one port the sidecar shall stand before. `path` is that of the pod spec.

    Raises ManifestError if there is none, or several and no hint.
    """
    spec = template["spec"]
    containers = list_at(spec, "containers", path)
    if not containers:
        raise ManifestError(f"{path}.containers", "there is no container to stand before")
    hint = f"choose with --port or the annotation {PREFIX}port"
    wanted = settings.container
    if wanted is not None and all(container.get("name") != wanted for container in containers):
        raise ManifestError(f"{path}.containers", f"no container is named {wanted!r}")
    known = [port for port in declared(spec, path) if wanted is None or port.container.get("name") == wanted]
    if settings.port is None:
        fitting = known
    elif settings.port.isdecimal():
        fitting = [port for port in known if port.number == int(settings.port)]
        if not fitting:
            return _undeclared(template, containers, path, int(settings.port), wanted)
    else:
        fitting = [port for port in known if port.name == settings.port]
        if not fitting:
            raise ManifestError(f"{path}.containers", f"no container declares a TCP port named {settings.port!r}")
    if not fitting:
        raise ManifestError(f"{path}.containers", f"no container declares a TCP port; {hint}")
    if len(fitting) > 1:
        found = ", ".join(
            f"{port.container.get('name')} {port.name or ''} {port.number}".replace("  ", " ") for port in fitting
        )
        more = hint if settings.port is None else f"choose with --container or the annotation {PREFIX}container"
        raise ManifestError(f"{path}.containers", f"there are several ports ({found}); {more}")
    return fitting[0]


def _undeclared(
    template: dict[str, Any], containers: list[dict[str, Any]], path: str, number: int, wanted: str | None
) -> ContainerPort:
    """A port given by number which no container declares: containerPort only informs, so it may well be
    there.
    """
    metadata = template.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    name = (
        wanted or annotations.get(_DEFAULT_CONTAINER) or (containers[0].get("name") if len(containers) == 1 else None)
    )
    for index, container in enumerate(containers):
        if container.get("name") == name:
            return ContainerPort(number, container, f"{path}.containers[{index}]", None)
    raise ManifestError(
        f"{path}.containers",
        f"no container declares port {number}; say whose it is with --container or the annotation {PREFIX}container",
    )


def used_names(spec: dict[str, Any], path: str) -> set[str]:
    """All port names in a pod spec, init containers included."""
    return {
        entry["name"]
        for key in ("initContainers", "containers")
        for index, container in enumerate(list_at(spec, key, path))
        for entry in list_at(container, "ports", f"{path}.{key}[{index}]")
        if isinstance(entry.get("name"), str)
    }


def free_name(wish: str, used: set[str]) -> str:
    """`wish`, cut to 15 characters, with a number behind it if it is taken."""
    names = [wish[:15].rstrip("-"), *(f"{wish[:12].rstrip('-')}-{number}" for number in range(2, 99))]
    return next(name for name in names if name not in used)
