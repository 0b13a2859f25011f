"""Logging: structlog, one JSON object a line, or coloured text on a terminal. A log line never blocks the traffic.

Lines are rendered where they arise and written by a thread of its own. If whoever reads our output stops reading, or
the disk is full, lines are dropped and counted; the relay does not notice.
"""

from __future__ import annotations

import queue
import sys
import threading
from typing import IO, Literal

import structlog

Format = Literal["auto", "json", "console"]

#: Lines that may wait for a reader that is slow: some seconds of the busiest log, a few MB.
MAX_WAITING = 10_000
#: Seconds that a process which ends waits for its last lines to be written.
LAST_LINES = 1.0

_STOP = None


class LineWriter:
    """Writes lines to a stream from a thread; drops what does not fit."""

    def __init__(self, stream: IO[str]) -> None:
        self.dropped = 0
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Queue one line. Returns at once."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, for :data:`LAST_LINES` seconds at most."""
        try:
            self._lines.put(_STOP, timeout=LAST_LINES)
        except queue.Full:
            return
        self._thread.join(LAST_LINES)

    def _run(self) -> None:
        while (line := self._lines.get()) is not _STOP:
            try:
                self._stream.write(line + "\n")
                if self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):  # disk full, pipe closed, stream closed
                self.dropped += 1


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
    stream = stream or sys.stdout
    writer = LineWriter(stream)
    console = fmt == "console" or (fmt == "auto" and stream.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty()) if console else structlog.processors.JSONRenderer()
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
