"""The mutating admission webhook (admission.k8s.io/v1): review in, patch out, and its HTTPS server.

Only pods annotated `websocket-exporter/inject: "true"` are changed, by the code that `inject` uses. A pod
that asks for a sidecar and cannot have one is let through as it is: an app without numbers is better than no
app. Why is said in a warning of the response and in the annotation `websocket-exporter/status` of the pod.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import jsonpatch
import structlog
from aiohttp import web

from exporter.kubernetes.errors import ManifestError, kind_of, mapping_at, strings_at
from exporter.kubernetes.pod import inject_pod
from exporter.kubernetes.settings import INJECT, ORIGINAL, STATUS, Scrape, Settings, parse_annotations, settings_of
from exporter.kubernetes.workloads import workload_of
from exporter.reloading_cert import ReloadingCert

API_VERSION = "admission.k8s.io/v1"
MAX_BODY = 8 * 1024 * 1024
"""Bytes. The API server limits objects to 3 MiB, and a review holds one or two."""
MAX_WARNING = 256
"""Characters; the API server may cut longer warnings (AdmissionResponse.warnings)."""

_log = structlog.wrap_logger(
    structlog.PrintLogger(sys.stderr),
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.JSONRenderer(),
    ],
)


class BadReview(ValueError):
    """A request that is no AdmissionReview of a pod. `str()` of it is one line."""


@dataclass(frozen=True, slots=True)
class Classification:
    """What became of one pod. outcome: `injected`, `refused`, or `ignored` (nobody asked, or it is done
    already).
    """

    uid: str
    outcome: str
    pod: str
    patch: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()

    def response(self) -> dict[str, Any]:
        """The AdmissionReview to answer with; always allowed."""
        response: dict[str, Any] = {"uid": self.uid, "allowed": True}
        if self.patch:
            response["patchType"] = "JSONPatch"
            response["patch"] = base64.b64encode(json.dumps(self.patch).encode()).decode()
        if self.warnings:
            response["warnings"] = [f"websocket-exporter: {text}"[:MAX_WARNING] for text in self.warnings]
        return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}


def judge(body: bytes, settings: Settings) -> Classification:
    """What to answer to the body of a request. Raises BadReview if it is no AdmissionReview of a pod."""
    request = _request(body)
    pod, name = request.get("object"), _name(request)
    uid = request["uid"]
    if request.get("operation") != "CREATE" or pod is None:
        return Classification(uid, "ignored", name)
    if not isinstance(pod, dict) or pod.get("kind") != "Pod":
        raise BadReview("request.object must be a Pod")
    try:
        metadata = mapping_at(pod, "metadata", "")
        annotations = strings_at(metadata, "annotations", "metadata")
    except ManifestError as error:
        raise BadReview(f"request.object.{error}") from None
    if annotations.get(INJECT) != "true" or ORIGINAL in annotations:
        return Classification(uid, "ignored", name)
    warnings: list[str] = []
    try:
        changed = _injected(pod, settings, warnings)
    except ManifestError as error:
        return Classification(uid, "refused", name, _patch(pod, _marked(pod, error)), (f"no sidecar: {error}",))
    return Classification(uid, "injected", name, _patch(pod, changed), tuple(warnings))


def _request(body: bytes) -> dict[str, Any]:
    try:
        review = json.loads(body)
    except (ValueError, RecursionError) as error:
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


def _name(request: dict[str, Any]) -> str:
    """`namespace/name` for the log; a pod yet to be named has its generateName."""
    pod = request.get("object")
    metadata = pod.get("metadata") if isinstance(pod, dict) else None
    metadata = metadata if isinstance(metadata, dict) else {}
    name = request.get("name") or metadata.get("name") or metadata.get("generateName") or ""
    return f"{request.get('namespace', '')}/{name}"


def _injected(pod: dict[str, Any], settings: Settings, warnings: list[str]) -> dict[str, Any]:
    changed = copy.deepcopy({"apiVersion": "v1", **pod})
    workload = workload_of(changed)
    assert workload is not None
    where = "metadata.annotations"
    own = settings_of(
        settings, parse_annotations(strings_at(changed["metadata"], "annotations", "metadata"), where), where
    )
    if own.scrape is Scrape.PODMONITOR:  # one pod is no place for it; the chart brings one for all
        own = replace(own, scrape=Scrape.NONE)
    inject_pod(workload.template, "", own, warnings.append)
    return changed if "apiVersion" in pod else {key: changed[key] for key in changed if key != "apiVersion"}


def _marked(pod: dict[str, Any], error: ManifestError) -> dict[str, Any]:
    changed = copy.deepcopy(pod)
    changed["metadata"]["annotations"][STATUS] = f"no sidecar: {error}"
    return changed


def _patch(old: dict[str, Any], new: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return tuple(jsonpatch.make_patch(old, new).patch)


def application(settings: Settings) -> web.Application:
    """The routes: POST /inject, GET /livez, GET /readyz."""

    async def inject(request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return _bad(f"Content-Type must be application/json, is {request.content_type}")
        try:
            verdict = judge(await request.read(), settings)
        except BadReview as error:
            return _bad(str(error))
        if verdict.outcome != "ignored":
            _log.info(f"pod.{verdict.outcome}", pod=verdict.pod, uid=verdict.uid, warnings=list(verdict.warnings))
        return web.json_response(verdict.response())

    async def alive(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application(client_max_size=MAX_BODY)
    app.add_routes([web.post("/inject", inject), web.get("/livez", alive), web.get("/readyz", alive)])
    return app


def _bad(reason: str) -> web.Response:
    _log.warning("review.malformed", reason=reason)
    return web.Response(status=400, text=reason + "\n")


async def serve(
    settings: Settings,
    host: str | None,
    port: int,
    certificate: ReloadingCert,
    every: float,
    stop: asyncio.Event,
) -> None:
    """Serve until `stop` is set; look for a new certificate every so many seconds. Raises OSError if it
    cannot listen.
    """
    runner = web.AppRunner(application(settings), access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=certificate.context)
        await site.start()
        _log.info("webhook.started", listening=[list(address[:2]) for address in runner.addresses])
        async with _watching(certificate, every):
            await stop.wait()
    finally:
        await runner.cleanup()
        _log.info("webhook.stopped")


@contextlib.asynccontextmanager
async def _watching(certificate: ReloadingCert, every: float) -> AsyncIterator[None]:
    task = asyncio.create_task(
        certificate.watch(
            every,
            renewed=lambda: _log.info("certificate.reloaded"),
            failed=lambda why: _log.error("certificate.unusable", reason=why),
        )
    )
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
