"""Streams of manifests: the sidecar into every workload, Services and NetworkPolicies to match; and all of it undone.

Text in, text out, warnings to a callback; no file, no terminal. A document that does not change keeps its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from exporter.kubernetes.errors import ManifestError, NotInjectable, Warn, join, list_at, mapping_at
from exporter.kubernetes.manifest_stream import Located, ManifestFile
from exporter.kubernetes.meshes import mesh_warnings
from exporter.kubernetes.networkpolicies import (
    extend_policy,
    is_network_policy,
    restore_policy,
    restricts,
    warn_unscraped,
)
from exporter.kubernetes.original import read_note
from exporter.kubernetes.pod import find_sidecar, inject_pod, remove_pod
from exporter.kubernetes.podmonitor import JOB_LABEL, generated_for, pod_monitor
from exporter.kubernetes.ports import declared
from exporter.kubernetes.services import (
    InjectedPort,
    is_service,
    may_change,
    restore_service,
    rewrite_service,
    selects,
    warn_unselected,
)
from exporter.kubernetes.settings import Scrape, Settings, parse_annotations, settings_of
from exporter.kubernetes.workloads import (
    TEMPLATES,
    Templates,
    Workload,
    annotation_places,
    group_of,
    helm_hook,
    workload_of,
)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which objects to change.

    only: KIND/NAME of the workloads to change; empty: all. strict: raise NotInjectable instead of passing an object
    through, as always for one named in `only`. templates: kinds that carry a pod template.
    """

    only: tuple[str, ...] = ()
    strict: bool = False
    templates: Templates = field(default_factory=lambda: TEMPLATES)

    def covers(self, obj: dict[str, Any]) -> bool:
        """Return whether an object is to be changed; the kind's case does not count, as in kubectl."""
        return not self.only or _key(_kind_and_name(obj)) in map(_key, self.only)

    def check(self, targets: Iterable[_Target]) -> None:
        """Raise ManifestError if a name in `only` is not in the input."""
        present = {_key(_kind_and_name(target.workload.object)) for target in targets}
        for name in self.only:
            if _key(name) not in present:
                raise ManifestError("", f"--only {name}: there is no such workload in the input")


def _kind_and_name(obj: dict[str, Any]) -> str:
    return f"{obj['kind']}/{mapping_at(obj, 'metadata', '').get('name', '')}"


def _key(name: str) -> str:
    kind, _, rest = name.partition("/")
    return f"{kind.lower()}/{rest}"


@dataclass(frozen=True, slots=True)
class _Follower:
    """A kind of object that is changed along with the workloads that it selects."""

    includes: Callable[[dict[str, Any]], bool]
    selects: Callable[[dict[str, Any], Workload], bool]
    change: Callable[[dict[str, Any], Iterable[InjectedPort], Warn], None]
    restore: Callable[[dict[str, Any]], bool]
    warn_missing: Callable[[InjectedPort, Iterable[dict[str, Any]], Warn], None]


_FOLLOWERS = (
    _Follower(is_service, selects, rewrite_service, restore_service, warn_unselected),
    _Follower(is_network_policy, restricts, extend_policy, restore_policy, warn_unscraped),
)


@dataclass(frozen=True, slots=True)
class _Target:
    """A workload in the input and where it is."""

    located: Located
    workload: Workload


