"""The sidecar into one pod template, and out again; used by the command line and by the webhook.

Changes, all noted as JSON in the annotation `websocket-exporter/original` so that they can be undone:
    1. The sidecar's container is added: last init container (native) or last container (classic).
    2. The app's port passes its name to the sidecar's port and becomes `app-<name>`, so that Services by name follow.
       Probes and hooks of the app that use the name get the number, so that they still reach the app.
    3. Before Kubernetes 1.33 Services search ordinary containers only for port names, so the app's container declares
       the sidecar's port as well (`ports` only informs: a pod has one network). A hostPort moves to the same entry.
    4. An app without a preStop gets one that waits for the drain to end (hold-app).
    5. terminationGracePeriodSeconds is raised to hold the drain.
    6. The pods get the label that the shipped NetworkPolicy selects, and prometheus.io annotations if requested.

Injecting always removes first and then adds: a second run changes nothing, and a run with other flags equals a
first run with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from exporter.kubernetes.container import (
    DEFAULT_GRACE_PERIOD,
    PRESTOP_PATH,
    app_prestop,
    grace_period,
    prestop_seconds,
    sidecar_container,
)
from exporter.kubernetes.errors import ManifestError, Warn, join, list_at, mapping_at, strings_at
from exporter.kubernetes.original import Note, ensure, prune, read_note, remove_note, write_note
from exporter.kubernetes.ports import ContainerPort, app_port, declared, free_name, used_names
from exporter.kubernetes.settings import CONTAINER, LABEL, NATIVE_PORT_NAMES_SINCE, ORIGINAL, Scrape, Settings

_PROMETHEUS = "prometheus.io/"
_SLEEP = re.compile(r"\s*(?:/bin/)?sleep\s+(\d+)s?\s*")


@dataclass(frozen=True, slots=True)
class AppPort:
    """The app's port as it was before the sidecar took over its name."""

    number: int
    name: str | None


def find_sidecar(spec: dict[str, Any], where: str) -> dict[str, Any] | None:
    """Return the container of a pod spec that has the sidecar's name. where: the spec's path."""
    for key in ("initContainers", "containers"):
        for container in list_at(spec, key, where):
            if container.get("name") == CONTAINER:
                return container
    return None


def inject_pod(template: dict[str, Any], path: str, settings: Settings, warn: Warn) -> AppPort:
    """Add the sidecar to a pod template that has none, in place, and return the app's port. path: the template's.

    Raises ManifestError, NotInjectable among them; an error other than NotInjectable leaves it half changed.
    """
    spec, where = template["spec"], join(path, "spec")
    if find_sidecar(spec, where) is not None:
        raise ManifestError(where, f"there is a container named {CONTAINER} already, without annotation {ORIGINAL}")
    _check_system(spec, where)
    app = app_port(template, where, settings)
    _check_ports(spec, where, app, settings)
    note: Note = {"container": app.container.get("name"), "port": app.number}
    listening = _take_over(spec, where, app, settings, note)
    _redirect_handlers(app, note)
    held = settings.hold_app and _add_prestop(app, settings, note, warn)
    note["grace"] = spec.get("terminationGracePeriodSeconds")
    spec["terminationGracePeriodSeconds"] = grace_period(settings, _grace(spec, where), held=held)
    key = "initContainers" if settings.runs_native else "containers"
    ensure(spec, key, [], where, note).append(sidecar_container(settings, app.number, listening))
    metadata = ensure(template, "metadata", {}, path, note)
    labels = ensure(metadata, "labels", {}, join(path, "metadata"), note)
    if LABEL not in labels:
        labels[LABEL] = "true"
        note["label"] = True
    annotations = ensure(metadata, "annotations", {}, join(path, "metadata"), note)
    if settings.scrape is Scrape.ANNOTATIONS:
        _add_scrape_annotations(annotations, settings, note, warn)
    write_note(annotations, note)
    if spec.get("hostNetwork"):
        warn(f"the pod uses the node's network: clients that connect to port {app.number} bypass the sidecar")
    return AppPort(app.number, note.get("name"))


def _check_system(spec: dict[str, Any], where: str) -> None:
    for key, inner in (("os", "name"), ("nodeSelector", "kubernetes.io/os")):
        if mapping_at(spec, key, where).get(inner) == "windows":
            raise ManifestError(f"{where}.{key}", "the sidecar runs on Linux nodes only")


def _check_ports(spec: dict[str, Any], where: str, app: ContainerPort, settings: Settings) -> None:
    sidecar = {settings.listen_port: "listen-port", settings.admin_port: "admin-port"}
    for port in (app, *declared(spec, where)):
        if port.number in sidecar:
            raise ManifestError(
                f"{port.container_path}.ports",
                f"port {port.number} is the sidecar's; choose another with --{sidecar[port.number]}",
            )


