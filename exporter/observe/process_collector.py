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

    :param supervisor: a process whose children count as well.
    :param proc: where proc(5) is mounted.
    """

    def __init__(self, supervisor: int, proc: Path = Path("/proc")) -> None:
        self._supervisor = str(supervisor)
        self._proc = proc
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._page = resource.getpagesize()
        self._boot = _number(proc / "stat", "btime ")

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

    def _processes(self) -> list[str]:
        if not self._boot:
            return []
        try:
            children = (self._proc / self._supervisor / "task" / self._supervisor / "children").read_text().split()
        except OSError:  # a kernel without CONFIG_PROC_CHILDREN
            return ["self"]
        return [self._supervisor, *children]

    def _usage(self, process: str) -> _Usage | None:
        """Return a process's usage; None if it has ended."""
        folder = self._proc / process
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()  # proc(5), from the third on
            # A directory's size is the number of descriptors since Linux 6.2.
            descriptors = (folder / "fd").stat().st_size or len(os.listdir(folder / "fd"))
        except OSError:
            return None
        *times, started, virtual, resident = (int(fields[at]) for at in (11, 12, 13, 14, 19, 20, 21))
        return _Usage(
            sum(times) / self._ticks,
            started / self._ticks + self._boot,
            virtual,
            _number(folder / "smaps_rollup", "Pss:") * 1024 or resident * self._page,
            descriptors,
        )


def _number(file: Path, name: str) -> int:
    """Return the number in the line that begins with ``name``; 0 without one, or if the kernel does not show it."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)
