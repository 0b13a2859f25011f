"""What processes have used: CPU time, memory, and instructions where the machine counts them. Linux only.

CPU time is the kernel's own sum for each thread (``/proc/PID/task/TID/schedstat``, nanoseconds on a core, user and
kernel), which does not depend on clock ticks. Instructions come from the hardware counter by perf_event_open(2); a
virtual machine often has none, and then :func:`counter_missing` says why.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

_SYSCALL = {"x86_64": 298, "aarch64": 241}  # perf_event_open
_ATTR_SIZE = 64  # PERF_ATTR_SIZE_VER0
_EXCLUDE_KERNEL, _EXCLUDE_HYPERVISOR = 1 << 5, 1 << 6


class Event(Enum):
    """What can be counted: type, number and flags for perf_event_open(2)."""

    INSTRUCTIONS = (0, 1, _EXCLUDE_HYPERVISOR)
    USER_INSTRUCTIONS = (0, 1, _EXCLUDE_HYPERVISOR | _EXCLUDE_KERNEL)
    TASK_CLOCK = (1, 1, 0)  # nanoseconds on a core; every machine counts them


@dataclass(frozen=True, slots=True)
class Usage:
    """A sample. ``waited`` is the time that threads were ready to run while others had the core."""

    cpu_seconds: float
    waited_seconds: float

    def __sub__(self, earlier: Usage) -> Usage:
        return Usage(self.cpu_seconds - earlier.cpu_seconds, self.waited_seconds - earlier.waited_seconds)


def family(pid: int) -> list[int]:
    """Return ``pid`` and all its descendants, children in the order of their start."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def usage(pids: list[int]) -> Usage:
    """Return the CPU time of all these processes together."""
    stats = [stat.read_text().split() for pid in pids for stat in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    ran, waited = (sum(int(stat[field]) for stat in stats) for field in (0, 1))
    return Usage(ran / 1e9, waited / 1e9)


def pss_kb(pids: list[int]) -> int:
    """Return the memory of all these processes together, pages that they share counted once (the sum of PSS)."""
    texts = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("Pss:"))


def _open_counter(tid: int, event: Event) -> int:
    kind, number, flags = event.value
    attributes = struct.pack("=IIQQQQQ", kind, _ATTR_SIZE, number, 0, 0, 0, flags).ljust(_ATTR_SIZE, b"\0")
    libc = ctypes.CDLL(None, use_errno=True)
    call = _SYSCALL.get(platform.machine())
    if call is None:
        raise OSError(0, f"the number of perf_event_open is not known for {platform.machine()}")
    descriptor: int = libc.syscall(call, ctypes.create_string_buffer(attributes), tid, -1, -1, 0)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor


class Counter:
    """Counts what all threads of some processes do from now on. To be closed.

    Raises OSError where the counter does not exist or is not allowed.
    """

    def __init__(self, pids: list[int], event: Event = Event.INSTRUCTIONS) -> None:
        self._open: list[int] = []
        try:
            for pid in pids:
                for task in Path(f"/proc/{pid}/task").iterdir():
                    self._open.append(_open_counter(int(task.name), event))
        except OSError:
            self.close()
            raise

    def read(self) -> int:
        """The count so far."""
        return sum(int.from_bytes(os.read(descriptor, 8), "little") for descriptor in self._open)

    def close(self) -> None:
        """Stop counting."""
        while self._open:
            os.close(self._open.pop())


def counter_missing() -> str:
    """Why instructions cannot be counted here; empty if they can."""
    try:
        Counter([os.getpid()]).close()
    except OSError as error:
        return f"no hardware instruction counter: {error.strerror}"
    return ""
