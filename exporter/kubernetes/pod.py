"""The sidecar into one pod template, and out again; used by the command line and by the webhook.

Changes, all noted as JSON in the annotation `websocket-exporter/original` so that they can be undone:
    1. The sidecar's container is added: last init container (native) or last container (classic), within the restricted
       Pod Security Standard. Its preStop starts the drain and returns when the drain has ended: a native sidecar gets
       SIGTERM only after the app has stopped, and then no session is left to drain.
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

import math
import re
from collections.abc import Iterator
from typing import Any

from exporter.kubernetes.errors import ManifestError, Warn, join, list_at, mapping_at, strings_at
from exporter.kubernetes.original import Note, annotate, ensure, prune, read_note, remove_note
from exporter.kubernetes.ports import ContainerPort, app_port, declared, free_name
from exporter.kubernetes.settings import ADMIN_PORT_NAME, CONTAINER, LABEL, OPTIONS, ORIGINAL, Scrape, Settings
from exporter.units import parse_duration

USER = 65532
"""The image's numeric user, so that runAsNonRoot can be checked without the image."""

DEFAULT_GRACE_PERIOD = 30
"""Seconds; the default of terminationGracePeriodSeconds."""
PRESTOP_SLACK = 2
"""Seconds that the app waits longer than the drain may take, so that the drain ends first."""
PRESTOP_PATH = "/drain?wait="
"""Reports the drain's end and never starts one."""

_DURATIONS = ("drain-grace", "drain-spread", "drain-timeout", "drain-linger", "close-timeout")
_PROMETHEUS = "prometheus.io/"
_SLEEP = re.compile(r"\s*(?:/bin/)?sleep\s+(\d+)s?\s*")


def find_sidecar(spec: dict[str, Any]) -> dict[str, Any] | None:
    """Return the container of a pod spec that has the sidecar's name."""
    containers = [*list_at(spec, "initContainers", "spec"), *list_at(spec, "containers", "spec")]
    return next((one for one in containers if one.get("name") == CONTAINER), None)


def inject_pod(template: dict[str, Any], settings: Settings, warn: Warn) -> ContainerPort:
    """Add the sidecar to a pod template that has none, in place, and return the app's port as it was.

    Raises ManifestError, NotInjectable among them; an error other than NotInjectable leaves it half changed.
    """
    spec = template["spec"]
    if find_sidecar(spec) is not None:
        raise ManifestError("spec", f"there is a container named {CONTAINER} already, without annotation {ORIGINAL}")
    for key, inner in (("os", "name"), ("nodeSelector", "kubernetes.io/os")):
        if mapping_at(spec, key, "spec").get(inner) == "windows":
            raise ManifestError(f"spec.{key}", "the sidecar runs on Linux nodes only")
    app = app_port(template, settings)
    _check_ports(spec, app, settings)
    note: Note = {"container": app.container.get("name"), "port": app.number}
    listening = _take_over(spec, app, settings, note)
    _redirect_handlers(app, note)
    held = settings.hold_app and _add_prestop(app, settings, note, warn)
    note["grace"] = spec.get("terminationGracePeriodSeconds")
    spec["terminationGracePeriodSeconds"] = grace_period(settings, note["grace"], held=held)
    key = "initContainers" if settings.runs_native else "containers"
    ensure(spec, key, [], "spec", note).append(sidecar_container(settings, app.number, listening))
    metadata = ensure(template, "metadata", {}, "", note)
    labels = ensure(metadata, "labels", {}, "metadata", note)
    if LABEL not in labels:
        labels[LABEL] = "true"
        note["label"] = True
    if settings.scrape is Scrape.ANNOTATIONS:
        _add_scrape_annotations(ensure(metadata, "annotations", {}, "metadata", note), settings, note, warn)
    annotate(template, note)
    if spec.get("hostNetwork"):
        warn(f"the pod uses the node's network: clients that connect to port {app.number} bypass the sidecar")
    return app


def _check_ports(spec: dict[str, Any], app: ContainerPort, settings: Settings) -> None:
    sidecar = {settings.listen_port: "listen-port", settings.admin_port: "admin-port"}
    for port in (app, *declared(spec)):
        if port.number in sidecar:
            raise ManifestError(
                f"{port.container_path}.ports",
                f"port {port.number} is the sidecar's; choose another with --{sidecar[port.number]}",
            )


