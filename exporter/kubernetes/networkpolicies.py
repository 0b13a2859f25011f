"""NetworkPolicies of an injected workload: a rule that allows the app's port allows the sidecar's as well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from exporter.kubernetes.errors import Warn, list_at, mapping_at, strings_at
from exporter.kubernetes.original import annotate, read_note, remove_note
from exporter.kubernetes.services import InjectedPort, same_namespace
from exporter.kubernetes.settings import ADMIN_PORT_NAME
from exporter.kubernetes.workloads import Workload, group_of, named


def is_network_policy(obj: dict[str, Any]) -> bool:
    """Return whether an object is a networking.k8s.io NetworkPolicy."""
    return obj.get("kind") == "NetworkPolicy" and group_of(obj) == "networking.k8s.io"


def restricts(policy: dict[str, Any], workload: Workload) -> bool:
    """Return whether a policy restricts incoming traffic of a workload's pods."""
    spec = mapping_at(policy, "spec", "")
    types = spec.get("policyTypes")
    if isinstance(types, list) and "Ingress" not in types:
        return False
    return same_namespace(policy, workload) and _matches(mapping_at(spec, "podSelector", "spec"), workload.labels)


def _matches(selector: dict[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether a label selector (matchLabels, matchExpressions) selects labels; an empty one selects all."""
    path = "spec.podSelector"
    if not strings_at(selector, "matchLabels", path).items() <= labels.items():
        return False
    for expression in list_at(selector, "matchExpressions", path):
        key, operator = str(expression.get("key")), expression.get("operator")
        values = expression.get("values")
        listed = isinstance(values, list) and labels.get(key) in values
        fits = {
            "In": listed,
            "NotIn": not listed,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not fits.get(str(operator), False):
            return False
    return True


def extend_policy(policy: dict[str, Any], ports: Iterable[InjectedPort], _warn: Warn) -> None:
    """Allow the sidecar's port in every rule that allows the app's port by number, in place, and note it.

    ports: of the workloads that the policy restricts. A rule by name needs no change: the name moves to the sidecar.
    """
    added: dict[str, list[int]] = {}
    injected = [port for port in ports if port.listen_port is not None]
    for index, rule in enumerate(_rules(policy)):
        entries = list_at(rule, "ports", f"spec.ingress[{index}]")
        for port in injected:
            listen = port.listen_port
            assert listen is not None
            if not any(_allows(entry, port.app_port) for entry in entries):
                continue
            if not any(_allows(entry, listen) for entry in entries):
                entries.append({"port": listen, "protocol": "TCP"})
                added.setdefault(str(index), []).append(listen)
    if added:
        annotate(policy, {"ingress": added})


def _rules(policy: dict[str, Any]) -> list[dict[str, Any]]:
    return list_at(mapping_at(policy, "spec", ""), "ingress", "spec")


def _allows(entry: dict[str, Any], number: int, name: str | None = None) -> bool:
    if entry.get("protocol", "TCP") != "TCP":
        return False
    first, last = entry.get("port"), entry.get("endPort")
    if isinstance(first, int):
        return first <= number <= (last if isinstance(last, int) else first)
    return first is None or first == name


def restore_policy(policy: dict[str, Any]) -> bool:
    """Undo extend_policy, in place. Returns False if there is nothing to undo."""
    note = read_note(policy, "")
    if note is None:
        return False
    added = mapping_at(note, "ingress", "")
    for index, rule in enumerate(_rules(policy)):
        entries = list_at(rule, "ports", f"spec.ingress[{index}]")
        for number in added.get(str(index)) or ():
            entry = {"port": number, "protocol": "TCP"}
            if entry in entries:
                entries.remove(entry)
    remove_note(policy, note)
    return True


def warn_unscraped(port: InjectedPort, policies: Iterable[dict[str, Any]], warn: Warn) -> None:
    """Warn if NetworkPolicies restrict a workload's pods and none of them allows the admin port."""
    if port.admin_port is None:
        return
    over = [policy for policy in policies if restricts(policy, port.workload)]
    for policy in over:
        for rule in _rules(policy):
            entries = list_at(rule, "ports", "spec.ingress")
            if not entries or any(_allows(entry, port.admin_port, ADMIN_PORT_NAME) for entry in entries):
                return
    if over:
        warn(
            f"{named(over[0])} does not allow the sidecar's admin port {port.admin_port}: "
            "Prometheus cannot scrape it; add an ingress rule for the namespace of Prometheus"
        )
