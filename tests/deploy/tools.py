"""kubectl, helm and the schemas, as scripts/kubernetes_tools.py fetches them; a test that lacks one is
skipped.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from exporter.kubernetes.manifest_stream import ManifestFile
from scripts.kubernetes_tools import CACHE

ROOT = Path(__file__).parents[2]
KUSTOMIZE = ROOT / "deploy" / "kubernetes"
CHART = ROOT / "deploy" / "helm" / "websocket-exporter"
VERSIONS = ["1.29", kubernetes_validate.latest_version()]
OPERATOR = "monitoring.coreos.com/v1"
PACKAGES = {"monitoring.coreos.com": "prometheus-operator", "keda.sh": "keda", "argoproj.io": "argo-rollouts"}
"""The packages with the schemas of custom resources, by group."""
UNKNOWN = {"cert-manager.io/v1"}
"""API versions whose schemas are not to be had here."""


def tool(name: str) -> str:
    """The path of a program from the cache. Skips the test if it is not there."""
    path = CACHE / name
    if not path.exists():
        pytest.skip(f"{name} is not in {CACHE}: run scripts/kubernetes_tools.py")
    return str(path)


def objects(text: str) -> list[Any]:
    """The objects of a YAML stream."""
    documents = ManifestFile.read("rendered", text).documents
    return [document.value for document in documents if document.value is not None]


def call(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def kustomize(directory: Path) -> list[Any]:
    """What `kubectl kustomize` renders."""
    done = call(tool("kubectl"), "kustomize", str(directory))
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


def one(found: list[Any], kind: str, name: str | None = None) -> Any:
    """The only object of a kind (and name)."""
    (obj,) = [obj for obj in found if obj["kind"] == kind and name in (None, obj["metadata"]["name"])]
    return obj


@contextmanager
def api_server(known: list[Any], present: list[Any], folder: Path) -> Iterator[Path]:
    """Serve the kinds of some objects, and some objects, as the API server does; yield a kubeconfig for it."""
    pages: dict[str, Any] = {
        "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    }
    for version in sorted({obj["apiVersion"] for obj in known}):
        group = version.rpartition("/")[0]
        kinds = sorted({obj["kind"] for obj in known if obj["apiVersion"] == version})
        resources = [
            {"name": f"{kind.lower()}s", "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get"]}
            for kind in kinds
        ]
        path = f"/apis/{version}" if group else f"/api/{version}"
        pages[path] = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
        if group:
            named = {"groupVersion": version, "version": version.rpartition("/")[2]}
            pages["/apis"]["groups"].append({"name": group, "versions": [named], "preferredVersion": named})
    for obj in present:
        metadata = obj["metadata"]
        pages[f"/api/v1/namespaces/{metadata['namespace']}/{obj['kind'].lower()}s/{metadata['name']}"] = obj

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            body = json.dumps(page or missing).encode()
            self.send_response(200 if page else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    config = folder / "kubeconfig"
    cluster = {"server": f"http://127.0.0.1:{server.server_port}"}
    context = {"cluster": "x", "user": "x"}
    parts = {
        "clusters": [{"name": "x", "cluster": cluster}],
        "contexts": [{"name": "x", "context": context}],
        "users": [{"name": "x", "user": {}}],
    }
    config.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "x", **parts}))
    try:
        yield config
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def validate(found: list[Any]) -> None:
    """Kubernetes' own objects strictly against the oldest and the newest schemas known."""
    for obj in found:
        if obj["apiVersion"] != OPERATOR and obj["apiVersion"] not in UNKNOWN:
            for version in VERSIONS:
                kubernetes_validate.validate(obj, version, strict=True)


def validate_operators(found: list[Any]) -> None:
    """The Prometheus operator's objects among `found`; there must be some. Many in one call: it is slow."""
    operators = [obj for obj in found if obj["apiVersion"] == OPERATOR]
    assert operators
    assert operator_problems(operators) == ""


def operator_problems(found: list[Any]) -> str:
    """Return the objections of the operators' schemas (values) and types (unknown fields); empty if none.

    The schemas let unknown fields pass; the type declarations, made from the same definitions, do not.
    """
    modules = CACHE / "node_modules"
    packages = {group: f"@kubernetes-models/{name}" for group, name in PACKAGES.items()}
    for path in ("typescript", *(packages[obj["apiVersion"].partition("/")[0]] for obj in found)):
        if not (modules / path).exists():
            pytest.skip(f"{path} is not in {CACHE}: run scripts/kubernetes_tools.py")
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    kinds = sorted({(obj["kind"], obj["apiVersion"]) for obj in found})
    module = {kind: f"{packages[version.partition('/')[0]]}/{version}/{kind}" for kind, version in kinds}
    values = [f'import {{ {kind} }} from "{path}";' for kind, path in module.items()]
    values += [f"new {obj['kind']}({json.dumps(obj)}).validate();" for obj in found]
    types = [f'import type {{ I{kind} }} from "{path}";' for kind, path in module.items()]
    types += [f"export const o{index}: I{obj['kind']} = {json.dumps(obj)};" for index, obj in enumerate(found)]
    flags = ["--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "bundler", "--module", "esnext"]
    compiler = str(CACHE / "node_modules" / "typescript" / "bin" / "tsc")
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:  # below the packages, and ours alone
        script, declarations = Path(folder) / "check.mjs", Path(folder) / "check.ts"
        script.write_text("\n".join(values))
        declarations.write_text("\n".join(types))
        by_value = call(node, str(script))
        by_type = call(node, compiler, *flags, str(declarations))
    return (by_value.stderr if by_value.returncode else "") + (by_type.stdout if by_type.returncode else "")
