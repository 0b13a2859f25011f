"""Service meshes with a proxy in the pod (Istio, Linkerd): annotations that list ports, checked for the sidecar's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from exporter.kubernetes.errors import join, mapping_at, strings_at
from exporter.kubernetes.settings import Settings


@dataclass(frozen=True, slots=True)
class _Mesh:
    """A mesh and its pod annotations.

    keys: name prefixes of labels and annotations by which pods and namespaces join. off: values that opt out.
    excluded: the list of incoming ports that its proxy leaves alone. included: the list of those that it takes, if any.
    lists: all lists of incoming ports.
    """

    name: str
    keys: tuple[str, ...]
    off: frozenset[str]
    excluded: str
    lists: tuple[str, ...]
    included: str = ""


_MESHES = (
    _Mesh(
        name="Istio",
        keys=("sidecar.istio.io/", "traffic.sidecar.istio.io/", "istio.io/rev", "istio-injection"),
        off=frozenset({"false", "disabled"}),
        excluded="traffic.sidecar.istio.io/excludeInboundPorts",
        lists=("traffic.sidecar.istio.io/excludeInboundPorts", "traffic.sidecar.istio.io/includeInboundPorts"),
        included="traffic.sidecar.istio.io/includeInboundPorts",
    ),
    _Mesh(
        name="Linkerd",
        keys=("linkerd.io/inject", "config.linkerd.io/"),
        off=frozenset({"disabled"}),
        excluded="config.linkerd.io/skip-inbound-ports",
        lists=("config.linkerd.io/skip-inbound-ports", "config.linkerd.io/opaque-ports"),
    ),
)
_SWITCHES = ("sidecar.istio.io/inject", "istio-injection", "linkerd.io/inject")
"""Keys whose value turns a mesh on or off."""


def mesh_warnings(
    template: dict[str, Any], path: str, app_port: int, settings: Settings, namespace: dict[str, Any] | None = None
) -> Iterator[str]:
    """Yield a warning for each setting of a mesh that does not fit the sidecar. namespace: the pods' Namespace."""
    metadata, where = mapping_at(template, "metadata", path), join(path, "metadata")
    annotations = strings_at(metadata, "annotations", where)
    pod = {**strings_at(metadata, "labels", where), **annotations}
    around: dict[str, str] = {}
    if namespace is not None:
        outer = mapping_at(namespace, "metadata", "")
        around = {**strings_at(outer, "labels", "metadata"), **strings_at(outer, "annotations", "metadata")}
    for mesh in _MESHES:
        if _joins(mesh, {**around, **pod}):
            yield from _warnings(mesh, annotations, app_port, settings)


def _joins(mesh: _Mesh, keys: Mapping[str, str]) -> bool:
    found = {key: value for key, value in keys.items() if key.startswith(mesh.keys)}
    return bool(found) and not any(key in _SWITCHES and value in mesh.off for key, value in found.items())


def _warnings(mesh: _Mesh, annotations: Mapping[str, str], app_port: int, settings: Settings) -> Iterator[str]:
    for key in mesh.lists:
        text = annotations.get(key, "")
        if _contains(text, app_port) and not _contains(text, settings.listen_port):
            yield (
                f"{mesh.name}: annotation {key} names the app's port {app_port}: "
                f"add the sidecar's port {settings.listen_port}"
            )
    included = annotations.get(mesh.included, "*")
    taken = included == "*" or _contains(included, settings.admin_port)
    if taken and not _contains(annotations.get(mesh.excluded, ""), settings.admin_port):
        yield (
            f"{mesh.name}: its proxy intercepts the admin port {settings.admin_port}, which Prometheus and "
            f'the kubelet call from outside the mesh: add annotation {mesh.excluded}: "{settings.admin_port}"'
        )


def _contains(text: str, port: int) -> bool:
    """Return whether a list of ports and ranges (`80,8000-8100`) contains a port."""
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first.isdecimal() and int(first) <= port <= int(last if last.isdecimal() else first):
            return True
    return False
