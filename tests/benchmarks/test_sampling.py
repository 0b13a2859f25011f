"""What processes have used is read as the kernel accounts it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing

from benchmarks.sampling import Counter, Event, counter_missing, family, pss_kb, usage


def burn(seconds: float) -> None:
    """Use a core for this long."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_cpu_time_is_what_was_used() -> None:
    """50 ms on a core are seen as 50 ms or a little more, not as wall-clock time."""
    before = usage([os.getpid()])
    burn(0.05)
    time.sleep(0.05)
    used = usage([os.getpid()]) - before
    assert used.cpu_seconds >= 0.05


def test_children_belong_to_the_family() -> None:
    """A worker process counts as its master does; a process of somebody else does not."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        try:
            assert child.pid in family(os.getpid())
            assert family(child.pid) == [child.pid]
        finally:
            child.communicate(b"\n")


_FORKS = """
import os
pages = b"x" * (64 << 20)
if os.fork():
    print(flush=True)
    input()
    os.wait()
else:
    os.read(0, 1)
"""


def test_memory_of_a_family_counts_shared_pages_once() -> None:
    """Two processes that share 64 MB after a fork have 64 MB and little more between them."""
    with subprocess.Popen([sys.executable, "-c", _FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            parent.stdout.readline()
            pids = family(parent.pid)
            assert len(pids) == 2
            assert 64 << 10 <= pss_kb(pids) < 100 << 10
        finally:
            parent.communicate(b"\n\n")


def test_a_counter_counts() -> None:
    """The counters' own mechanism works on every machine: time on a core is counted as it passes."""
    with closing(Counter([os.getpid()], Event.TASK_CLOCK)) as counter:
        before = counter.read()
        burn(0.02)
        assert counter.read() - before >= 0.018e9  # two clocks of the kernel differ by a little


def test_a_missing_counter_has_a_reason() -> None:
    """Either instructions are counted, or a text says why not."""
    reason = counter_missing()
    if reason:
        assert reason.startswith("no hardware instruction counter: ")
    else:
        with closing(Counter([os.getpid()])) as counter:
            assert counter.read() > 0
