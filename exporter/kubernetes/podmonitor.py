"""The PodMonitor that `--scrape podmonitor` puts beside a workload, for the Prometheus operator."""

from __future__ import annotations

from typing import Any

from exporter.kubernetes.errors import ManifestError, mapping_at, strings_at
from exporter.kubernetes.settings import ADMIN_PORT_NAME, GENERATED
from exporter.kubernetes.workloads import Workload

JOB_LABEL = "app.kubernetes.io/name"


def pod_monitor(workload: Workload) -> dict[str, Any]:
    """A PodMonitor for one workload's pods; `job` is their app.kubernetes.io/name, or the workload's name.

    Raises ManifestError if the pods have no labels to select them by.
    """
    labels = _selector(workload)
    if not labels:
        raise ManifestError(
            f"{workload.path}.metadata.labels".lstrip("."), "a PodMonitor needs labels to select pods by"
        )
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
    """The workload's own matchLabels, which do not change from release to release; else the pods' labels."""
    selector = mapping_at(mapping_at(workload.object, "spec", ""), "selector", "spec") if workload.path else {}
    return strings_at(selector, "matchLabels", "spec.selector") or workload.labels


def made_by_us(obj: dict[str, Any]) -> str | None:
    """For which workload (`Deployment/chat`) `inject` made this object; None if it did not."""
    metadata = obj.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    found = annotations.get(GENERATED) if isinstance(annotations, dict) else None
    return found if obj.get("kind") == "PodMonitor" and isinstance(found, str) else None
