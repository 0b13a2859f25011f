"""The PodMonitor that `--scrape podmonitor` adds for a workload (Prometheus operator)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from exporter.kubernetes.errors import ManifestError, join, mapping_at, strings_at
from exporter.kubernetes.manifest_stream import Located
from exporter.kubernetes.settings import ADMIN_PORT_NAME, GENERATED, LABEL
from exporter.kubernetes.workloads import Workload

JOB_LABEL = "app.kubernetes.io/name"


def pod_monitor(workload: Workload) -> dict[str, Any]:
    """Return a PodMonitor for one workload's pods; `job` is their app.kubernetes.io/name, or the workload's name.

    Raises ManifestError if the pods have no labels to select them by.
    """
    selector = mapping_at(mapping_at(workload.source.object, "spec"), "selector", "spec") if workload.path else {}
    stable = strings_at(selector, "matchLabels", "spec.selector")  # the same over releases
    labels = stable or {key: value for key, value in workload.labels.items() if key != LABEL}
    if not labels:
        raise ManifestError(join(workload.path, "metadata.labels"), "a PodMonitor needs labels to select pods by")
    job = workload.labels.get(JOB_LABEL, workload.name)
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {
            "name": f"{workload.name}-websocket-exporter",
            **({"namespace": workload.namespace} if workload.namespace else {}),
            "labels": {JOB_LABEL: job},
            "annotations": {GENERATED: workload.key},
        },
        "spec": {
            "selector": {"matchLabels": dict(labels)},
            "podMetricsEndpoints": [
                {
                    "port": ADMIN_PORT_NAME,
                    "path": "/metrics",
                    "relabelings": [{"action": "replace", "targetLabel": "job", "replacement": job}],
                }
            ],
        },
    }


def set_monitors(
    objects: Iterable[Located], wanted: Iterable[tuple[Located, dict[str, Any]]], handled: Collection[str] | None
) -> None:
    """Replace, drop and add the generated PodMonitors of the input.

    wanted: those to have, each with the object to stand beside. handled: workloads (`Deployment/chat`) whose other
    PodMonitors go; None: those of all.
    """
    missing = {_key(monitor): (beside, monitor) for beside, monitor in wanted}
    for one in objects:
        workload = _generated_for(one)
        if workload is None:
            continue
        _, kept = missing.pop(_key(one.object), (None, None))
        if kept is not None:
            one.object.clear()
            one.object.update(kept)
        elif handled is None or workload in handled:
            one.remove()
    for beside, monitor in missing.values():
        beside.add(monitor)


def _key(monitor: dict[str, Any]) -> str:
    return f"{monitor['metadata'].get('namespace', '')}/{monitor['metadata'].get('name')}"


def _generated_for(one: Located) -> str | None:
    """Return the workload (`Deployment/chat`) that `inject` made a PodMonitor for, None for any other object."""
    annotations = one.metadata.get("annotations")
    found = annotations.get(GENERATED) if isinstance(annotations, dict) else None
    return found if one.object["kind"] == "PodMonitor" and isinstance(found, str) else None