def inject(inputs: Iterable[tuple[str, str]], settings: Settings, warn: Warn, scope: Scope | None = None) -> list[str]:
    """Add the sidecar to every workload of the inputs (name, text) and return their new texts.

    warn receives one sentence for each thing that needs a human. Raises ManifestError.
    """
    scope = scope or Scope()
    files, objects = _read(inputs, scope, warn)
    targets = list(_targets(objects, scope, warn))
    scope.check(targets)
    if not targets:
        warn("there is no workload in the input: nothing to inject")
    namespaces = {
        str(mapping_at(one.object, "metadata", "").get("name")): one.object
        for one in objects
        if one.object["kind"] == "Namespace" and group_of(one.object) == ""
    }
    ports: list[InjectedPort] = []
    monitors: dict[str, tuple[Located, dict[str, Any]]] = {}
    for target in targets:
        with _located(target.located):
            if not scope.covers(target.workload.object):
                ports += _present_ports(target.workload)
                continue
            own, found = _inject_target(target, settings, scope, warn, namespaces)
            ports += found
            if own is not None and own.scrape is Scrape.PODMONITOR:
                monitor = pod_monitor(target.workload)
                monitors[_monitor_key(monitor)] = (target.located, monitor)
    _change_followers(objects, targets, ports, warn)
    handled = {f"{one.workload.kind}/{one.workload.name}" for one in targets if scope.covers(one.workload.object)}
    _set_monitors(objects, monitors, handled)
    return [file.render(warn) for file in files]


def remove(inputs: Iterable[tuple[str, str]], warn: Warn, scope: Scope | None = None) -> list[str]:
    """Remove the sidecar from the inputs (name, text) and return their new texts. Raises ManifestError."""
    scope = scope or Scope()
    files, objects = _read(inputs, scope, warn)
    targets = list(_targets(objects, replace(scope, strict=False), _ignore))
    scope.check(targets)
    covered = [target for target in targets if scope.covers(target.workload.object)]
    removed = False
    for target in covered:
        with _located(target.located):
            removed |= remove_pod(target.workload.template, target.workload.path)
    for one in objects:
        for follower in _FOLLOWERS:
            with _located(one):
                if follower.includes(one.object) and (
                    not scope.only or any(follower.selects(one.object, target.workload) for target in covered)
                ):
                    removed |= follower.restore(one.object)
    if not removed:
        warn("there is no sidecar by inject in the input: nothing to remove")
    _set_monitors(objects, {}, {f"{one.workload.kind}/{one.workload.name}" for one in covered} if scope.only else None)
    return [file.render(warn) for file in files]


def _read(inputs: Iterable[tuple[str, str]], scope: Scope, warn: Warn) -> tuple[list[ManifestFile], list[Located]]:
    files = [ManifestFile.read(name, text) for name, text in inputs]
    refuse = None if scope.strict else lambda text: warn(f"{text} (passed through)")
    return files, [one for file in files for one in file.objects(refuse)]


def _targets(objects: Iterable[Located], scope: Scope, warn: Warn) -> Iterator[_Target]:
    for one in objects:
        refuse = None if scope.strict or scope.only else warn
        with _located(one, refuse if scope.covers(one.object) else _ignore):
            workload = workload_of(one.object, scope.templates)
            if workload is not None:
                yield _Target(one, workload)


@contextmanager
def _located(one: Located, warn: Warn | None = None) -> Iterator[None]:
    """Add the document to a ManifestError; with `warn`, report NotInjectable there instead of raising it."""
    try:
        yield
    except ManifestError as error:
        error.where = error.where or one.where
        if warn is None or not isinstance(error, NotInjectable):
            raise
        warn(f"{error} (passed through)")


def _ignore(_text: str) -> None:
    """Drop a warning about an object that --only leaves out."""


def _prefixed(warn: Warn, where: str) -> Warn:
    return lambda text: warn(f"{where}: {text}")


def _annotations_of(workload: Workload) -> dict[str, str]:
    """Return the settings in a workload's annotations; the pod template's win."""
    texts: dict[str, str] = {}
    for place, path in annotation_places(workload):
        texts.update(parse_annotations(place, path))
    return texts


