"""Writes log lines from a thread of its own, so that a line never blocks the traffic.

How it works
============
Whoever has a line appends it to a deque, which takes no lock, and wakes the thread unless it is awake already. The
thread waits a tenth of a second for others to come and writes them all at once: a thread that woke up for each would
take the interpreter's lock from the relay each time. It calls itself asleep *before* it takes the lines, so a line that
came too late to be taken wakes it again.

If whoever reads our output stops reading, or the disk is full, lines are dropped and counted; the relay does not
notice.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import IO

#: Lines that may wait for a reader that is slow: some seconds of the busiest log, a few MB.
MAX_WAITING = 10_000
#: Lines that are written at once, at most.
ACCEPT_BATCH = 500
#: Seconds for which a line waits for others: no reader notices, and a thread that wakes takes the interpreter's lock.
GATHER = 0.1
#: Seconds that a process which ends waits for its last lines to be written.
LAST_LINES = 1.0

#: Writes lines to somewhere and returns how many of them were lost.
_Write = Callable[[list[bytes]], int]


class LineWriter:
    """Writes lines to a stream from a thread; drops what does not fit, and counts it in :attr:`dropped`.

    A stream with a file descriptor is written to without a buffer of its own: what a full disk did not take must not
    pile up in memory, nor come up again when the process ends.

    :param stream: where to; None, which is what a closed standard output is, takes nothing.
    """

    def __init__(self, stream: IO[str] | None) -> None:
        self._refused = 0  # each counted by one thread only
        self._lost = 0
        self._write = _writer(stream)
        self._lines: deque[bytes] = deque()
        self._awake = False  # the thread knows that there are lines
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._worker = threading.Thread(target=self._run, name="log", daemon=True)
        self._worker.start()

    def write(self, line: bytes) -> None:
        """Queue one line, which ends in a line break. Returns at once."""
        if len(self._lines) >= MAX_WAITING:
            self._refused += 1
            return
        self._lines.append(line)
        if not self._awake:
            self._awake = True
            self._wake.set()

    @property
    def dropped(self) -> int:
        """Lines for which there was no room, and lines that could not be written."""
        return self._refused + self._lost

    def close(self) -> None:
        """Write what waits, for :data:`LAST_LINES` seconds at most."""
        self._closing.set()
        self._wake.set()
        self._worker.join(LAST_LINES)

    def _run(self) -> None:
        while self._lines or not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            if len(self._lines) < ACCEPT_BATCH:
                self._closing.wait(GATHER)
            self._awake = False
            while lines := self._taken():
                self._lost += self._write(lines)

    def _taken(self) -> list[bytes]:
        """The next lines to be written at once; none if none wait."""
        return [self._lines.popleft() for _ in range(min(len(self._lines), ACCEPT_BATCH))]


def _writer(stream: IO[str] | None) -> _Write:
    if stream is None:
        return len  # all are lost
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # io.StringIO and its like
        return partial(_write_stream, stream)
    return _DescriptorWriter(descriptor)


def _write_stream(stream: IO[str], lines: list[bytes]) -> int:
    try:
        stream.write(b"".join(lines).decode())
        stream.flush()
    except (OSError, ValueError):  # full, closed
        return len(lines)
    return 0


class _DescriptorWriter:
    """Writes whole lines to a file descriptor. A line that was cut short is ended before the next one begins."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._cut_short = False

    def __call__(self, lines: list[bytes]) -> int:
        if self._cut_short:
            lines[0] = b"\n" + lines[0]
        data = memoryview(b"".join(lines))
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError:  # disk full, pipe closed
            pass
        if written == len(data):
            self._cut_short = False
            return 0
        ends = list(accumulate(map(len, lines)))
        if written:
            self._cut_short = written not in ends
        return sum(end > written for end in ends)
