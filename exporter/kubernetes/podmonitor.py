"""The PodMonitor that `--scrape podmonitor` adds for a workload (Prometheus operator)."""

from __future__ import annotations

from typing import Any

from exporter.kubernetes.errors import ManifestError, join, mapping_at, strings_at
from exporter.kubernetes.settings import ADMIN_PORT_NAME, GENERATED, LABEL
from exporter.kubernetes.workloads import Workload

JOB_LABEL = "app.kubernetes.io/name"


def pod_monitor(workload: Workload) -> dict[str, Any]:
    """Return a PodMonitor for one workload's pods; `job` is their app.kubernetes.io/name, or the workload's name.

    Raises ManifestError if the pods have no labels to select them by.
    """
    labels = _selector(workload)
    if not labels:
        raise ManifestError(join(workload.path, "metadata.labels"), "a PodMonitor needs labels to select pods by")
    job = workload.labels.get(JOB_LABEL, workload.name)
    metadata: dict[str, Any] = {"name": f"{workload.name}-websocket-exporter"}
    if workload.namespace:
        metadata["namespace"] = workload.namespace
    metadata["labels"] = {JOB_LABEL: job}
    metadata["annotations"] = {GENERATED: f"{workload.kind}/{workload.name}"}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": metadata,
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


def _selector(workload: Workload) -> dict[str, str]:
    """Return the workload's matchLabels, which stay the same over releases, or else the pods' own labels."""
    selector = mapping_at(mapping_at(workload.object, "spec", ""), "selector", "spec") if workload.path else {}
    own = {key: value for key, value in workload.labels.items() if key != LABEL}
    return strings_at(selector, "matchLabels", "spec.selector") or own


def generated_for(obj: dict[str, Any]) -> str | None:
    """Return the workload (`Deployment/chat`) that `inject` made a PodMonitor for, None for any other object."""
    metadata = obj.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    found = annotations.get(GENERATED) if isinstance(annotations, dict) else None
    return found if obj.get("kind") == "PodMonitor" and isinstance(found, str) else None
