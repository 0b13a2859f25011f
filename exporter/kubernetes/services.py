"""Services of an injected workload: a target port by name follows by itself, a number is rewritten."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from exporter.kubernetes.errors import ManifestError, Warn, list_at, mapping_at, strings_at
from exporter.kubernetes.original import annotate, read_note, remove_note
from exporter.kubernetes.settings import INJECT, ORIGINAL, PREFIX
from exporter.kubernetes.workloads import Workload, group_of

_NOT_WEBSOCKET = {
    "h2c": "HTTP/2",
    "http2": "HTTP/2",
    "grpc": "HTTP/2",
    "kubernetes.io/h2c": "HTTP/2",
    "https": "TLS",
    "kubernetes.io/wss": "TLS",
}
"""appProtocol to the protocol on the wire; the sidecar forwards both without observing them."""


@dataclass(frozen=True, slots=True)
class InjectedPort:
    """The app's port of a workload and the sidecar's ports before it.

    name: the port name that the sidecar took over. listen_port, admin_port: None for a workload without a sidecar.
    changed: whether this run processed the workload; others are only taken into account.
    """

    workload: Workload
    app_port: int
    name: str | None
    listen_port: int | None
    admin_port: int | None = None
    changed: bool = True


def is_service(obj: dict[str, Any]) -> bool:
    """Return whether an object is a core/v1 Service."""
    return obj.get("kind") == "Service" and group_of(obj) == ""


def same_namespace(obj: dict[str, Any], workload: Workload) -> bool:
    """Return whether both are in one namespace. An absent namespace on either side fits any."""
    namespace = mapping_at(obj, "metadata", "").get("namespace")
    return not namespace or not workload.namespace or namespace == workload.namespace


def selects(service: dict[str, Any], workload: Workload) -> bool:
    """Return whether a Service selects a workload's pods."""
    spec = mapping_at(service, "spec", "")
    selector = strings_at(spec, "selector", "spec")
    if not selector or spec.get("type") == "ExternalName" or not same_namespace(service, workload):
        return False
    return selector.items() <= workload.labels.items()


def may_change(obj: dict[str, Any]) -> bool:
    """Return whether an object may be rewritten: not if annotated inject: "false".

    Raises ManifestError for any other annotation of ours.
    """
    annotations = strings_at(mapping_at(obj, "metadata", ""), "annotations", "metadata")
    for key, text in annotations.items():
        if key.startswith(PREFIX) and key not in {INJECT, ORIGINAL}:
            raise ManifestError(
                f"metadata.annotations.{key}", f"unknown annotation for a {obj['kind']}; known is {INJECT}"
            )
        if key == INJECT and text not in {"true", "false"}:
            raise ManifestError(f"metadata.annotations.{key}", f'{text!r} is neither "true" nor "false"')
    return annotations.get(INJECT) != "false"


def rewrite_service(service: dict[str, Any], ports: Iterable[InjectedPort], warn: Warn) -> None:
    """Point a Service's numeric target ports at the sidecar, in place, and note the old ones.

    ports: of the workloads that it selects. Raises ManifestError if one number would need two meanings.
    """
    chosen = list(ports)
    injected = [port for port in chosen if port.listen_port is not None]
    if not injected:
        return
    spec = mapping_at(service, "spec", "")
    originals: dict[str, int | None] = {}
    for index, entry in enumerate(list_at(spec, "ports", "spec")):
        if entry.get("protocol", "TCP") != "TCP":
            continue
        present = entry.get("targetPort")
        target = entry.get("port") if present is None else present
        if isinstance(target, str):
            if any(port.name == target for port in injected):
                _warn_protocol(index, entry, warn)
            continue
        match = next((port for port in injected if port.app_port == target), None)
        if match is None:
            continue
        for other in chosen:
            if other.app_port == target and other.listen_port != match.listen_port:
                raise ManifestError(
                    f"spec.ports[{index}].targetPort",
                    f"{target} is the app's port in {other.workload} and behind the sidecar in {match.workload}: "
                    "name that port alike in both, and use the name here",
                )
        originals[_port_key(entry)] = present
        entry["targetPort"] = match.listen_port
        _warn_protocol(index, entry, warn)
    if spec.get("clusterIP") == "None":
        warn(
            f"is headless: clients that connect to a pod's port {injected[0].app_port} "
            f"bypass the sidecar; they must connect to {injected[0].listen_port}"
        )
    if originals:
        annotate(service, {"targetPorts": originals})


def _warn_protocol(index: int, entry: dict[str, Any], warn: Warn) -> None:
    protocol = entry.get("appProtocol")
    sent = _NOT_WEBSOCKET.get(protocol) if isinstance(protocol, str) else None
    if sent:
        warn(
            f"spec.ports[{index}].appProtocol is {protocol}: "
            f"the sidecar forwards {sent} without observing it; WebSocket is kubernetes.io/ws"
        )


def _port_key(entry: dict[str, Any]) -> str:
    return f"{entry.get('port')}/{entry.get('protocol', 'TCP')}"


def restore_service(service: dict[str, Any]) -> bool:
    """Undo rewrite_service, in place. Returns False if there is nothing to undo."""
    note = read_note(service, "")
    if note is None:
        return False
    originals = mapping_at(note, "targetPorts", "")
    for entry in list_at(mapping_at(service, "spec", ""), "ports", "spec"):
        key = _port_key(entry)
        if key in originals and originals[key] is None:
            entry.pop("targetPort", None)
        elif key in originals:
            entry["targetPort"] = originals[key]
    remove_note(service, note)
    return True


def warn_unselected(port: InjectedPort, services: Iterable[dict[str, Any]], warn: Warn) -> None:
    """Warn if no Service in the input selects an injected workload: a numeric one elsewhere must be changed."""
    if port.listen_port is None or any(selects(service, port.workload) for service in services):
        return
    follows = f"; targetPort: {port.name} needs no change" if port.name else ""
    warn(
        "no Service in the input selects its pods: "
        f"in a Service elsewhere, change targetPort: {port.app_port} to {port.listen_port}{follows}"
    )
