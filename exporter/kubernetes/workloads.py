"""Objects that carry a pod template, and its path inside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from exporter.kubernetes.errors import NotInjectable, group_of, join, mapping_at, mapping_of, metadata_of, named
from exporter.kubernetes.manifest_stream import Located
from exporter.kubernetes.settings import parse_annotations

Templates = Mapping[tuple[str, str], str]
"""API group and kind to the path of the pod template inside the object."""

_TEMPLATE = "spec.template"
TEMPLATES: Templates = {
    ("", "Pod"): "",
    ("", "ReplicationController"): _TEMPLATE,
    ("apps", "Deployment"): _TEMPLATE,
    ("apps", "StatefulSet"): _TEMPLATE,
    ("apps", "DaemonSet"): _TEMPLATE,
    ("apps", "ReplicaSet"): _TEMPLATE,
    ("extensions", "Deployment"): _TEMPLATE,
    ("extensions", "DaemonSet"): _TEMPLATE,
    ("extensions", "ReplicaSet"): _TEMPLATE,
    ("batch", "Job"): _TEMPLATE,
    ("batch", "CronJob"): "spec.jobTemplate.spec.template",
    ("argoproj.io", "Rollout"): _TEMPLATE,
    ("apps.kruise.io", "CloneSet"): _TEMPLATE,
    ("apps.kruise.io", "StatefulSet"): _TEMPLATE,
    ("apps.kruise.io", "DaemonSet"): _TEMPLATE,
    ("apps.openshift.io", "DeploymentConfig"): _TEMPLATE,
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

    @property
    def is_batch(self) -> bool:
        """Whether its pods are meant to complete."""
        return self.kind in {"Job", "CronJob"}

    def __str__(self) -> str:
        return named(self.source.object)


def parse_template_path(text: str) -> tuple[tuple[str, str], str]:
    """Parse `KIND.GROUP=PATH`, such as `GameServer.agones.dev=spec.template`, to an item of Templates."""
    resource, equals, path = text.partition("=")
    kind, _, group = resource.partition(".")
    if not equals or not kind or not path or not all(path.split(".")):
        raise ValueError("expected KIND.GROUP=PATH (GameServer.agones.dev=spec.template)")
    return (group, kind), path


def workload_of(source: Located, templates: Templates) -> Workload | None:
    """Return the workload that an object is, None if it carries no pod template.

    Raises NotInjectable for a template in an unknown kind or elsewhere, ManifestError for one that is missing.
    """
    obj = source.object
    group, kind = group_of(obj), str(obj.get("kind"))
    path = templates.get((group, kind))
    if path is None:
        if found := _find_template(obj, "", _SEARCH_DEPTH):
            resource = f"{kind}.{group}" if group else kind
            raise NotInjectable(found, f"unknown kind; to inject it, pass --pod-template-path {resource}={found}")
        return None
    template, at = obj, ""
    for key in path.split(".") if path else ():
        at = join(at, key)
        inner = template.get(key)
        if inner is None and "workloadRef" in template:
            raise NotInjectable(at, "is elsewhere (workloadRef): inject the workload that it refers to")
        template = mapping_of(inner, at)
    mapping_of(template.get("spec"), join(at, "spec"))
    metadata = mapping_at(obj, "metadata")
    name = metadata.get("name") or metadata.get("generateName") or ""
    return Workload(source, kind, str(name), metadata.get("namespace"), path, template)


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
