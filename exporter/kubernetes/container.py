"""The sidecar's container, as Kubernetes wants to read it.

It fits the restricted Pod Security Standard. The preStop hook starts the drain and returns when it has ended:
for a native sidecar SIGTERM comes only after the app is gone, and then there is nothing left to drain.
"""

from __future__ import annotations

from typing import Any

from exporter.kubernetes.settings import ADMIN_PORT_NAME, CONTAINER, Settings, drain_seconds, linger_seconds

USER = 65532
"""The image's numeric user, so that runAsNonRoot can be checked without looking into the image."""

DEFAULT_GRACE_PERIOD = 30
"""Seconds; what Kubernetes takes when terminationGracePeriodSeconds is absent."""
HOLD_SLACK_SECONDS = 2
"""The app waits this much longer than the drain may take, so that it is the drain that ends first."""


def arguments(settings: Settings, upstream_port: int) -> list[str]:
    """The command line after the image's entry point."""
    flags = [
        "run",
        f"--upstream=127.0.0.1:{upstream_port}",
        f"--listen=:{settings.listen_port}",
        f"--admin=:{settings.admin_port}",
        *(f"--route={pattern}" for pattern in settings.route),
        f"--drain-grace={settings.drain_grace}",
        f"--drain-spread={settings.drain_spread}",
        f"--drain-timeout={settings.drain_timeout}",
        f"--drain-linger={settings.drain_linger}",
        f"--close-timeout={settings.close_timeout}",
    ]
    if settings.proxy_protocol:
        flags.append("--proxy-protocol")
    return [*flags, *settings.extra_arg]


def sidecar_container(settings: Settings, upstream_port: int, front: dict[str, Any]) -> dict[str, Any]:
    """The container. `front` is what its listening port has besides the number: a name, a hostPort."""
    return {
        "name": CONTAINER,
        "image": settings.image,
        **({"imagePullPolicy": settings.image_pull_policy} if settings.image_pull_policy else {}),
        **({"restartPolicy": "Always"} if settings.runs_native else {}),
        "args": arguments(settings, upstream_port),
        "ports": [
            {**front, "containerPort": settings.listen_port, "protocol": "TCP"},
            {"name": ADMIN_PORT_NAME, "containerPort": settings.admin_port, "protocol": "TCP"},
        ],
        "startupProbe": _probe("/livez", periodSeconds=1, failureThreshold=60),
        "livenessProbe": _probe("/livez", periodSeconds=10, failureThreshold=3),
        "readinessProbe": _probe("/readyz", periodSeconds=2, failureThreshold=1),
        "lifecycle": {
            "preStop": {
                "exec": {
                    "command": [
                        "websocket-exporter",
                        "drain",
                        f"--admin=127.0.0.1:{settings.admin_port}",
                        "--wait",
                    ]
                }
            }
        },
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
    requests = {"cpu": settings.cpu_request, "memory": settings.memory_request}
    limits = {"cpu": settings.cpu_limit, "memory": settings.memory_limit}
    found = {
        "requests": {name: value for name, value in requests.items() if value is not None},
        "limits": {name: value for name, value in limits.items() if value is not None},
    }
    return {name: value for name, value in found.items() if value}


def hold_hook(settings: Settings) -> dict[str, Any]:
    """A preStop for the app: it stays up until the sidecar has told the sessions. Asks, never starts the
    drain.
    """
    wait = drain_seconds(settings) + HOLD_SLACK_SECONDS
    return {"httpGet": {"path": f"/drain?wait={wait}s", "port": settings.admin_port}}


def grace_period(settings: Settings, present: int, *, held: bool) -> int:
    """The terminationGracePeriodSeconds a pod needs, given the present one (seconds).

    An app that is held gets its own time after the drain; one that is not stops while the drain goes on. Then
    the sidecar waits for its last scrape.
    """
    drain = drain_seconds(settings) + HOLD_SLACK_SECONDS
    return (drain + present if held else max(drain, present)) + linger_seconds(settings)
