"""Checks everything that `run` needs before anything is started: files, ports, CPUs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from exporter.admin.web_config import BadWebConfig, load
from exporter.config import Settings
from exporter.listening import close_all, open_listeners
from exporter.reloading_cert import ReloadingCert


class CannotUse(Exception):
    """A file that a setting names is of no use."""


def check(settings: Settings) -> None:
    """Check all that `run` needs, without serving. Raises CannotListen and CannotUse."""
    read_files(settings)
    for opened in (*open_listeners("--listen", settings.listen), *open_listeners("--admin", settings.admin)):
        close_all(opened)


def read_files(settings: Settings) -> ReloadingCert | None:
    """Read the files that settings name. Returns the certificate for clients, if any. Raises CannotUse."""
    if settings.web_config_file:
        try:
            load(Path(settings.web_config_file))
        except BadWebConfig as error:
            raise CannotUse(f"--web-config-file: {error}") from error
    if not settings.tls_cert:
        return None
    try:
        certificate = ReloadingCert(Path(settings.tls_cert), Path(settings.tls_key))
    except OSError as error:
        why = error.strerror if error.filename else getattr(error, "reason", None) or error
        raise CannotUse(f"--tls-cert {settings.tls_cert}, --tls-key {settings.tls_key}: {why}") from error
    certificate.context.set_alpn_protocols(["http/1.1"])
    return certificate


def cpu_limit(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the CPU limit of the cgroup, rounded down, at least 1; without one the CPUs this process may use.

    Reads ``cpu.max`` of cgroup v2 and ``cpu.cfs_quota_us`` of v1.
    """
    cpus, old = len(os.sched_getaffinity(0)), cgroup / "cpu"
    for files in ([cgroup / "cpu.max"], [old / "cpu.cfs_quota_us", old / "cpu.cfs_period_us"]):
        with contextlib.suppress(OSError, ValueError):
            quota, period = " ".join(file.read_text() for file in files).split()
            return cpus if quota == "max" or int(quota) < 0 else max(1, min(cpus, int(quota) // int(period)))
    return cpus
