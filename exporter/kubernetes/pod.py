"""One pod template: the sidecar into it, and out of it again. The command line and the webhook both come
through here.

What changes, and what is noted to undo it
    1. The sidecar's container is added: last among the init containers (native), or last among the containers
    (classic).
    2. The app's port gives its name to the sidecar's and is called `app-<name>` from then on. Services which
       target the name follow by that. The app's own probes and hooks which used the name get the number, so
       they still ask the app.
    3. Before Kubernetes 1.33 Services do not look for names at native sidecars, only at ordinary containers.
       So the app's container declares the sidecar's port too: containers of a pod share one network, and
       `ports` only informs. A hostPort moves to that same entry.
    4. The app's container, unless it has a preStop of its own, gets one that waits for the drain to end
    (hold-app).
    5. terminationGracePeriodSeconds is raised to hold the drain; prometheus.io annotations are added if asked
    for.
    6. All of it is noted as JSON in the annotation `websocket-exporter/original` of the pod template.

Injecting is always taking out first, then putting in: a second run therefore changes nothing, and a run with
other flags changes what those flags say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from exporter.kubernetes.container import DEFAULT_GRACE_PERIOD, grace_period, hold_hook, sidecar_container
from exporter.kubernetes.errors import ManifestError, Warn, join, list_at, mapping_at, strings_at
from exporter.kubernetes.ports import ContainerPort, app_port, declared, free_name, used_names
from exporter.kubernetes.settings import CONTAINER, NATIVE_PORT_NAMES_SINCE, ORIGINAL, Scrape, Settings

_PROMETHEUS = "prometheus.io/"
_HOLD_PATH = "/drain?wait="


def has_sidecar(spec: dict[str, Any], where: str) -> bool:
    """Whether any container of a pod spec is called as ours. `where` is the spec's path, for messages."""
    return any(
        container.get("name") == CONTAINER
        for key in ("initContainers", "containers")
        for container in list_at(spec, key, where)
    )


@dataclass(frozen=True, slots=True)
class AppPort:
    """The app's port, as it was before the sidecar stood before it."""

    number: int
    name: str | None


def inject_pod(template: dict[str, Any], path: str, settings: Settings, warn: Warn) -> AppPort:
    """Put the sidecar into a pod template that has none, in place. `path` is the template's, for messages.

    Returns the app's port. Raises ManifestError; the template is then in no defined state.
    """
    spec, where = template["spec"], join(path, "spec")
    if has_sidecar(spec, where):
        raise ManifestError(where, f"there is a container named {CONTAINER} already, without the note {ORIGINAL}")
    _check_system(spec, where)
    app = app_port(template, where, settings)
    _check_ports(spec, where, app, settings)
    note: dict[str, Any] = {"container": app.container.get("name"), "port": app.number}
    front = _take_over(spec, where, app, settings, note)
    _redirect_handlers(app, note)
    held = settings.hold_app and _add_prestop(app, settings, note)
    note["grace"] = spec.get("terminationGracePeriodSeconds")
    spec["terminationGracePeriodSeconds"] = grace_period(settings, _grace(spec, where), held=held)
    key = "initContainers" if settings.runs_native else "containers"
    _ensure(spec, key, [], where, note).append(sidecar_container(settings, app.number, front))
    metadata = _ensure(template, "metadata", {}, path, note)
    annotations = _ensure(metadata, "annotations", {}, "metadata", note)
    if settings.scrape is Scrape.ANNOTATIONS:
        _announce(annotations, settings, note, warn)
    annotations[ORIGINAL] = json.dumps(note, sort_keys=True, separators=(",", ":"))
    if spec.get("hostNetwork"):
        warn(f"the pod uses the node's network: clients of its port {app.number} do not pass the sidecar")
    return AppPort(app.number, note.get("name"))


def _check_system(spec: dict[str, Any], where: str) -> None:
    for key, inner in (("os", "name"), ("nodeSelector", "kubernetes.io/os")):
        if mapping_at(spec, key, where).get(inner) == "windows":
            raise ManifestError(f"{where}.{key}", "the sidecar runs on Linux nodes only")


def _check_ports(spec: dict[str, Any], where: str, app: ContainerPort, settings: Settings) -> None:
    ours = {settings.listen_port: "listen-port", settings.admin_port: "admin-port"}
    for port in [app, *declared(spec, where)]:
        if port.number in ours:
            field = f"{port.container_path}.ports"
            raise ManifestError(
                field, f"port {port.number} is the sidecar's; choose another with --{ours[port.number]}"
            )


def _grace(spec: dict[str, Any], where: str) -> int:
    value = spec.get("terminationGracePeriodSeconds")
    if value is None:
        return DEFAULT_GRACE_PERIOD
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ManifestError(f"{where}.terminationGracePeriodSeconds", f"must be a number of seconds, is {value!r}")
    return value


def _take_over(
    spec: dict[str, Any], where: str, app: ContainerPort, settings: Settings, note: dict[str, Any]
) -> dict[str, Any]:
    """What the sidecar's port takes from the app's: its name and its hostPort. Notes it in `note`."""
    used = used_names(spec, where)
    name = app.name
    if name is None or app.entry is None:
        name = free_name("websocket", used)
    else:
        note["name"] = name
        note["renamed"] = app.entry["name"] = free_name(f"app-{name}", used)
    host = {} if spec.get("hostNetwork") or app.entry is None else _pop(app.entry, ("hostPort", "hostIP"))
    if host:
        note["host"] = host
    if not settings.runs_native:
        return {"name": name, **host}
    needs_name = "name" in note and settings.kubernetes < NATIVE_PORT_NAMES_SINCE
    if needs_name or host:
        mirror = {"containerPort": settings.listen_port, "protocol": "TCP", **host}
        note["mirror"] = settings.listen_port
        app.container["ports"].append({"name": name, **mirror} if needs_name else mirror)
    return {"name": name}


