"""Objects that carry a pod template, and its path inside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from exporter.kubernetes.errors import NotInjectable, join, mapping_of, metadata_of, named
from exporter.kubernetes.manifest_stream import Located
from exporter.kubernetes.settings import parse_annotations

Templates = Mapping[str, str]
"""Kind and API group, such as `Deployment.apps`, to the path of the pod template inside the object."""

TEMPLATES: Templates = {
    "Pod": "",
    "CronJob.batch": "spec.jobTemplate.spec.template",
    **dict.fromkeys(
        (
            "ReplicationController",
            *("Deployment.apps", "StatefulSet.apps", "DaemonSet.apps", "ReplicaSet.apps", "Job.batch"),
            *("Deployment.extensions", "DaemonSet.extensions", "ReplicaSet.extensions"),
            *("CloneSet.apps.kruise.io", "StatefulSet.apps.kruise.io", "DaemonSet.apps.kruise.io"),
            *("Rollout.argoproj.io", "DeploymentConfig.apps.openshift.io"),
        ),
        "spec.template",
    ),
}
_SEARCH_DEPTH = 6
"""Levels below an object of an unknown kind that are searched for a pod template."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One object with a pod template. `template` is the object itself for a Pod.

    path: of the pod template inside the object, such as `spec.template`; empty for a Pod.
    """

    source: Located
    kind: str
    name: str
    namespace: str | None
    path: str
    template: dict[str, Any]

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its pods."""
        return metadata_of(self.template, "labels", self.path)

    @property
    def key(self) -> str:
        """Its kind and name, such as `Deployment/chat`."""
        return f"{self.kind}/{self.name}"

    def __str__(self) -> str:
        return named(self.source.object)


def parse_template_path(text: str) -> tuple[str, str]:
    """Parse `KIND.GROUP=PATH`, such as `GameServer.agones.dev=spec.template`, to an item of Templates."""
    resource, _, path = text.partition("=")
    if not all((resource.partition(".")[0], *path.split("."))):
        raise ValueError("expected KIND.GROUP=PATH (GameServer.agones.dev=spec.template)")
    return resource, path


def workload_of(source: Located, templates: Templates) -> Workload | None:
    """Return the workload that an object is, None if it carries no pod template.

    Raises NotInjectable for a template in an unknown kind or elsewhere, ManifestError for one that is missing.
    """
    obj = source.object
    path = templates.get(source.resource)
    if path is None:
        if found := _find_template(obj, "", _SEARCH_DEPTH):
            raise NotInjectable(
                found, f"unknown kind; to inject it, pass --pod-template-path {source.resource}={found}"
            )
        return None
    template, at = obj, ""
    for key in path.split(".") if path else ():
        at = join(at, key)
        inner = template.get(key)
        if inner is None and "workloadRef" in template:
            raise NotInjectable(at, "is elsewhere (workloadRef): inject the workload that it refers to")
        template = mapping_of(inner, at)
    mapping_of(template.get("spec"), join(at, "spec"))
    name = source.metadata.get("name") or source.metadata.get("generateName") or ""
    return Workload(source, obj["kind"], str(name), source.metadata.get("namespace"), path, template)


def _find_template(value: dict[str, Any], path: str, depth: int) -> str | None:
    """Return the path of the first mapping with `spec.containers` below a mapping."""
    for key, inner in value.items():
        if isinstance(inner, dict) and isinstance(key, str):
            spec, at = inner.get("spec"), join(path, key)
            if isinstance(spec, dict) and isinstance(spec.get("containers"), list):
                return at
            if depth and (found := _find_template(inner, at, depth - 1)):
                return found
    return None


def annotated_settings(workload: Workload) -> dict[str, str]:
    """Return the settings in a workload's annotations as name to text; the pod template's win over outer ones."""
    texts: dict[str, str] = {}
    obj, path = workload.source.object, ""
    for key in ("", *filter(None, workload.path.split("."))):
        obj, path = obj[key] if key else obj, join(path, key)
        texts |= parse_annotations(metadata_of(obj, "annotations", path), join(path, "metadata.annotations"))
    return texts