def _take_over(spec: dict[str, Any], app: ContainerPort, settings: Settings, note: Note) -> dict[str, Any]:
    """Move name and hostPort of the app's port to the sidecar's, note it, and return them."""
    entry = app.entry or {}
    if app.name is None:
        name = free_name("websocket", spec)
    else:
        name = note["name"] = app.name
        note["renamed"] = entry["name"] = free_name(f"app-{name}", spec)
    host: dict[str, Any] = {
        key: entry.pop(key) for key in ("hostPort", "hostIP") if key in entry and not spec.get("hostNetwork")
    }
    if host:
        note["host"] = host
    if not settings.runs_native:
        return {"name": name, **host}
    needs_name = app.name is not None and settings.mirrors_port_name
    if needs_name or host:
        mirror = {"containerPort": settings.listen_port, "protocol": "TCP", **host}
        note["mirror"] = settings.listen_port
        app.container["ports"].append({"name": name, **mirror} if needs_name else mirror)
    return {"name": name}


def _handlers(container: dict[str, Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every httpGet and tcpSocket of a container's probes and hooks, with the path inside the container."""
    lifecycle = mapping_at(container, "lifecycle", where)
    for key in ("startupProbe", "livenessProbe", "readinessProbe", "postStart", "preStop"):
        probe = mapping_at(container if key.endswith("Probe") else lifecycle, key, where)
        for handler in ("httpGet", "tcpSocket"):
            if handler in probe:
                yield f"{key}.{handler}", mapping_at(probe, handler, join(where, key))


def _redirect_handlers(app: ContainerPort, note: Note) -> None:
    if app.name is None:
        return
    probes = []
    for key, handler in _handlers(app.container, app.container_path):
        if handler.get("port") == app.name:
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
    match hook:
        case {"sleep": {"seconds": int(seconds)}}:
            return seconds
        case {"exec": {"command": [_, "-c", text]}}:
            found = _SLEEP.fullmatch(str(text))
        case {"exec": {"command": list(words)}}:
            found = _SLEEP.fullmatch(" ".join(map(str, words)))
        case _:
            return None
    return int(found[1]) if found else None


def _add_scrape_annotations(annotations: dict[str, Any], settings: Settings, note: Note, warn: Warn) -> None:
    if any(key.startswith(_PROMETHEUS) for key in annotations):
        warn(f"the pods have {_PROMETHEUS} annotations of their own, which stay: scrape the sidecar with a PodMonitor")
        return
    added = {"scrape": "true", "port": str(settings.admin_port), "path": "/metrics"}
    annotations.update({_PROMETHEUS + key: text for key, text in added.items()})
    note["annotations"] = sorted(_PROMETHEUS + key for key in added)


def remove_pod(template: dict[str, Any]) -> bool:
    """Undo inject_pod, in place. Returns False if there is nothing to undo."""
    note = read_note(template)
    if note is None:
        return False
    spec = template["spec"]
    for key in ("initContainers", "containers"):
        if spec.get(key):
            spec[key] = [one for one in list_at(spec, key, "spec") if one.get("name") != CONTAINER]
    prune(spec, "initContainers", note)
    for index, container in enumerate(list_at(spec, "containers", "spec")):
        if container.get("name") == note.get("container"):
            _restore_container(container, f"spec.containers[{index}]", note)
    if "grace" in note:
        spec["terminationGracePeriodSeconds"] = note["grace"]
        if note["grace"] is None:
            del spec["terminationGracePeriodSeconds"]
    metadata = template["metadata"]
    for key in note.get("annotations", []):
        metadata["annotations"].pop(key, None)
    if note.get("label"):
        strings_at(metadata, "labels", "metadata").pop(LABEL, None)
        prune(metadata, "labels", note)
    remove_note(template, note)
    return True


def _restore_container(container: dict[str, Any], where: str, note: Note) -> None:
    ports = list_at(container, "ports", where)
    if "mirror" in note:
        container["ports"] = ports = [port for port in ports if port.get("containerPort") != note["mirror"]]
    for port in ports:
        is_apps = port.get("containerPort") == note.get("port") and port.get("protocol", "TCP") == "TCP"
        if is_apps and ("name" not in note or port.get("name") == note.get("renamed")):
            port.update(note.get("host", {}))
            if "name" in note:
                port["name"] = note["name"]
    for key, handler in _handlers(container, where):
        if key in note.get("probes", []) and handler.get("port") == note.get("port"):
            handler["port"] = note.get("name", handler["port"])
    lifecycle = mapping_at(container, "lifecycle", where)
    hook = mapping_at(mapping_at(lifecycle, "preStop", where), "httpGet", where)
    if note.get("held") and str(hook.get("path", "")).startswith(PRESTOP_PATH):
        del lifecycle["preStop"]
        prune(container, "lifecycle", note)


def sidecar_container(settings: Settings, upstream_port: int, listening: dict[str, Any]) -> dict[str, Any]:
    """Return the container. listening: fields of its client port besides the number, such as name and hostPort."""
    drain = ["websocket-exporter", "drain", f"--admin=127.0.0.1:{settings.admin_port}", "--wait"]
    return {
        "name": CONTAINER,
        "image": settings.image,
        **({"imagePullPolicy": settings.image_pull_policy} if settings.image_pull_policy else {}),
        **({"restartPolicy": "Always"} if settings.runs_native else {}),
        "args": [
            "run",
            f"--upstream=127.0.0.1:{upstream_port}",
            f"--listen=:{settings.listen_port}",
            f"--admin=:{settings.admin_port}",
            *(f"--route={pattern}" for pattern in settings.route),
            *(f"--{name}={getattr(settings, OPTIONS[name].field)}" for name in _DURATIONS),
            *(["--proxy-protocol"] if settings.proxy_protocol else []),
            *settings.extra_arg,
        ],
        "ports": [
            {**listening, "containerPort": settings.listen_port, "protocol": "TCP"},
            {"name": ADMIN_PORT_NAME, "containerPort": settings.admin_port, "protocol": "TCP"},
        ],
        "startupProbe": _probe("/livez", periodSeconds=1, failureThreshold=60),
        "livenessProbe": _probe("/livez", periodSeconds=10, failureThreshold=3),
        "readinessProbe": _probe("/readyz", periodSeconds=2, failureThreshold=1),
        "lifecycle": {"preStop": {"exec": {"command": drain}}},
        "resources": _resources(settings),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def _probe(path: str, **timing: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": ADMIN_PORT_NAME}, **timing, "timeoutSeconds": 2}


def _resources(settings: Settings) -> dict[str, Any]:
    limits = {"cpu": settings.cpu_limit, "memory": settings.memory_limit}
    limits = {name: value for name, value in limits.items() if value is not None}
    requests = {"cpu": settings.cpu_request, "memory": settings.memory_request}
    return {"requests": requests, **({"limits": limits} if limits else {})}


def prestop_seconds(settings: Settings) -> int:
    """Return the seconds that the app must stay up for the drain to end first."""
    return settings.drain_seconds + PRESTOP_SLACK


def app_prestop(settings: Settings) -> dict[str, Any]:
    """Return a preStop handler for the app that waits for the sidecar's drain."""
    return {"httpGet": {"path": f"{PRESTOP_PATH}{prestop_seconds(settings)}s", "port": settings.admin_port}}


def grace_period(settings: Settings, present: object, *, held: bool) -> int:
    """Return the terminationGracePeriodSeconds that a pod needs. present: the one it has, None for the default.

    An app with our preStop gets its own time after the drain, another stops while the drain goes on. After both the
    sidecar waits for its last scrape. Raises ManifestError if the present one is no number of seconds.
    """
    present = DEFAULT_GRACE_PERIOD if present is None else present
    if not isinstance(present, int) or isinstance(present, bool) or present < 0:
        raise ManifestError("spec.terminationGracePeriodSeconds", f"must be a number of seconds, is {present!r}")
    drain = prestop_seconds(settings)
    return (drain + present if held else max(drain, present)) + math.ceil(parse_duration(settings.drain_linger))
