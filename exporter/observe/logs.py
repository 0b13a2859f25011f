"""Logging: structlog, one JSON object a line, or coloured text on a terminal. A log line never blocks the traffic.

Lines are rendered where they arise and written by a thread of its own, those of a tenth of a second at once: a thread
that woke up for each would take the interpreter's lock from the relay each time. If whoever reads our output stops
reading, or the disk is full, lines are dropped and counted; the relay does not notice.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from itertools import accumulate
from typing import IO, Any, Literal

import orjson
import structlog
from structlog.typing import EventDict, Processor

Format = Literal["auto", "json", "console"]

#: Lines that may wait for a reader that is slow: some seconds of the busiest log, a few MB.
MAX_WAITING = 10_000
#: Lines that are written at once, at most.
AT_ONCE = 500
#: Seconds for which a line waits for others: no reader notices, and a thread that wakes takes the interpreter's lock.
GATHER = 0.1
#: Seconds that a process which ends waits for its last lines to be written.
LAST_LINES = 1.0

_STOP = None

#: Writes lines to somewhere and returns how many of them were lost.
_Write = Callable[[list[str]], int]


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
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Queue one line. Returns at once."""
        if self._lines.qsize() < MAX_WAITING:
            self._lines.put(line)
        else:
            self._refused += 1

    @property
    def dropped(self) -> int:
        """Lines for which there was no room, and lines that could not be written."""
        return self._refused + self._lost

    def close(self) -> None:
        """Write what waits, for :data:`LAST_LINES` seconds at most."""
        self._lines.put(_STOP)
        self._closing.set()
        self._thread.join(LAST_LINES)

    def _run(self) -> None:
        stopped = False
        while not stopped:
            gathered = self._gather()
            stopped = gathered[-1] is _STOP
            if lines := [line for line in gathered if line is not _STOP]:
                self._lost += self._write(lines)

    def _gather(self) -> list[str | None]:
        """The next lines, waited for: at least one, or the sign to stop, which comes last."""
        lines = [self._lines.get()]
        if self._lines.qsize() < AT_ONCE:
            self._closing.wait(GATHER)
        while lines[-1] is not _STOP and len(lines) < AT_ONCE and self._lines.qsize():
            lines.append(self._lines.get())
        return lines


def _writer(stream: IO[str] | None) -> _Write:
    if stream is None:
        return len  # all are lost
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # io.StringIO and its like
        return partial(_write_stream, stream)
    return _DescriptorWriter(descriptor)


def _write_stream(stream: IO[str], lines: list[str]) -> int:
    try:
        stream.write("".join(f"{line}\n" for line in lines))
        stream.flush()
    except (OSError, ValueError):  # full, closed
        return len(lines)
    return 0


class _DescriptorWriter:
    """Writes whole lines to a file descriptor. A line that was cut short is ended before the next one begins."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._cut_short = False

    def __call__(self, lines: list[str]) -> int:
        encoded = [f"{line}\n".encode("utf-8", "backslashreplace") for line in lines]
        if self._cut_short:
            encoded[0] = b"\n" + encoded[0]
        data = memoryview(b"".join(encoded))
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError:  # disk full, pipe closed
            pass
        ends = list(accumulate(map(len, encoded)))
        if written:
            self._cut_short = written not in ends
        return sum(end > written for end in ends)


class _QueueLogger:
    """What structlog calls at the end of its processors: any level, one rendered line."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def _write(self, line: str) -> None:
        self._writer.write(line)

    debug = info = warning = error = critical = msg = _write


def _spread(logger: Any, method: str, event: EventDict) -> EventDict:
    """Let ``fields``, a dict of its own, stand for what it holds: as keywords they would be copied three times."""
    fields: EventDict | None = event.pop("fields", None)
    if fields is None:
        return event
    fields.update(event)
    return fields


def _stamp(logger: Any, method: str, event: EventDict) -> EventDict:
    """Add the time as orjson takes it, which writes it five times as quickly as Python does."""
    event["timestamp"] = datetime.now(UTC)
    return event


def _json(event: EventDict, default: Callable[[Any], Any]) -> str:
    """``event`` as one JSON object; ``default`` says what to write for what JSON does not know."""
    try:
        return orjson.dumps(event, default, orjson.OPT_UTC_Z).decode()
    except orjson.JSONEncodeError:  # half a surrogate pair, a number of more than 64 bits: the standard library's may
        return json.dumps({**event, "timestamp": f"{event['timestamp']:%Y-%m-%dT%H:%M:%S.%fZ}"}, default=default)


def _rendering(console: bool, colors: bool) -> list[Processor]:
    """The processors that end in a line: of text for a person, or of JSON."""
    if console:
        stamp: Processor = structlog.processors.TimeStamper(fmt="iso", utc=True)
        renderer: Processor = structlog.dev.ConsoleRenderer(colors=colors)
    else:
        stamp, renderer = _stamp, structlog.processors.JSONRenderer(_json)
    return [structlog.processors.add_log_level, stamp, structlog.processors.format_exc_info, renderer]


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
    structlog.configure(
        processors=[_spread, *_rendering(console, terminal)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *args: _QueueLogger(writer),
        cache_logger_on_first_use=True,
    )
    return writer
