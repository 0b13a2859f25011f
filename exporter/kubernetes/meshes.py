"""Service meshes with a proxy in the pod (Istio, Linkerd): annotations that list ports, checked for the sidecar's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from exporter.kubernetes.errors import metadata_of
from exporter.kubernetes.settings import Settings


@dataclass(frozen=True, slots=True)
class _Mesh:
    """A mesh, and the annotations of pods that list incoming ports.

    keys: name prefixes of labels and annotations by which pods and namespaces join. excluded: the ports that its proxy
    leaves alone. included: those that it takes, if there is such a list. opaque: those that it does not parse.
    """

    name: str
    keys: tuple[str, ...]
    excluded: str
    included: str = ""
    opaque: str = ""


_MESHES = (
    _Mesh(
        name="Istio",
        keys=("sidecar.istio.io/", "traffic.sidecar.istio.io/", "istio.io/rev", "istio-injection"),
        excluded="traffic.sidecar.istio.io/excludeInboundPorts",
        included="traffic.sidecar.istio.io/includeInboundPorts",
    ),
    _Mesh(
        name="Linkerd",
        keys=("linkerd.io/inject", "config.linkerd.io/"),
        excluded="config.linkerd.io/skip-inbound-ports",
        opaque="config.linkerd.io/opaque-ports",
    ),
)
_OFF = {
    "sidecar.istio.io/inject": ("false", "disabled"),
    "istio-injection": ("false", "disabled"),
    "linkerd.io/inject": ("disabled",),
}
"""Labels and annotations that opt out of a mesh, with their values."""


def mesh_warnings(
    template: dict[str, Any], app_port: int, settings: Settings, namespace: dict[str, Any] | None = None
) -> Iterator[str]:
    """Yield a warning for each setting of a mesh that does not fit the sidecar. namespace: the pods' Namespace."""
    keys: dict[str, str] = {}
    for obj in (namespace or {}, template):
        annotations = metadata_of(obj, "annotations")
        keys |= metadata_of(obj, "labels") | annotations
    for mesh in _MESHES:
        found = {key: value for key, value in keys.items() if key.startswith(mesh.keys)}
        if found and not any(value in _OFF.get(key, ()) for key, value in found.items()):
            yield from _warnings(mesh, annotations, app_port, settings)


def _warnings(mesh: _Mesh, annotations: Mapping[str, str], app_port: int, settings: Settings) -> Iterator[str]:
    for key in (mesh.excluded, mesh.included, mesh.opaque):
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
