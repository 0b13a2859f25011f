"""What the process tells of itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector

from exporter.observe.process_collector import Process


def values(collector: Process) -> dict[str, float]:
    """Every sample."""
    return {sample.name: sample.value for family in collector.collect() for sample in family.samples}


def test_it_tells_what_the_library_tells() -> None:
    """The same names, types, help texts and, but for what moves meanwhile, values as the library's own collector."""
    ours = {family.name: family for family in Process().collect()}
    theirs = {family.name: family for family in ProcessCollector(registry=CollectorRegistry()).collect()}
    assert ours.keys() == theirs.keys() != set()
    for name, family in theirs.items():
        assert (ours[name].type, ours[name].documentation) == (family.type, family.documentation)
        assert [sample.name for sample in ours[name].samples] == [sample.name for sample in family.samples]
        assert ours[name].samples[0].value == pytest.approx(family.samples[0].value, rel=0.5, abs=1)


def test_a_descriptor_more_is_one_more() -> None:
    """Each open descriptor counts once."""
    before = values(Process())["process_open_fds"]
    extra = [os.open("/dev/null", os.O_RDONLY) for _ in range(5)]
    try:
        assert values(Process())["process_open_fds"] == before + 5
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
    assert values(Process())["process_open_fds"] == listed


def test_without_proc_there_is_nothing(tmp_path: Path) -> None:
    """No /proc, no metrics, no error."""
    assert values(Process(tmp_path)) == {}
