"""Logging: structlog, one JSON object a line, or coloured text on a terminal. A log line never blocks the traffic.

Lines are rendered where they arise and written by a thread of its own. If whoever reads our output stops reading, or
the disk is full, lines are dropped and counted; the relay does not notice.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import IO, Literal

import structlog

Format = Literal["auto", "json", "console"]

#: Lines that may wait for a reader that is slow: some seconds of the busiest log, a few MB.
MAX_WAITING = 10_000
#: Seconds that a process which ends waits for its last lines to be written.
LAST_LINES = 1.0

_STOP = None


class LineWriter:
    """Writes lines to a stream from a thread; drops what does not fit, and counts it in :attr:`dropped`.

    A stream with a file descriptor is written to without a buffer of its own: what a full disk did not take must not
    pile up in memory, nor come up again when the process ends.

    :param stream: where to; None, which is what a closed standard output is, takes nothing.
    """

    def __init__(self, stream: IO[str] | None) -> None:
        self.dropped = 0
        self._write = _writer(stream)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Queue one line. Returns at once."""
        if self._lines.qsize() < MAX_WAITING:
            self._lines.put(line)
        else:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, for :data:`LAST_LINES` seconds at most."""
        self._lines.put(_STOP)
        self._thread.join(LAST_LINES)

    def _run(self) -> None:
        while (line := self._lines.get()) is not _STOP:
            try:
                self._write(line + "\n")
            except (OSError, ValueError):  # disk full, pipe closed, stream closed
                self.dropped += 1


def _writer(stream: IO[str] | None) -> Callable[[str], None]:
    if stream is None:
        return _write_nowhere
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # io.StringIO and its like
        return partial(_write_stream, stream)
    return _DescriptorWriter(descriptor)


def _write_nowhere(text: str) -> None:
    raise OSError("standard output is closed")


def _write_stream(stream: IO[str], text: str) -> None:
    stream.write(text)
    stream.flush()


class _DescriptorWriter:
    """Writes whole lines to a file descriptor. A line that was cut short is ended before the next one begins."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._cut_short = False

    def __call__(self, text: str) -> None:
        data = memoryview(("\n" * self._cut_short + text).encode("utf-8", "backslashreplace"))
        while data:
            written = os.write(self._descriptor, data)
            data = data[written:]
            self._cut_short = bool(data)


class _QueueLogger:
    """What structlog calls at the end of its processors: any level, one rendered line."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def _write(self, line: str) -> None:
        self._writer.write(line)

    debug = info = warning = error = critical = msg = _write


def set_up(fmt: Format = "auto", level: str = "info", stream: IO[str] | None = None) -> LineWriter:
    """Configure structlog for the process.

    :param fmt: ``auto`` is ``console`` on a terminal and ``json`` otherwise.
    :param level: least level that is logged.
    :param stream: standard output if not given.
    :returns: the writer, to be closed at the end.
    """
    stream = stream or sys.stdout  # None if the process was started with it closed
    writer = LineWriter(stream)
    terminal = stream is not None and stream.isatty()
    console = fmt == "console" or (fmt == "auto" and terminal)
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=terminal) if console else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *args: _QueueLogger(writer),
        cache_logger_on_first_use=True,
    )
    return writer