def _inject_target(
    target: _Target, settings: Settings, scope: Scope, warn: Warn, namespaces: dict[str, dict[str, Any]]
) -> tuple[Settings | None, list[InjectedPort]]:
    """Inject one workload. Returns its own settings, None if it gets no sidecar, and its ports."""
    workload, where = target.workload, target.located.where
    texts = _annotations_of(workload)
    _ = workload.labels  # raises if they are malformed
    remove_pod(workload.template, workload.path)
    if texts.get("inject") == "false":
        return None, _plain_ports(workload, changed=True)
    own = settings_of(settings, texts, join(workload.path, "metadata.annotations"))
    say = _prefixed(warn, where)
    requested = bool(scope.only) or texts.get("inject") == "true"
    try:
        hook = helm_hook(workload)
        if hook is not None and not requested:
            raise NotInjectable("", f"is a Helm hook ({hook})")
        port = inject_pod(workload.template, workload.path, own, say)
    except NotInjectable as error:
        if scope.strict or requested:
            raise
        say(f"{error} (passed through)")
        return None, []
    if workload.is_batch and not own.runs_native:
        say(f"a classic sidecar does not stop by itself and keeps the {workload.kind} from completing")
    if own.scrape is Scrape.PODMONITOR and JOB_LABEL not in workload.labels:
        say(f"the pods have no label {JOB_LABEL}: job is {workload.name}, the workload's name")
    namespace = namespaces.get(workload.namespace or "")
    for text in mesh_warnings(workload.template, workload.path, port.number, own, namespace):
        say(text)
    return own, [InjectedPort(workload, port.number, port.name, own.listen_port, own.admin_port)]


def _plain_ports(workload: Workload, *, changed: bool) -> list[InjectedPort]:
    """Return the ports of a workload that has no sidecar."""
    ports = declared(workload.template["spec"], join(workload.path, "spec"))
    return [InjectedPort(workload, port.number, port.name, None, changed=changed) for port in ports]


def _present_ports(workload: Workload) -> list[InjectedPort]:
    """Return the ports of a workload that this run leaves as it is, with the sidecar of an earlier run."""
    note = read_note(workload.template, workload.path)
    where = join(workload.path, "spec")
    sidecar = find_sidecar(workload.template["spec"], where)
    if note is None or sidecar is None:
        return _plain_ports(workload, changed=False)
    app, name = note.get("port"), note.get("name")
    numbers = [port.get("containerPort") for port in list_at(sidecar, "ports", where)]
    if not isinstance(app, int) or len(numbers) != 2:
        return []
    return [InjectedPort(workload, app, name, numbers[0], numbers[1], changed=False)]


def _change_followers(
    objects: Sequence[Located], targets: Iterable[_Target], ports: Sequence[InjectedPort], warn: Warn
) -> None:
    """Bring Services and NetworkPolicies over the workloads in line with their ports."""
    places = {id(target.workload): target.located.where for target in targets}
    for follower in _FOLLOWERS:
        found = [one for one in objects if follower.includes(one.object)]
        for one in found:
            with _located(one):
                over = [port for port in ports if follower.selects(one.object, port.workload)]
                if any(port.changed for port in over):
                    follower.restore(one.object)
                    if may_change(one.object):
                        follower.change(one.object, over, _prefixed(warn, one.where))
        for port in ports:
            if port.changed:
                others = (one.object for one in found)
                follower.warn_missing(port, others, _prefixed(warn, places[id(port.workload)]))


def _monitor_key(monitor: dict[str, Any]) -> str:
    return f"{monitor['metadata'].get('namespace', '')}/{monitor['metadata'].get('name')}"


def _set_monitors(
    objects: Iterable[Located], wanted: dict[str, tuple[Located, dict[str, Any]]], handled: set[str] | None
) -> None:
    """Replace, drop and add the generated PodMonitors of the input.

    wanted: those to have, with the workload they stand beside. handled: workloads (`Deployment/chat`) whose other
    PodMonitors go; None: those of all.
    """
    missing = dict(wanted)
    for one in objects:
        workload = generated_for(one.object)
        if workload is None:
            continue
        kept = missing.pop(_monitor_key(one.object), None)
        if kept is not None:
            one.object.clear()
            one.object.update(kept[1])
        elif handled is not None and workload not in handled:
            continue
        elif one.siblings is None:
            one.file.documents[:] = [other for other in one.file.documents if other is not one.document]
        else:
            one.siblings[:] = [item for item in one.siblings if item is not one.object]
    for beside, monitor in missing.values():
        if beside.siblings is None:
            beside.file.append(monitor, is_json=beside.document.is_json)
        else:
            beside.siblings.append(monitor)
