"""The process metrics, of one process and of a supervisor with its children."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector

from exporter.observe.process_collector import Processes


def values(collector: Processes) -> dict[str, float]:
    """Every sample."""
    return {sample.name: sample.value for family in collector.collect() for sample in family.samples}


def test_processes_of_a_supervisor_without_children_are_the_librarys() -> None:
    """The same names, types, help texts and, but for what moves meanwhile, values as the library's own collector."""
    ours = {family.name: family for family in Processes(os.getpid()).collect()}
    theirs = {family.name: family for family in ProcessCollector(registry=CollectorRegistry()).collect()}
    assert ours.keys() == theirs.keys() != set()
    for name, family in theirs.items():
        assert (ours[name].type, ours[name].documentation) == (family.type, family.documentation)
        assert [sample.name for sample in ours[name].samples] == [sample.name for sample in family.samples]
    mine, library = values(Processes(os.getpid())), {name: family.samples[0].value for name, family in theirs.items()}
    for name in ("process_virtual_memory_bytes", "process_start_time_seconds", "process_open_fds", "process_max_fds"):
        assert mine[name] == pytest.approx(library[name], rel=0.5, abs=1)
    assert 0 < mine["process_resident_memory_bytes"] < 2 * library["process_resident_memory_bytes"]  # shared pages once
    rounding = 0.001  # of sums of floats
    assert mine["process_cpu_seconds_total"] > library["process_cpu_seconds"] - rounding  # with ended children


def test_a_descriptor_more_is_one_more() -> None:
    """Each open descriptor counts once."""
    before = values(Processes(os.getpid()))["process_open_fds"]
    extra = [os.open("/dev/null", os.O_RDONLY) for _ in range(5)]
    try:
        assert values(Processes(os.getpid()))["process_open_fds"] == before + 5
    finally:
        for descriptor in extra:
            os.close(descriptor)


def test_a_kernel_that_does_not_say_how_many_is_asked_for_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Linux 6.2 the size of /proc/self/fd is 0: the names are counted."""
    listed = len(os.listdir("/proc/self/fd"))
    real = Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        answer = real(path, follow_symlinks=follow_symlinks)
        if path.name == "fd":
            answer = os.stat_result([*answer[:6], 0, *answer[7:]])
        return answer

    monkeypatch.setattr(Path, "stat", stat)
    assert values(Processes(os.getpid()))["process_open_fds"] == listed


def test_without_proc_there_is_nothing(tmp_path: Path) -> None:
    """No /proc, no metrics, no error."""
    assert values(Processes(os.getpid(), tmp_path)) == {}


def test_processes_of_a_supervisor_are_its_own_and_its_childrens() -> None:
    """With a supervisor the memory and CPU time of all its processes are summed, and the fullest table of descriptors
    counts."""
    code = "import os, time; held = [os.open('/dev/null', 0) for _ in range(200)]; print(flush=True); time.sleep(60)"
    alone = values(Processes(os.getpid()))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        together = values(Processes(os.getpid()))
        child.kill()
    assert together["process_open_fds"] > 200 > alone["process_open_fds"]
    assert together["process_virtual_memory_bytes"] > alone["process_virtual_memory_bytes"]
    assert together["process_cpu_seconds_total"] >= alone["process_cpu_seconds_total"]
    assert together["process_start_time_seconds"] == alone["process_start_time_seconds"]
