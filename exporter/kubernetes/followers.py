"""Services and NetworkPolicies: changed along with the workloads that they select.

A Service's target port by name follows the name to the sidecar by itself, a number is rewritten. A NetworkPolicy's
rule that allows the app's port by number allows the sidecar's as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.kubernetes.errors import ManifestError, Warn, list_at, located, mapping_at, metadata_of, named, strings_at
from exporter.kubernetes.manifest_stream import Located
from exporter.kubernetes.original import Note, annotate, read_note, remove_note
from exporter.kubernetes.settings import ADMIN_PORT_NAME, INJECT, ORIGINAL, PREFIX
from exporter.kubernetes.workloads import Workload

_NOT_WEBSOCKET = {
    **dict.fromkeys(("h2c", "http2", "grpc", "kubernetes.io/h2c"), "HTTP/2"),
    **dict.fromkeys(("https", "kubernetes.io/wss"), "TLS"),
}
"""appProtocol to the protocol on the wire; the sidecar forwards both without observing them."""


@dataclass(frozen=True, slots=True)
class InjectedPort:
    """The app's port of a workload and the sidecar's ports before it.

    name: the port name that the sidecar took over. listen_port, admin_port: 0 for a workload without a sidecar.
    changed: whether this run processed the workload; others are only taken into account.
    """

    workload: Workload
    app_port: int
    name: str | None
    listen_port: int = 0
    admin_port: int = 0
    changed: bool = True


@dataclass(frozen=True, slots=True)
class _Follower:
    """How objects of one kind follow workloads; the functions get the object's spec.

    change: given the ports of the workloads that it selects, changes it in place and returns the note for `undo`.
    warn_missing: given an injected workload's port and the objects that select it, warns if they are not enough.
    """

    selects: Callable[[dict[str, Any], Workload], bool]
    change: Callable[[dict[str, Any], Sequence[InjectedPort], Warn], Note]
    undo: Callable[[dict[str, Any], Note], None]
    warn_missing: Callable[[InjectedPort, Sequence[dict[str, Any]], Warn], None]

    def covers(self, obj: dict[str, Any], workload: Workload) -> bool:
        """Return whether an object selects a workload's pods. An absent namespace on either side fits any."""
        namespace = mapping_at(obj, "metadata").get("namespace")
        alike = not namespace or not workload.namespace or namespace == workload.namespace
        return alike and self.selects(mapping_at(obj, "spec"), workload)

    def restore(self, obj: dict[str, Any]) -> bool:
        """Undo the changes of an earlier run, in place. Returns False if there are none."""
        note = read_note(obj)
        if note is None:
            return False
        self.undo(mapping_at(obj, "spec"), note)
        remove_note(obj, note)
        return True


def change_followers(objects: Iterable[Located], ports: Sequence[InjectedPort], warn: Warn) -> None:
    """Bring Services and NetworkPolicies over the workloads in line with their ports. Raises ManifestError."""
    for resource, follower in _FOLLOWERS.items():
        found = [one for one in objects if one.resource == resource]
        for one in found:
            with located(one.where):
                over = [port for port in ports if follower.covers(one.object, port.workload)]
                if not any(port.changed for port in over):
                    continue
                follower.restore(one.object)
                if _may_change(one.object):
                    note = follower.change(mapping_at(one.object, "spec"), over, prefixed(warn, one.where))
                    if note:
                        annotate(one.object, note)
        for port in ports:
            if port.changed and port.listen_port:
                selecting = [one.object for one in found if follower.covers(one.object, port.workload)]
                follower.warn_missing(port, selecting, prefixed(warn, port.workload.source.where))


def restore_followers(objects: Iterable[Located], workloads: Sequence[Workload] | None) -> bool:
    """Undo the changes of Services and NetworkPolicies. Returns False if there are none.

    workloads: those of which one must be selected; None: restore all. Raises ManifestError.
    """
    restored = False
    for one in objects:
        follower = _FOLLOWERS.get(one.resource)
        with located(one.where):
            if follower and (workloads is None or any(follower.covers(one.object, each) for each in workloads)):
                restored |= follower.restore(one.object)
    return restored


def prefixed(warn: Warn, where: str) -> Warn:
    """Return a Warn that names the place."""
    return lambda text: warn(f"{where}: {text}")


def _may_change(obj: dict[str, Any]) -> bool:
    """Return whether an object may be rewritten: not if annotated inject: "false".

    Raises ManifestError for any other annotation of ours.
    """
    annotations = metadata_of(obj, "annotations")
    for key, text in annotations.items():
        if key.startswith(PREFIX) and key not in {INJECT, ORIGINAL}:
            raise ManifestError(
                f"metadata.annotations.{key}", f"unknown annotation for a {obj['kind']}; known is {INJECT}"
            )
        if key == INJECT and text not in {"true", "false"}:
            raise ManifestError(f"metadata.annotations.{key}", f'{text!r} is neither "true" nor "false"')
    return annotations.get(INJECT) != "false"


# Services


def _service_selects(spec: dict[str, Any], workload: Workload) -> bool:
    selector = strings_at(spec, "selector", "spec")
    return bool(selector) and spec.get("type") != "ExternalName" and selector.items() <= workload.labels.items()


