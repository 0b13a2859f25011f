"""Build and run the image without a registry and without a Docker engine: debootstrap, buildah, podman.

What takes long is kept in a cache directory ($XDG_CACHE_HOME/websocket-exporter/image): the Debian base, the
wheels, and a container storage of its own, so that nobody's images are touched. One run at a time has that
directory to itself (:func:`owned`): what a run that was killed has left in it can then be cleared away.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "websocket-exporter" / "image"
BASE = "localhost/websocket-exporter-base:bookworm-cc"
IMAGE = "localhost/websocket-exporter:test"
NAME = "websocket-exporter-test"
TOOLS = ("debootstrap", "buildah", "podman", "runc")
NEEDED = ("README.md", "exporter/cli.py")

_STORAGE = [
    "--storage-driver",
    "vfs",
    "--root",
    str(CACHE / "storage"),
    "--runroot",
    "/run/websocket-exporter-test",
]
#: What the base has beside Debian's smallest.
_PACKAGES = ("python3", "python3-venv", "python3-dev", "gcc", "libc6-dev")
BUILDAH = ["buildah", *_STORAGE]
PODMAN = ["podman", *_STORAGE, "--runtime", "runc", "--cgroup-manager", "cgroupfs"]


def missing() -> str | None:
    """Why the image cannot be built here; None if it can."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: apt-get install {' '.join(TOOLS)})"
    if os.geteuid() != 0:
        return "debootstrap and the chroot isolation of buildah need root"
    lacking = [name for name in NEEDED if not (ROOT / name).exists()]
    return f"{', '.join(lacking)} not in this tree" if lacking else None


def call(command: list[str], **options: object) -> str:
    """Run a command to its end; its stdout. A failure shows what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return str(done.stdout)


@contextmanager
def owned() -> Iterator[None]:
    """Have the cache directory alone, and no container in it; waits for another run's end.

    The kernel lifts the lock with the process that holds it, however that ends.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove()
        yield


def remove() -> None:
    """Remove the container, running or not, if there is one."""
    call([*PODMAN, "rm", "--force", "--ignore", "--time", "0", NAME])


def base_image() -> str:
    """The Debian base with Python, made once."""
    tree = CACHE / "rootfs-with-cc"
    if not tree.exists():
        partial = CACHE / "rootfs.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        call(["debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", "bookworm", str(partial)])
        partial.rename(tree)
    if subprocess.run([*BUILDAH, "inspect", "--type", "image", BASE], capture_output=True, check=False).returncode:
        archive = CACHE / "rootfs.tar"
        call(["tar", "-C", str(tree), "-cf", str(archive), "."])
        call([*PODMAN, "import", str(archive), BASE])
        archive.unlink()
    return BASE


def wheels() -> Path:
    """The pinned packages and the build's, downloaded once for each state of the pins."""
    pins = [ROOT / "requirements" / name for name in ("run.txt", "build.txt", "audit.txt")]
    directory = CACHE / "wheels" / hashlib.sha256(b"".join(path.read_bytes() for path in pins)).hexdigest()[:16]
    if not directory.exists():
        partial = directory.with_suffix(".partial")
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--only-binary",
            ":all:",
            "--dest",
            str(partial),
        ]
        call([*pip, *(word for path in pins for word in ("--requirement", str(path)))])
        partial.rename(directory)
    return directory


def build(version: str, revision: str) -> str:
    """Build the Dockerfile as it is; pip in it finds the wheels through a mounted configuration."""
    base = base_image()
    directory = wheels()
    configuration = CACHE / "pip.conf"
    configuration.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    call(
        [
            *[*BUILDAH, "bud", "--isolation", "chroot", "--pull-never", "--tag", IMAGE],
            *["--build-arg", f"BASE_IMAGE={base}"],
            *["--build-arg", f"VERSION={version}", "--build-arg", f"REVISION={revision}"],
            *["--volume", f"{directory}:/wheels:ro", "--volume", f"{configuration}:/etc/pip.conf:ro"],
            str(ROOT),
        ]
    )
    call([*PODMAN, "image", "prune", "--force"])  # what the tag stood for before
    return IMAGE


def run(*arguments: str) -> list[str]:
    """The command that runs the image as a restricted pod: read-only, no capability, no new privileges."""
    limits = ["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"]
    locked = [
        "--read-only",
        "--read-only-tmpfs=false",
        "--cap-drop",
        "all",
        "--security-opt",
        "no-new-privileges",
    ]
    return [*PODMAN, "run", "--network", "host", *limits, *locked, *arguments]
