"""The isolation benchmark measures pairs of windows and says which aims were missed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import isolation
from benchmarks.isolation import CASES, Case, Outcome, Window
from benchmarks.peers import Absent


def outcome(case: Case, *added: float, livez: float = 1.0) -> Outcome:
    """Return an outcome whose pairs add so many milliseconds to p99."""
    pairs = [(Window(0.1, 0.2, [1.0, 1.0]), Window(0.1, 0.2 + more, [livez, livez])) for more in added]
    return Outcome(case, pairs)


@pytest.mark.parametrize(
    ("added", "livez", "verdict"), [(0.5, 1.0, "met"), (1.5, 1.0, "missed"), (0.5, 101.0, "missed")]
)
def test_row_over_an_aim_says_missed(added: float, livez: float, verdict: str) -> None:
    """A row says whether p99 grew by at most its aim and each health check was answered in time."""
    row = outcome(CASES[0], 50.0, added, 0.0, livez=livez).row()
    assert row.endswith(f"{verdict} |")
    assert f"{added:+.2f}" in row


def test_run_with_a_flood_measures_both_windows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A short run of the source prints one row for a flood on each port and one for the stopped observer."""
    arguments = SimpleNamespace(
        one_core=False, interpreted=True, rounds=1, seconds=0.3, cases="scrapers,reserved,stopped"
    )
    try:
        found = isolation.measure(arguments, tmp_path, print)
    except Absent as absent:
        if "compiler" not in str(absent):
            raise
        pytest.skip(str(absent))
    assert [one.case.key for one in found] == ["scrapers", "stopped", "reserved"]
    assert all(window.p99 >= window.p50 > 0 for one in found for pair in one.pairs for window in pair)
    assert [len(one.controls) for one in found] == [1, 0, 0]
    assert found[0].pairs[0][1].livez
    assert not found[1].pairs[0][1].livez
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_disturbance_that_stops_the_observer_continues_it(tmp_path: Path) -> None:
    """The process stands still during the block and is continued at its end."""
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        bench = isolation.Bench(tmp_path, isolation.Cores(set(), set(), set()), 0.0, tmp_path)
        target = isolation.Pollable(0, 0, [os.getpid(), child], [], 0.0)
        with bench.disturbance(Case("stopped", "", stopped=True), target):
            _, status = os.waitpid(child, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
        _, status = os.waitpid(child, os.WCONTINUED)
        assert os.WIFCONTINUED(status)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