def _point_at_sidecars(spec: dict[str, Any], ports: Sequence[InjectedPort], warn: Warn) -> Note:
    """Point a Service's numeric target ports at the sidecar. Raises ManifestError if one would need two meanings."""
    injected = [port for port in ports if port.listen_port]
    originals: dict[str, int | None] = {}
    for index, entry in enumerate(list_at(spec, "ports", "spec") if injected else []):
        present = entry.get("targetPort")
        target = entry.get("port") if present is None else present
        match = next((port for port in injected if target in (port.app_port, port.name)), None)
        if match is None or target is None or entry.get("protocol", "TCP") != "TCP":
            continue
        protocol = entry.get("appProtocol")
        if isinstance(protocol, str) and protocol in _NOT_WEBSOCKET:
            warn(
                f"spec.ports[{index}].appProtocol is {protocol}: the sidecar forwards {_NOT_WEBSOCKET[protocol]} "
                "without observing it; WebSocket is kubernetes.io/ws"
            )
        if isinstance(target, str):  # follows by itself
            continue
        for other in ports:
            if other.app_port == target and other.listen_port != match.listen_port:
                raise ManifestError(
                    f"spec.ports[{index}].targetPort",
                    f"{target} is the app's port in {other.workload} and behind the sidecar in {match.workload}: "
                    "name that port alike in both, and use the name here",
                )
        originals[_port_key(entry)] = present
        entry["targetPort"] = match.listen_port
    if injected and spec.get("clusterIP") == "None":
        warn(
            f"is headless: clients that connect to a pod's port {injected[0].app_port} "
            f"bypass the sidecar; they must connect to {injected[0].listen_port}"
        )
    return {"targetPorts": originals} if originals else {}


def _port_key(entry: dict[str, Any]) -> str:
    return f"{entry.get('port')}/{entry.get('protocol', 'TCP')}"


def _point_at_apps(spec: dict[str, Any], note: Note) -> None:
    originals = mapping_at(note, "targetPorts")
    for entry in list_at(spec, "ports", "spec"):
        if (key := _port_key(entry)) in originals:
            entry["targetPort"] = originals[key]
            if originals[key] is None:
                del entry["targetPort"]


def _warn_unselected(port: InjectedPort, services: Sequence[dict[str, Any]], warn: Warn) -> None:
    """Warn if no Service in the input selects the workload: a numeric one elsewhere must be changed."""
    if services:
        return
    follows = f"; targetPort: {port.name} needs no change" if port.name else ""
    warn(
        "no Service in the input selects its pods: "
        f"in a Service elsewhere, change targetPort: {port.app_port} to {port.listen_port}{follows}"
    )


# NetworkPolicies


def _policy_restricts(spec: dict[str, Any], workload: Workload) -> bool:
    """Return whether a policy restricts incoming traffic of a workload's pods."""
    types = spec.get("policyTypes")
    if isinstance(types, list) and "Ingress" not in types:
        return False
    return _matches(mapping_at(spec, "podSelector", "spec"), workload.labels)


def _matches(selector: dict[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether a label selector (matchLabels, matchExpressions) selects labels; an empty one selects all."""
    path = "spec.podSelector"
    if not strings_at(selector, "matchLabels", path).items() <= labels.items():
        return False
    for expression in list_at(selector, "matchExpressions", path):
        key, values = str(expression.get("key")), expression.get("values")
        listed = isinstance(values, list) and labels.get(key) in values
        fits = {"In": listed, "NotIn": not listed, "Exists": key in labels, "DoesNotExist": key not in labels}
        if not fits.get(str(expression.get("operator")), False):
            return False
    return True


def _allow_sidecars(spec: dict[str, Any], ports: Sequence[InjectedPort], _warn: Warn) -> Note:
    """Allow the sidecar's port in every rule that allows the app's port by number.

    A rule by name needs no change: the name moves to the sidecar.
    """
    added: dict[str, list[int]] = {}
    for index, entries in enumerate(_rules(spec)):
        for port in ports:
            missing = port.listen_port and not any(_allows(entry, port.listen_port) for entry in entries)
            if missing and any(_allows(entry, port.app_port) for entry in entries):
                entries.append({"port": port.listen_port, "protocol": "TCP"})
                added.setdefault(str(index), []).append(port.listen_port)
    return {"ingress": added} if added else {}


def _rules(spec: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Return the ports of each ingress rule; a rule without ports allows all."""
    rules = enumerate(list_at(spec, "ingress", "spec"))
    return [list_at(rule, "ports", f"spec.ingress[{index}]") for index, rule in rules]


def _allows(entry: dict[str, Any], number: int, name: str | None = None) -> bool:
    if entry.get("protocol", "TCP") != "TCP":
        return False
    first, last = entry.get("port"), entry.get("endPort")
    if isinstance(first, int):
        return first <= number <= (last if isinstance(last, int) else first)
    return first is None or first == name


def _disallow_sidecars(spec: dict[str, Any], note: Note) -> None:
    added = mapping_at(note, "ingress")
    for index, entries in enumerate(_rules(spec)):
        for number in added.get(str(index)) or ():
            entry = {"port": number, "protocol": "TCP"}
            if entry in entries:
                entries.remove(entry)


def _warn_unscraped(port: InjectedPort, policies: Sequence[dict[str, Any]], warn: Warn) -> None:
    """Warn if NetworkPolicies restrict a workload's pods and none of them allows the admin port."""
    for policy in policies:
        for entries in _rules(mapping_at(policy, "spec")):
            if not entries or any(_allows(entry, port.admin_port, ADMIN_PORT_NAME) for entry in entries):
                return
    if policies:
        warn(
            f"{named(policies[0])} does not allow the sidecar's admin port {port.admin_port}: "
            "Prometheus cannot scrape it; add an ingress rule for the namespace of Prometheus"
        )


_FOLLOWERS = {
    "Service": _Follower(_service_selects, _point_at_sidecars, _point_at_apps, _warn_unselected),
    "NetworkPolicy.networking.k8s.io": _Follower(
        _policy_restricts, _allow_sidecars, _disallow_sidecars, _warn_unscraped
    ),
}