def _pop(mapping: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: mapping.pop(key) for key in keys if key in mapping}


def _handlers(container: dict[str, Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every httpGet and tcpSocket in a container's probes and hooks, with the path inside the container."""
    lifecycle = mapping_at(container, "lifecycle", where)
    parents = [(key, container) for key in ("startupProbe", "livenessProbe", "readinessProbe")]
    parents += [(key, lifecycle) for key in ("postStart", "preStop")]
    for key, parent in parents:
        probe = mapping_at(parent, key, where)
        for handler in ("httpGet", "tcpSocket"):
            if handler in probe:
                yield f"{key}.{handler}", mapping_at(probe, handler, join(where, key))


def _redirect_handlers(app: ContainerPort, note: dict[str, Any]) -> None:
    if "name" not in note:
        return
    probes = []
    for key, handler in _handlers(app.container, app.container_path):
        if handler.get("port") == note["name"]:
            handler["port"] = app.number
            probes.append(key)
    if probes:
        note["probes"] = probes


def _add_prestop(app: ContainerPort, settings: Settings, note: dict[str, Any]) -> bool:
    """Give the app a preStop that waits for the drain; False if it has one of its own."""
    if mapping_at(app.container, "lifecycle", app.container_path).get("preStop") is not None:
        return False
    lifecycle = _ensure(app.container, "lifecycle", {}, "container", note)
    lifecycle["preStop"] = hold_hook(settings)
    note["held"] = True
    return True


def _announce(annotations: dict[str, Any], settings: Settings, note: dict[str, Any], warn: Warn) -> None:
    if any(key.startswith(_PROMETHEUS) for key in annotations):
        warn(
            f"the pods carry {_PROMETHEUS} annotations of their own, left as they are: "
            "scrape the sidecar by a PodMonitor"
        )
        return
    ours = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(settings.admin_port),
        "prometheus.io/path": "/metrics",
    }
    annotations.update(ours)
    note["annotations"] = sorted(ours)


def _ensure(parent: dict[str, Any], key: str, empty: Any, path: str, note: dict[str, Any]) -> Any:
    """The list or mapping under `key`, made if it is absent or null, which is then noted."""
    if parent.get(key) is None:
        note.setdefault("blank", {})[key] = "null" if key in parent else "absent"
        parent[key] = empty
    return list_at(parent, key, path) if isinstance(empty, list) else mapping_at(parent, key, path)


def remove_pod(template: dict[str, Any], path: str) -> bool:
    """Take the sidecar out again, in place, by the note left when it was put in. False if there is no such
    note.
    """
    metadata = mapping_at(template, "metadata", path)
    annotations = strings_at(metadata, "annotations", join(path, "metadata"))
    if ORIGINAL not in annotations:
        return False
    note = read_note(annotations[ORIGINAL], join(path, f"metadata.annotations.{ORIGINAL}"))
    spec, where = template["spec"], join(path, "spec")
    blank = note.get("blank", {})
    for key in ("initContainers", "containers"):
        if spec.get(key):
            spec[key] = [one for one in list_at(spec, key, where) if one.get("name") != CONTAINER]
    _prune(spec, "initContainers", blank)
    for container in list_at(spec, "containers", where):
        if container.get("name") == note.get("container"):
            _give_back(container, where, note)
    if "grace" in note and note["grace"] is None:
        spec.pop("terminationGracePeriodSeconds", None)
    elif "grace" in note:
        spec["terminationGracePeriodSeconds"] = note["grace"]
    for key in (ORIGINAL, *note.get("annotations", [])):
        annotations.pop(key, None)
    _prune(metadata, "annotations", blank)
    _prune(template, "metadata", blank)
    return True


def read_note(text: str, where: str) -> dict[str, Any]:
    """The JSON object of an `original` annotation. Raises ManifestError if it is none."""
    try:
        note = json.loads(text)
    except ValueError:
        note = None
    if not isinstance(note, dict):
        raise ManifestError(where, "is not the note that inject writes; the sidecar must be taken out by hand")
    return note


def _give_back(container: dict[str, Any], where: str, note: dict[str, Any]) -> None:
    ports = list_at(container, "ports", where)
    if "mirror" in note:
        container["ports"] = ports = [port for port in ports if port.get("containerPort") != note["mirror"]]
    for port in ports:
        if port.get("containerPort") != note.get("port") or port.get("protocol", "TCP") != "TCP":
            continue
        if "name" in note and port.get("name") == note.get("renamed"):
            port["name"] = note["name"]
            port.update(note.get("host", {}))
        elif "name" not in note:
            port.update(note.get("host", {}))
    for key, handler in _handlers(container, where):
        if key in note.get("probes", []) and handler.get("port") == note.get("port"):
            handler["port"] = note["name"]
    lifecycle = mapping_at(container, "lifecycle", where)
    hook = mapping_at(mapping_at(lifecycle, "preStop", where), "httpGet", where)
    if note.get("held") and str(hook.get("path", "")).startswith(_HOLD_PATH):
        del lifecycle["preStop"]
        _prune(container, "lifecycle", note.get("blank", {}))


def _prune(parent: dict[str, Any], key: str, blank: dict[str, str]) -> None:
    """Undo `_ensure`: what we made and is empty again goes, or becomes null as it was."""
    if parent.get(key) or key not in parent:
        return
    match blank.get(key):
        case "absent":
            del parent[key]
        case "null":
            parent[key] = None
