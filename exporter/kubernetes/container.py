"""The sidecar's container, within the restricted Pod Security Standard.

Its preStop hook starts the drain and returns when the drain has ended: a native sidecar gets SIGTERM only after the
app has stopped, and then no session is left to drain.
"""

from __future__ import annotations

from typing import Any

from exporter.kubernetes.settings import ADMIN_PORT_NAME, CONTAINER, OPTIONS, Settings

USER = 65532
"""The image's numeric user, so that runAsNonRoot can be checked without the image."""

DEFAULT_GRACE_PERIOD = 30
"""Seconds; the default of terminationGracePeriodSeconds."""
PRESTOP_SLACK = 2
"""Seconds that the app waits longer than the drain may take, so that the drain ends first."""
PRESTOP_PATH = "/drain?wait="
"""Reports the drain's end and never starts one."""

_DURATIONS = ("drain-grace", "drain-spread", "drain-timeout", "drain-linger", "close-timeout")


def arguments(settings: Settings, upstream_port: int) -> list[str]:
    """Return the command line after the image's entry point."""
    flags = [
        "run",
        f"--upstream=127.0.0.1:{upstream_port}",
        f"--listen=:{settings.listen_port}",
        f"--admin=:{settings.admin_port}",
        *(f"--route={pattern}" for pattern in settings.route),
        *(f"--{name}={getattr(settings, OPTIONS[name].field)}" for name in _DURATIONS),
    ]
    if settings.proxy_protocol:
        flags.append("--proxy-protocol")
    return [*flags, *settings.extra_arg]


def sidecar_container(settings: Settings, upstream_port: int, listening: dict[str, Any]) -> dict[str, Any]:
    """Return the container. listening: fields of its client port besides the number, such as name and hostPort."""
    drain = ["websocket-exporter", "drain", f"--admin=127.0.0.1:{settings.admin_port}", "--wait"]
    return {
        "name": CONTAINER,
        "image": settings.image,
        **({"imagePullPolicy": settings.image_pull_policy} if settings.image_pull_policy else {}),
        **({"restartPolicy": "Always"} if settings.runs_native else {}),
        "args": arguments(settings, upstream_port),
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


def grace_period(settings: Settings, present: int, *, held: bool) -> int:
    """Return the terminationGracePeriodSeconds that a pod needs. present: the one it has, in seconds.

    An app with our preStop gets its own time after the drain, another stops while the drain goes on. After both the
    sidecar waits for its last scrape.
    """
    drain = prestop_seconds(settings)
    return (drain + present if held else max(drain, present)) + settings.linger_seconds
