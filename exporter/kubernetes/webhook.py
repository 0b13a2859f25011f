"""The mutating admission webhook (admission.k8s.io/v1): review in, patch out, and its HTTPS server.

Only pods annotated `websocket-exporter/inject: "true"` are changed, by the code that `inject` uses. A pod that
cannot get a sidecar is admitted without one: an app without metrics is better than no app. The reason is in a warning
of the response and in the annotation `websocket-exporter/status` of the pod.

Annotations come from tenants, so that only those in an allow-list count; a review may be large on purpose, so that its
work is linear and a large one runs in a thread.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from exporter.connections import Connections
from exporter.kubernetes.errors import ManifestError, kind_of, mapping_at, mapping_of, strings_at
from exporter.kubernetes.meshes import mesh_warnings
from exporter.kubernetes.pod import inject_pod
from exporter.kubernetes.settings import (
    INJECT,
    ORIGINAL,
    PREFIX,
    STATUS,
    TENANT_SETTINGS,
    Scrape,
    Settings,
    parse_annotations,
    settings_of,
)
from exporter.kubernetes.yaml_values import load_json, plain_copy
from exporter.reloading_cert import ReloadingCert

API_VERSION = "admission.k8s.io/v1"
MAX_BODY = 3 * 1024 * 1024
"""Bytes; etcd limits an object to 1.5 MiB, and the review of a CREATE holds one."""
MAX_VALUES = 200_000
"""Commas and opening brackets in a body: its memory is about 300 bytes for each. 60,000 variables have 180,000."""
SMALL_BODY = 64 * 1024
"""Bytes. Larger reviews are read MAX_LARGE at a time and run in a thread one by one, so that they delay no other."""
MAX_LARGE = 4
READ_TIMEOUT = 10.0
"""Seconds for a request's body to arrive; the API server waits 10 s for an answer by default."""
MAX_CONNECTIONS = 512
"""API servers open one for each review at a time; beyond these, the address with the most loses one."""
MAX_REQUEST = MAX_BODY + 64 * 1024
"""Bytes of a request, head and body."""
MAX_WARNING = 256
"""Characters; the API server may cut longer warnings (AdmissionResponse.warnings)."""
MAX_REASON = 1024
"""Characters of the reason in a pod's annotation; an annotation's invalid value may be 256 KiB long."""

_log = structlog.wrap_logger(
    structlog.PrintLogger(sys.stderr),
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.JSONRenderer(),
    ],
)


class BadReview(ValueError):
    """A request that is no AdmissionReview of a pod; `str()` is one line."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer for one pod. outcome: `injected`, `refused`, or `ignored` (not requested, or already injected).

    pod: `namespace/name` for the log; a pod without a name yet has its generateName.
    """

    uid: str
    outcome: str = "ignored"
    pod: str = ""
    patch: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()

    def response(self) -> dict[str, Any]:
        """Return the AdmissionReview to answer with; it always admits the pod."""
        response: dict[str, Any] = {"uid": self.uid, "allowed": True}
        if self.patch:
            response["patchType"] = "JSONPatch"
            response["patch"] = base64.b64encode(json.dumps(self.patch).encode()).decode()
        if self.warnings:
            response["warnings"] = [f"websocket-exporter: {text}"[:MAX_WARNING] for text in self.warnings]
        return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}


def decide(body: bytes, settings: Settings, tenant: Collection[str] = TENANT_SETTINGS) -> Decision:
    """Return the answer to a request's body. tenant: the settings that a pod's annotations may change.

    Raises BadReview if the body is no AdmissionReview of a pod.
    """
    request = _request(body)
    uid, pod = request["uid"], request.get("object")
    if request.get("operation") != "CREATE" or pod is None:
        return Decision(uid)
    if not isinstance(pod, dict) or pod.get("kind") != "Pod":
        raise BadReview("request.object must be a Pod")
    try:
        metadata = mapping_at(pod, "metadata")
        annotations = strings_at(metadata, "annotations", "metadata")
    except ManifestError as error:
        raise BadReview(f"request.object.{error}") from None
    if annotations.get(INJECT) != "true" or ORIGINAL in annotations:
        return Decision(uid)
    name = request.get("name") or metadata.get("name") or metadata.get("generateName") or ""
    name = f"{request.get('namespace', '')}/{name}"[:MAX_WARNING]
    warnings: list[str] = []
    changed = plain_copy(pod)
    try:
        _inject(changed, settings, tenant, warnings)
    except ManifestError as error:
        reason = f"no sidecar: {error}"[:MAX_REASON]
        status = {"op": "add", "path": f"/metadata/annotations/{_pointer(STATUS)}", "value": reason}
        return Decision(uid, "refused", name, (status,), (reason,))
    return Decision(uid, "injected", name, tuple(_patch(pod, changed, "")), tuple(warnings))


