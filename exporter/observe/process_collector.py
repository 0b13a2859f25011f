"""The ``process_*`` metrics of all processes of a sidecar, under the names of Prometheus' client libraries.

CPU time is that of all processes, ended ones included. Memory is the sum of proportional set sizes, in which a page
that several processes share counts once. Descriptors are those of the process that has the most; the limit is the same
for each.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector


class _Usage(NamedTuple):
    cpu: float
    started: float
    virtual: int
    memory: int
    descriptors: int


class Processes(Collector):
    """Read CPU time, memory and descriptors; nothing where there is no ``/proc``.

    :param supervisor: a process whose children count as well; None is this process alone.
    :param proc: where proc(5) is mounted.
    """

    def __init__(self, supervisor: int | None = None, proc: Path = Path("/proc")) -> None:
        self._supervisor = supervisor
        self._proc = proc
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._page = resource.getpagesize()
        self._boot = self._booted()

    def collect(self) -> Iterator[Family]:
        """Yield the families."""
        processes = [usage for process in self._processes() if (usage := self._usage(process)) is not None]
        if not processes:
            return
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        started = min(usage.started for usage in processes)
        for name, about, value in (
            ("process_virtual_memory_bytes", "Virtual memory size in bytes.", sum(u.virtual for u in processes)),
            ("process_resident_memory_bytes", "Resident memory size in bytes.", sum(u.memory for u in processes)),
            ("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", started),
            ("process_open_fds", "Number of open file descriptors.", max(u.descriptors for u in processes)),
            ("process_max_fds", "Maximum number of open file descriptors.", limit),
        ):
            yield GaugeMetricFamily(name, about, value=value)
        yield CounterMetricFamily(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            value=sum(usage.cpu for usage in processes),
        )

    def _booted(self) -> int | None:
        try:
            lines = (self._proc / "stat").read_text().splitlines()
        except OSError:
            return None
        return next((int(line.split()[1]) for line in lines if line.startswith("btime ")), None)

    def _processes(self) -> list[str]:
        if self._supervisor is None:
            return ["self"]
        supervisor = str(self._supervisor)
        try:
            children = (self._proc / supervisor / "task" / supervisor / "children").read_text().split()
        except OSError:  # a kernel without CONFIG_PROC_CHILDREN
            return ["self"]
        return [supervisor, *children]

    def _usage(self, process: str) -> _Usage | None:
        """Return a process's usage; None if it has ended."""
        folder = self._proc / process
        if self._boot is None:
            return None
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()  # proc(5), from the third on
            descriptors = self._descriptors(folder)
        except OSError:
            return None
        user, system, ended_user, ended_system, started, virtual, resident = (
            int(fields[at]) for at in (11, 12, 13, 14, 19, 20, 21)
        )
        ended = 0 if self._supervisor is None else ended_user + ended_system
        return _Usage(
            (user + system + ended) / self._ticks,
            started / self._ticks + self._boot,
            virtual,
            self._shared_once(folder) or resident * self._page,
            descriptors,
        )

    def _shared_once(self, folder: Path) -> int:
        """Return the proportional set size in bytes; 0 if the kernel does not show it, or for a process alone."""
        if self._supervisor is None:
            return 0
        try:
            lines = (folder / "smaps_rollup").read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)

    def _descriptors(self, folder: Path) -> int:
        """Return the number of open descriptors: the directory's size since Linux 6.2, else that of its listing."""
        directory = folder / "fd"
        return directory.stat().st_size or len(os.listdir(directory))
