"""Real processes: started in a group of their own, their output kept, ended in any case."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from tests.ports import listening
from tests.waiting import eventually

STOP_WAIT_LIMIT = 5.0
"""Seconds a process has to obey SIGTERM before its group is killed."""

TAIL = 6000
"""Characters of output shown with a failure."""


class Process:
    """One process and its children (a process group), with its output in a temporary file."""

    live: ClassVar[list[Process]] = []
    """Those not yet ended: their output is shown with a failing test."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Start `argv`; `env` is added to this process's environment. OSError if it cannot be started."""
        self.name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - stop() closes it
        self._popen = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
        self.pid = self._popen.pid
        Process.live.append(self)

    def output(self) -> str:
        """Everything written so far, both streams."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def tail(self) -> str:
        """The end of the output."""
        return self.output()[-TAIL:]

    @property
    def returncode(self) -> int | None:
        """The exit status, or None while the process runs."""
        return self._popen.poll()

    def wait_listening(self, port: int) -> None:
        """Wait until the port is open; AssertionError with the output if the process ends before."""

        def open_or_over() -> bool:
            return listening(port) or self.returncode is not None

        eventually(open_or_over, f"{self.name} listens on {port}")
        assert self.returncode is None, f"{self.name} ended with {self.returncode}:\n{self.tail()}"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, as a container runtime does to its first process."""
        self._popen.send_signal(number)

    def kill_group(self) -> None:
        """SIGKILL for the whole group: what is left of a container at the end of its grace period."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def stop_group(self) -> None:
        """SIGSTOP for the whole group: it hangs."""
        os.killpg(self.pid, signal.SIGSTOP)

    def wait(self, seconds: float) -> int:
        """Return the exit status; AssertionError with the output if there is none after `seconds`."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {seconds:g} s:\n{self.tail()}") from None

    def children(self) -> list[int]:
        """The process ids of its children, in the order in which they were forked."""
        return sorted(map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()))

    def rss_kib(self) -> int:
        """Resident memory in KiB of the process and its children together; pages that they share count for each."""
        return sum(map(rss_kib, (self.pid, *self.children())))

    def pss_kib(self) -> int:
        """Proportional set size in KiB of the process and its children together; shared pages count once."""
        rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in (self.pid, *self.children())]
        return sum(int(line.split()[1]) for text in rollups for line in text.splitlines() if line.startswith("Pss:"))

    def descriptors(self) -> int:
        """Open file descriptors of the process and its children together."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in (self.pid, *self.children()))

    def stop(self) -> None:
        """End it, politely first. Harmless on one that has ended."""
        if self not in Process.live:
            return
        try:
            if self.returncode is None:
                self._popen.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._popen.wait(STOP_WAIT_LIMIT)
        finally:
            self.kill_group()
            Process.live.remove(self)
            self._log.close()


def rss_kib(pid: int) -> int:
    """Resident memory of one process in KiB, from proc(5)."""
    return int(status(pid)["VmRSS"].split()[0])


def status(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process so far, its ended threads' included (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(process: Process) -> Iterator[Process]:
    """Stop the process at the end of the block, whatever happens in it."""
    try:
        yield process
    finally:
        process.stop()
