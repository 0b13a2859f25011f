"""Streams of manifests: the sidecar into every workload, Services and NetworkPolicies to match; and all of it undone.

Text in, text out, warnings to a callback; no file, no terminal. A document that does not change keeps its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from exporter.kubernetes.errors import ManifestError, NotInjectable, Warn, list_at, located, metadata_of
from exporter.kubernetes.followers import InjectedPort, change_followers, prefixed, restore_followers
from exporter.kubernetes.manifest_stream import Located, ManifestFile
from exporter.kubernetes.meshes import mesh_warnings
from exporter.kubernetes.original import read_note
from exporter.kubernetes.pod import find_sidecar, inject_pod, remove_pod
from exporter.kubernetes.podmonitor import JOB_LABEL, pod_monitor, set_monitors
from exporter.kubernetes.ports import declared
from exporter.kubernetes.settings import Scrape, Settings, settings_of
from exporter.kubernetes.workloads import TEMPLATES, Templates, Workload, annotated_settings, workload_of


@dataclass(frozen=True, slots=True)
class Scope:
    """Which objects to change.

    only: KIND/NAME of the workloads to change; empty: all. strict: raise NotInjectable instead of passing an object
    through, as always for one named in `only`. templates: kinds that carry a pod template.
    """

    only: tuple[str, ...] = ()
    strict: bool = False
    templates: Templates = field(default_factory=lambda: TEMPLATES)

    def covers(self, one: Located) -> bool:
        """Return whether an object is to be changed."""
        return not self.only or any(_is_named(one, name) for name in self.only)


_ALL = Scope()


def _is_named(one: Located, text: str) -> bool:
    """Return whether an object is the one of `KIND/NAME`; the kind's case does not count, as in kubectl."""
    kind, _, name = text.partition("/")
    return kind.lower() == one.object["kind"].lower() and name == str(one.metadata.get("name", ""))


def inject(inputs: Iterable[tuple[str, str]], settings: Settings, warn: Warn, scope: Scope = _ALL) -> list[str]:
    """Add the sidecar to every workload of the inputs (name, text) and return their new texts.

    warn receives one sentence for each thing that needs a human. Raises ManifestError.
    """
    files, objects = _read(inputs, scope, warn)
    workloads = _workloads(objects, scope, None if scope.strict or scope.only else warn)
    if not workloads:
        warn("there is no workload in the input: nothing to inject")
    namespaces = {str(one.metadata.get("name")): one.object for one in objects if one.resource == "Namespace"}
    ports: list[InjectedPort] = []
    monitors: list[tuple[Located, dict[str, Any]]] = []
    for workload in workloads:
        with located(workload.source.where):
            if not scope.covers(workload.source):
                ports += _ports_left(workload, changed=False)
                continue
            texts = annotated_settings(workload)
            _ = workload.labels  # raises if they are malformed
            with located(path=workload.path):
                remove_pod(workload.template)
                own = None if texts.get("inject") == "false" else settings_of(settings, texts)
            if own is None:
                ports += _ports_left(workload, changed=True)
                continue
            requested = bool(scope.only) or texts.get("inject") == "true"
            with located(workload.source.where, refuse=None if scope.strict or requested else warn):
                ports.append(_inject_one(workload, own, requested, namespaces, prefixed(warn, workload.source.where)))
                if own.scrape is Scrape.PODMONITOR:
                    monitors.append((workload.source, pod_monitor(workload)))
    change_followers(objects, ports, warn)
    set_monitors(objects, monitors, {one.key for one in workloads if scope.covers(one.source)})
    return [file.render(warn) for file in files]


def remove(inputs: Iterable[tuple[str, str]], warn: Warn, scope: Scope = _ALL) -> list[str]:
    """Remove the sidecar from the inputs (name, text) and return their new texts. Raises ManifestError."""
    files, objects = _read(inputs, scope, warn)
    workloads = [one for one in _workloads(objects, scope, None if scope.only else _ignore) if scope.covers(one.source)]
    removed = False
    for workload in workloads:
        with located(workload.source.where, workload.path):
            removed |= remove_pod(workload.template)
    removed |= restore_followers(objects, workloads if scope.only else None)
    if not removed:
        warn("there is no sidecar by inject in the input: nothing to remove")
    set_monitors(objects, [], {one.key for one in workloads} if scope.only else None)
    return [file.render(warn) for file in files]


def _read(inputs: Iterable[tuple[str, str]], scope: Scope, warn: Warn) -> tuple[list[ManifestFile], list[Located]]:
    files = [ManifestFile.read(name, text) for name, text in inputs]
    return files, [one for file in files for one in file.objects(None if scope.strict else warn)]


def _workloads(objects: Iterable[Located], scope: Scope, refuse: Warn | None) -> list[Workload]:
    """Return the workloads of the input. Raises ManifestError, for a name in `only` that is not among them as well."""
    workloads = []
    for one in objects:
        with located(one.where, refuse=refuse if scope.covers(one) else _ignore):
            if workload := workload_of(one, scope.templates):
                workloads.append(workload)
    for name in scope.only:
        if not any(_is_named(one.source, name) for one in workloads):
            raise ManifestError("", f"--only {name}: there is no such workload in the input")
    return workloads


def _ignore(_text: str) -> None:
    """Drop a warning about an object that is not to be changed."""


def _inject_one(
    workload: Workload, settings: Settings, requested: bool, namespaces: Mapping[str, dict[str, Any]], warn: Warn
) -> InjectedPort:
    """Inject a workload without sidecar, by its own settings."""
    hook = metadata_of(workload.source.object, "annotations").get("helm.sh/hook")
    if hook is not None and not requested:
        raise NotInjectable("", f"is a Helm hook ({hook})")
    with located(path=workload.path):
        app = inject_pod(workload.template, settings, warn)
    if workload.kind in {"Job", "CronJob"} and not settings.runs_native:
        warn(f"a classic sidecar does not stop by itself and keeps the {workload.kind} from completing")
    if settings.scrape is Scrape.PODMONITOR and JOB_LABEL not in workload.labels:
        warn(f"the pods have no label {JOB_LABEL}: job is {workload.name}, the workload's name")
    namespace = namespaces.get(workload.namespace or "")
    for text in mesh_warnings(workload.template, app.number, settings, namespace):
        warn(text)
    return InjectedPort(workload, app.number, app.name, settings.listen_port, settings.admin_port)


def _ports_left(workload: Workload, *, changed: bool) -> list[InjectedPort]:
    """Return the ports of a workload that gets no sidecar by this run, with that of an earlier run if it has one."""
    spec = workload.template["spec"]
    with located(path=workload.path):
        note, sidecar = read_note(workload.template), find_sidecar(spec)
        if note is None or sidecar is None:
            return [InjectedPort(workload, port.number, port.name, changed=changed) for port in declared(spec)]
        match [note.get("port"), *(port.get("containerPort") for port in list_at(sidecar, "ports", "spec"))]:
            case [int(app), int(listen), int(admin)]:
                return [InjectedPort(workload, app, note.get("name"), listen, admin, changed)]
    return []