def _request(body: bytes) -> dict[str, Any]:
    if sum(map(body.count, (b",", b"{", b"["))) > MAX_VALUES:
        raise BadReview(f"the body has more than {MAX_VALUES} values")
    try:
        review = load_json(body)
    except ValueError as error:
        raise BadReview(f"the body is not JSON: {error}") from None
    if not isinstance(review, dict) or review.get("kind") != "AdmissionReview":
        raise BadReview("the body must be an AdmissionReview")
    if review.get("apiVersion") != API_VERSION:
        raise BadReview(f"apiVersion must be {API_VERSION}, is {review.get('apiVersion')!r}")
    request = review.get("request")
    if not isinstance(request, dict):
        raise BadReview(f"request must be a mapping, is {kind_of(request)}")
    if not isinstance(request.get("uid"), str) or not request["uid"]:
        raise BadReview("request.uid must be a string")
    resource = request.get("resource")
    if not isinstance(resource, dict) or (resource.get("group"), resource.get("resource")) != ("", "pods"):
        raise BadReview("request.resource must be pods: check the webhook's rules")
    return request


def _inject(pod: dict[str, Any], settings: Settings, tenant: Collection[str], warnings: list[str]) -> None:
    """Add the sidecar to a pod, in place."""
    texts = parse_annotations(pod["metadata"]["annotations"], "metadata.annotations")
    own = settings_of(settings, texts, tenant)
    ignored = [name for name in texts if name not in {"inject", *tenant}]
    warnings += [
        f"annotation {PREFIX}{name} is ignored: the webhook does not allow it (--tenant-settings)" for name in ignored
    ]
    if own.scrape is Scrape.PODMONITOR:  # a pod cannot bring its own; the chart has one for all
        own = replace(own, scrape=Scrape.NONE)
    mapping_of(pod.get("spec"), "spec")
    app = inject_pod(pod, own, warnings.append)
    warnings.extend(mesh_warnings(pod, app.number, own))


def _patch(old: Any, new: Any, path: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON Patch (RFC 6902) from one value to another; lists change by items replaced or appended."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in (key for key in old if key not in new):
            yield {"op": "remove", "path": f"{path}/{_pointer(key)}"}
        for key, value in new.items():
            at = f"{path}/{_pointer(key)}"
            if key in old:
                yield from _patch(old[key], value, at)
            else:
                yield {"op": "add", "path": at, "value": value}
    elif isinstance(old, list) and isinstance(new, list) and len(old) <= len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=False)):
            yield from _patch(before, after, f"{path}/{index}")
        for value in new[len(old) :]:
            yield {"op": "add", "path": f"{path}/-", "value": value}
    elif old != new:
        yield {"op": "replace", "path": path, "value": new}


def _pointer(key: str) -> str:
    """Escape a key for a JSON Pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def application(settings: Settings, tenant: Collection[str], connections: Connections) -> web.Application:
    """Return the routes, POST /inject, GET /livez, GET /readyz, for a server of ``connections``."""
    large_bodies, thread = asyncio.Semaphore(MAX_LARGE), asyncio.Lock()

    async def answer(request: web.Request) -> Decision:
        if request.content_length is not None and request.content_length <= SMALL_BODY:
            async with asyncio.timeout(READ_TIMEOUT):
                return decide(await request.read(), settings, tenant)
        async with large_bodies:
            async with asyncio.timeout(READ_TIMEOUT):
                body = await request.read()
            async with thread:
                return await asyncio.to_thread(decide, body, settings, tenant)

    async def inject(request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return _refuse(400, f"Content-Type must be application/json, is {request.content_type}")
        try:
            decision = await answer(request)
        except BadReview as error:
            return _refuse(400, str(error))
        except TimeoutError:
            return _refuse(408, f"the body did not arrive within {READ_TIMEOUT:g} s")
        if decision.outcome != "ignored":
            warnings = [text[:MAX_WARNING] for text in decision.warnings]
            _log.info(f"pod.{decision.outcome}", pod=decision.pod, uid=decision.uid[:MAX_WARNING], warnings=warnings)
        return web.json_response(decision.response())

    async def alive(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    @web.middleware
    async def track(request: web.Request, handler: Handler) -> web.StreamResponse:
        async with connections.answering(request.protocol):
            return await handler(request)

    app = web.Application(client_max_size=MAX_BODY, middlewares=[track])
    app.add_routes([web.post("/inject", inject), web.get("/livez", alive), web.get("/readyz", alive)])
    return app


def _refuse(status: int, reason: str) -> web.Response:
    _log.warning("review.malformed", reason=reason)
    return web.Response(status=status, text=reason + "\n")


async def serve(
    listeners: Sequence[socket.socket],
    settings: Settings,
    tenant: Collection[str],
    certificate: ReloadingCert,
    interval: float,
    stop: asyncio.Event,
) -> None:
    """Serve on sockets that listen until `stop` is set; look for a new certificate every `interval` seconds."""
    connections = Connections(MAX_CONNECTIONS, lambda: certificate.context, MAX_REQUEST)
    runner = web.AppRunner(application(settings, tenant, connections), access_log=None, handle_signals=False)
    await runner.setup()
    try:
        assert runner.server is not None
        connections.serve(listeners, runner.server)
        _log.info("webhook.started", listening=[list(sock.getsockname()[:2]) for sock in listeners])
        watching = asyncio.create_task(
            certificate.watch(
                interval,
                renewed=lambda: _log.info("certificate.reloaded"),
                failed=lambda why: _log.error("certificate.unusable", reason=why),
            )
        )
        await stop.wait()
        watching.cancel()
    finally:
        connections.stop_accepting()
        await runner.cleanup()
        _log.info("webhook.stopped")
