"""Which objects carry a pod template, and where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from exporter.kubernetes.errors import ManifestError, join, kind_of, mapping_at, strings_at

_TEMPLATES: dict[tuple[str, str], tuple[str, ...]] = {
    ("apps", "Deployment"): ("spec", "template"),
    ("extensions", "Deployment"): ("spec", "template"),
    ("apps", "StatefulSet"): ("spec", "template"),
    ("apps", "DaemonSet"): ("spec", "template"),
    ("extensions", "DaemonSet"): ("spec", "template"),
    ("apps", "ReplicaSet"): ("spec", "template"),
    ("extensions", "ReplicaSet"): ("spec", "template"),
    ("batch", "Job"): ("spec", "template"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
    ("", "Pod"): (),
}
"""API group and kind to the path of the pod template inside the object."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One object with a pod template in it. `template` is the object itself for a Pod."""

    kind: str
    name: str
    namespace: str | None
    path: str
    """Path of the pod template inside the object, `spec.template`; empty for a Pod."""
    object: dict[str, Any]
    template: dict[str, Any]

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its pods."""
        metadata = mapping_at(self.template, "metadata", self.path)
        return strings_at(metadata, "labels", join(self.path, "metadata"))

    @property
    def is_batch(self) -> bool:
        """Whether its pods are meant to come to an end."""
        return self.kind in {"Job", "CronJob"}

    def __str__(self) -> str:
        return named(self.object)


def group_of(obj: dict[str, Any]) -> str:
    """The API group: `apps` of `apps/v1`, empty for the core."""
    version = obj.get("apiVersion")
    return version.rpartition("/")[0] if isinstance(version, str) else ""


def named(obj: dict[str, Any]) -> str:
    """How messages call an object: `Deployment shop/chat`."""
    metadata = obj.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name = metadata.get("name") or metadata.get("generateName") or "without a name"
    namespace = metadata.get("namespace")
    return f"{obj.get('kind')} {namespace}/{name}" if namespace else f"{obj.get('kind')} {name}"


def workload_of(obj: dict[str, Any]) -> Workload | None:
    """The workload an object is, or None if it carries no pod template. Raises ManifestError if it lacks one
    it needs.
    """
    kind = obj.get("kind")
    keys = _TEMPLATES.get((group_of(obj), kind)) if isinstance(kind, str) else None
    if keys is None or kind is None:
        return None
    template, path = obj, ""
    for key in keys:
        path = join(path, key)
        inner = template.get(key)
        if not isinstance(inner, dict):
            raise ManifestError(path, f"must be a mapping, is {kind_of(inner)}")
        template = inner
    if not isinstance(template.get("spec"), dict):
        raise ManifestError(join(path, "spec"), f"must be a mapping, is {kind_of(template.get('spec'))}")
    metadata = mapping_at(obj, "metadata", "")
    name = metadata.get("name") or metadata.get("generateName") or ""
    return Workload(kind, str(name), metadata.get("namespace"), path, obj, template)


def annotation_places(workload: Workload) -> Iterator[tuple[dict[str, str], str]]:
    """Every place that may hold annotations for a workload, with its path: the object first, the pod template
    last.
    """
    yield (
        strings_at(mapping_at(workload.object, "metadata", ""), "annotations", "metadata"),
        "metadata.annotations",
    )
    keys = workload.path.split(".") if workload.path else []
    inner, path = workload.object, ""
    for key in keys:
        inner, path = inner[key], join(path, key)
        if "metadata" in inner or inner is workload.template:
            where = join(path, "metadata")
            yield (
                strings_at(mapping_at(inner, "metadata", path), "annotations", where),
                f"{where}.annotations",
            )
