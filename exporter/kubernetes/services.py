"""Services in front of a workload: those that name the port follow by themselves, those that count it are
rewritten.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from exporter.kubernetes.errors import ManifestError, Warn, list_at, mapping_at, strings_at
from exporter.kubernetes.pod import read_note
from exporter.kubernetes.settings import INJECT, ORIGINAL, PREFIX
from exporter.kubernetes.workloads import Workload, group_of, named


@dataclass(frozen=True, slots=True)
class InjectedPort:
    """What a Service must know of a workload: its pods' labels, the app's port and the sidecar's."""

    workload: Workload
    app_port: int
    name: str | None
    """The port name the sidecar took over, if there was one."""
    listen_port: int | None
    """None: this workload has no sidecar."""


def is_service(obj: dict[str, Any]) -> bool:
    """Whether an object is a core/v1 Service."""
    return obj.get("kind") == "Service" and group_of(obj) == ""


def selects(service: dict[str, Any], workload: Workload) -> bool:
    """Whether a Service selects a workload's pods. An absent namespace on either side fits any."""
    spec = mapping_at(service, "spec", "")
    selector = strings_at(spec, "selector", "spec")
    namespace = mapping_at(service, "metadata", "").get("namespace")
    if not selector or spec.get("type") == "ExternalName":
        return False
    if namespace and workload.namespace and namespace != workload.namespace:
        return False
    return selector.items() <= workload.labels.items()


def check_service(service: dict[str, Any]) -> bool:
    """Whether a Service may be rewritten: not if it says inject: "false". Raises ManifestError for unknown
    annotations.
    """
    annotations = strings_at(mapping_at(service, "metadata", ""), "annotations", "metadata")
    for key, text in annotations.items():
        if key.startswith(PREFIX) and key not in {INJECT, ORIGINAL}:
            raise ManifestError(f"metadata.annotations.{key}", f"is not an annotation for a Service; known is {INJECT}")
        if key == INJECT and text not in {"true", "false"}:
            raise ManifestError(f"metadata.annotations.{key}", f'{text!r} is neither "true" nor "false"')
    return annotations.get(INJECT) != "false"


def rewrite_service(service: dict[str, Any], ports: Iterable[InjectedPort], warn: Warn) -> None:
    """Send a Service's numeric targetPorts to the sidecar, in place, and note what they were.

    Raises ManifestError if one number would have to mean two things: selected workloads differ.
    """
    chosen = [port for port in ports if selects(service, port.workload)]
    injected = [port for port in chosen if port.listen_port is not None]
    if not injected:
        return
    spec = mapping_at(service, "spec", "")
    originals: dict[str, int | None] = {}
    for index, entry in enumerate(list_at(spec, "ports", "spec")):
        present = entry.get("targetPort")
        target = entry.get("port") if present is None else present
        hit = [port for port in injected if port.app_port == target]
        if not hit or isinstance(target, str) or entry.get("protocol", "TCP") != "TCP":
            continue
        others = [port for port in chosen if port.app_port == target and port.listen_port != hit[0].listen_port]
        if others:
            raise ManifestError(
                f"spec.ports[{index}].targetPort",
                f"{target} is the app's port in {others[0].workload} and the sidecar stands before it in "
                f"{hit[0].workload}: give that port one name in both, and use the name here",
            )
        originals[_port_key(entry)] = present
        entry["targetPort"] = hit[0].listen_port
    if str(spec.get("clusterIP")) == "None" and spec.get("clusterIP") is not None:
        warn(
            f"{named(service)} is headless: clients that connect to a pod's own address and port "
            f"{injected[0].app_port} do not pass the sidecar; let them use {injected[0].listen_port}"
        )
    if originals:
        _note(service, originals)


def _port_key(port: dict[str, Any]) -> str:
    return f"{port.get('port')}/{port.get('protocol', 'TCP')}"


def _note(service: dict[str, Any], originals: dict[str, int | None]) -> None:
    note: dict[str, Any] = {"targetPorts": originals}
    metadata = service["metadata"] if isinstance(service.get("metadata"), dict) else service.setdefault("metadata", {})
    if metadata.get("annotations") is None:
        note["blank"] = "null" if "annotations" in metadata else "absent"
        metadata["annotations"] = {}
    metadata["annotations"][ORIGINAL] = json.dumps(note, sort_keys=True, separators=(",", ":"))


def restore_service(service: dict[str, Any]) -> bool:
    """Undo rewrite_service, in place. False if it was never done."""
    metadata = mapping_at(service, "metadata", "")
    annotations = strings_at(metadata, "annotations", "metadata")
    if ORIGINAL not in annotations:
        return False
    note = read_note(annotations.pop(ORIGINAL), f"metadata.annotations.{ORIGINAL}")
    for port in list_at(mapping_at(service, "spec", ""), "ports", "spec"):
        originals = note.get("targetPorts", {})
        key = _port_key(port)
        if key in originals and originals[key] is None:
            port.pop("targetPort", None)
        elif key in originals:
            port["targetPort"] = originals[key]
    if not annotations and note.get("blank") == "absent":
        del metadata["annotations"]
    elif not annotations and note.get("blank") == "null":
        metadata["annotations"] = None
    return True


def warn_unseen(port: InjectedPort, services: Iterable[dict[str, Any]], warn: Warn) -> None:
    """Say so if no Service in the input selects a workload with a sidecar: a numeric one elsewhere must be
    changed.
    """
    if port.listen_port is None or any(selects(service, port.workload) for service in services):
        return
    follows = f"; one with targetPort: {port.name} follows by itself" if port.name else ""
    warn(
        "no Service in the input selects its pods: "
        f"a Service with targetPort: {port.app_port} must be changed to {port.listen_port}{follows}"
    )