def _grace(spec: dict[str, Any], where: str) -> int:
    value = spec.get("terminationGracePeriodSeconds")
    if value is None:
        return DEFAULT_GRACE_PERIOD
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ManifestError(f"{where}.terminationGracePeriodSeconds", f"must be a number of seconds, is {value!r}")
    return value


def _take_over(spec: dict[str, Any], where: str, app: ContainerPort, settings: Settings, note: Note) -> dict[str, Any]:
    """Move name and hostPort of the app's port to the sidecar's, note it, and return them."""
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
    """Yield every httpGet and tcpSocket of a container's probes and hooks, with the path inside the container."""
    lifecycle = mapping_at(container, "lifecycle", where)
    parents = [(key, container) for key in ("startupProbe", "livenessProbe", "readinessProbe")]
    parents += [(key, lifecycle) for key in ("postStart", "preStop")]
    for key, parent in parents:
        probe = mapping_at(parent, key, where)
        for handler in ("httpGet", "tcpSocket"):
            if handler in probe:
                yield f"{key}.{handler}", mapping_at(probe, handler, join(where, key))


def _redirect_handlers(app: ContainerPort, note: Note) -> None:
    if "name" not in note:
        return
    probes = []
    for key, handler in _handlers(app.container, app.container_path):
        if handler.get("port") == note["name"]:
            handler["port"] = app.number
            probes.append(key)
    if probes:
        note["probes"] = probes


def _add_prestop(app: ContainerPort, settings: Settings, note: Note, warn: Warn) -> bool:
    """Give the app a preStop that waits for the drain. Returns False if it has one of its own."""
    own = mapping_at(app.container, "lifecycle", app.container_path).get("preStop")
    if own is not None:
        seconds, needed = _sleep_seconds(own), prestop_seconds(settings)
        if seconds is not None and seconds < needed:
            warn(
                f"container {app.container.get('name')}: its own preStop sleeps {seconds} s, but a drain may take "
                f"{settings.drain_seconds} s: remove it, or let it sleep {needed} s"
            )
        return False
    lifecycle = ensure(app.container, "lifecycle", {}, app.container_path, note)
    lifecycle["preStop"] = app_prestop(settings)
    note["held"] = True
    return True


def _sleep_seconds(hook: Any) -> int | None:
    """Return how long a preStop handler sleeps, None if it does anything else."""
    sleep, execute = (hook.get("sleep"), hook.get("exec")) if isinstance(hook, dict) else (None, None)
    if isinstance(sleep, dict) and isinstance(sleep.get("seconds"), int):
        return int(sleep["seconds"])
    command = execute.get("command") if isinstance(execute, dict) else None
    if not isinstance(command, list) or not command:
        return None
    shell = len(command) == 3 and command[1] == "-c"
    found = _SLEEP.fullmatch(str(command[2]) if shell else " ".join(map(str, command)))
    return int(found[1]) if found else None


def _add_scrape_annotations(annotations: dict[str, Any], settings: Settings, note: Note, warn: Warn) -> None:
    if any(key.startswith(_PROMETHEUS) for key in annotations):
        warn(f"the pods have {_PROMETHEUS} annotations of their own, which stay: scrape the sidecar with a PodMonitor")
        return
    added = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(settings.admin_port),
        "prometheus.io/path": "/metrics",
    }
    annotations.update(added)
    note["annotations"] = sorted(added)


def remove_pod(template: dict[str, Any], path: str) -> bool:
    """Undo inject_pod, in place. Returns False if there is nothing to undo."""
    note = read_note(template, path)
    if note is None:
        return False
    spec, where = template["spec"], join(path, "spec")
    for key in ("initContainers", "containers"):
        if spec.get(key):
            spec[key] = [one for one in list_at(spec, key, where) if one.get("name") != CONTAINER]
    prune(spec, "initContainers", note)
    for container in list_at(spec, "containers", where):
        if container.get("name") == note.get("container"):
            _restore_container(container, where, note)
    if "grace" in note and note["grace"] is None:
        spec.pop("terminationGracePeriodSeconds", None)
    elif "grace" in note:
        spec["terminationGracePeriodSeconds"] = note["grace"]
    metadata = template["metadata"]
    for key in note.get("annotations", []):
        metadata["annotations"].pop(key, None)
    if note.get("label"):
        strings_at(metadata, "labels", join(path, "metadata")).pop(LABEL, None)
        prune(metadata, "labels", note)
    remove_note(template, note)
    return True


def _restore_container(container: dict[str, Any], where: str, note: Note) -> None:
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
            handler["port"] = note.get("name", handler["port"])
    lifecycle = mapping_at(container, "lifecycle", where)
    hook = mapping_at(mapping_at(lifecycle, "preStop", where), "httpGet", where)
    if note.get("held") and str(hook.get("path", "")).startswith(PRESTOP_PATH):
        del lifecycle["preStop"]
        prune(container, "lifecycle", note)
