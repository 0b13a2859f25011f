"""The log: structlog events as one JSON object a line, or as one short line on a terminal.

A line is rendered where it arises and written by a thread from a bounded queue, so a blocked output blocks nothing but
that thread. Lines over a limit per second are suppressed, lines that cannot be written are dropped; both are counted.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import accumulate
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic, sleep
from typing import IO, Any, Literal

import orjson
import structlog
from structlog.processors import TimeStamper, add_log_level, format_exc_info
from structlog.typing import EventDict, FilteringBoundLogger

from exporter import __version__
from exporter.address import Address
from exporter.config import Settings
from exporter.observe.recent_closes import Throttle, close_fields
from exporter.protocol.causes import is_abnormal
from exporter.protocol.classify import Ending
from exporter.protocol.record import SessionRecord

Format = Literal["auto", "json", "console"]
LogEndings = Literal["all", "abnormal", "none"]

#: Bytes of a line at most; its longest texts are cut to fit.
MAX_LINE = 1536
#: Bytes of a line with a traceback at most, of which the end is kept.
MAX_TRACEBACK_LINE = 8192
#: Lines a second at most, of closed sessions and of everything else apart.
LINES_PER_SECOND = 100
#: Lines that may wait for a slow output: 1.5 MB at most.
MAX_WAITING = 1000
#: Seconds for which the thread gathers lines, and how many it writes at once: fewer wake-ups.
GATHER = 0.05
BATCH = 64
#: Seconds for which :meth:`Log.close` waits for the last lines to be written.
LAST_LINES = 1.0

CLOSED = "session.closed"
_COLOURS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}


class Log:
    """Configure structlog, and from its start the standard library's logging, for this process.

    :param fmt: ``auto`` is ``console`` on a terminal and ``json`` otherwise.
    :param level: the least level that is logged.
    :param stream: standard output by default; None, as when it is closed, drops every line.
    :param reports: the URL before ``/closes``, for lines on a terminal; empty for none.
    :param suppressed: called with the number of lines over the limit; ``dropped`` of those that cannot be written.
    :ivar is_terminal: whether the stream is one.
    :ivar closes: the logger of closes, whose number :class:`SessionLog` limits.
    """

    def __init__(
        self,
        fmt: Format = "auto",
        level: str = "info",
        stream: IO[str] | None = None,
        reports: str = "",
        suppressed: Callable[[int], None] = lambda lines: None,
        dropped: Callable[[int], None] = lambda lines: None,
    ) -> None:
        stream = stream or sys.stdout
        self.is_terminal = stream is not None and stream.isatty()
        console = fmt == "console" or (fmt == "auto" and self.is_terminal)
        self._level = level.upper()
        self._writer = _Writer(stream, dropped)
        self._throttle = Throttle(LINES_PER_SECOND, suppressed, monotonic)
        stamp = TimeStamper(fmt="iso", utc=True)
        render = partial(_terminal_line, reports, self.is_terminal) if console else _json_line
        wrapper = structlog.make_filtering_bound_logger(level)
        structlog.configure(
            processors=[self._limit, add_log_level, stamp, format_exc_info, render],
            wrapper_class=wrapper,
            logger_factory=lambda *_: self._writer,
            cache_logger_on_first_use=True,
        )
        self.closes: FilteringBoundLogger = structlog.wrap_logger(
            self._writer, [add_log_level, stamp, render], wrapper, cache_logger_on_first_use=True
        )

    def start(self) -> None:
        """Begin to write, in the process whose log it is: a fork takes no thread along."""
        self._writer.start()
        logging.basicConfig(handlers=[_LibraryHandler()], level=self._level, force=True)
        logging.captureWarnings(True)

    def close(self) -> None:
        """Write the lines that wait, for :data:`LAST_LINES` seconds at most."""
        self._writer.close()

    def _limit(self, logger: Any, method: str, event: EventDict) -> EventDict:
        """Drop events over a number a second; :class:`SessionLog` has a limit of its own."""
        if not self._throttle.hit():
            raise structlog.DropEvent
        return event


class SessionLog:
    """Log closed sessions.

    :param log: whose logger for closes is used.
    :param routes: the names of the routes.
    :param which: which closes are logged.
    :param suppressed: called with the number of closes that are over the limit.
    """

    def __init__(self, log: Log, routes: Sequence[str], which: LogEndings, suppressed: Callable[[int], None]) -> None:
        self._log = log.closes
        self._routes = routes
        self._which = which
        self._throttle = Throttle(LINES_PER_SECOND, suppressed, monotonic)

    def session_closed(self, record: SessionRecord, ending: Ending) -> None:
        """Log one close, as a warning if it is abnormal."""
        abnormal = is_abnormal(ending.cause)
        if (self._which == "all" or (abnormal and self._which == "abnormal")) and self._throttle.hit():
            fields = close_fields(record, ending, self._routes[record.route])
            (self._log.warning if abnormal else self._log.info)(CLOSED, **fields)


def introduce(settings: Settings, listen: Address, page: str, accepts: bool | None) -> None:
    """Print all addresses for a person at a terminal.

    :param page: URL of the admin port.
    :param accepts: the answer of a probe of the app.
    """
    scheme = "wss" if settings.tls_cert else "ws"
    answer = {True: "accepts connections", False: "refuses connections: is it running?", None: "does not answer"}
    print(f"websocket-exporter {__version__}")
    print(f"  clients   {scheme}://{listen.local}")
    print(f"  app       {settings.upstream} {answer[accepts]}")
    print(f"  page      {page}/")
    print(f"  metrics   {page}/metrics", flush=True)


def _json_line(logger: Any, method: str, event: EventDict) -> bytes:
    """Return the event as JSON, its longest texts cut so that the line fits."""
    limit = MAX_TRACEBACK_LINE if "exception" in event else MAX_LINE
    line = _dumps(event)
    while (size := len(line)) >= limit:
        longest = max(event, key=lambda name: len(event[name]) if isinstance(event[name], str) else 0)
        text = event[longest]
        if not isinstance(text, str) or len(text) < 2:
            return _dumps({name: event[name] for name in ("event", "level", "timestamp") if name in event})
        keep = max(1, len(text) - max(size - limit + 4, len(text) // 8))
        event[longest] = f"…{text[-keep:]}" if longest == "exception" else f"{text[: keep - 1]}…"
        line = _dumps(event)
    return line


def _dumps(event: EventDict) -> bytes:
    with suppress(TypeError):  # lone surrogates, large integers
        return orjson.dumps(event, default=repr)
    with suppress(TypeError, ValueError):  # keys of another type, a circular reference
        return json.dumps(event, default=repr, separators=(",", ":")).encode()
    return orjson.dumps({"event": ascii(event)[: MAX_LINE // 2]})


def _terminal_line(reports: str, colours: bool, logger: Any, method: str, event: EventDict) -> bytes:
    """Return the event as one short line for a person: local time, then the close or the event with its fields."""
    level, exception = event.pop("level", method), event.pop("exception", "")
    event.pop("timestamp", None)
    name = event.pop("event", "")
    if name == CLOSED:
        report = f"  {reports}/closes/{event['session_id']}" if reports and is_abnormal(event["cause"]) else ""
        code, closed = event["close_code"] or event["code"], f"{event['cause']} by {event['initiator']}"
        body = f"{code} {closed}  {event['path']}  {event['duration_s']:.1f}s{report}"
    else:
        body = "  ".join([str(name), *(f"{key}={value}" for key, value in event.items())])
    line = f"{datetime.now():%H:%M:%S} {body}"
    if colours and level in _COLOURS:
        line = f"{_COLOURS[level]}{line}\x1b[0m"
    return (f"{line}\n{exception}" if exception else line).encode("utf-8", "backslashreplace")


class _LibraryHandler(logging.Handler):
    """Log events of asyncio and aiohttp as our own."""

    def emit(self, record: logging.LogRecord) -> None:
        log = getattr(structlog.get_logger(), record.levelname.lower())
        log(record.getMessage(), exc_info=record.exc_info)


class _Writer:
    """Take lines as structlog's logger, and have a thread write them to a stream.

    They go to the stream's descriptor, if it has one, so that no line waits in a buffer when the output is full.
    """

    def __init__(self, stream: IO[str] | None, dropped: Callable[[int], None]) -> None:
        self._on_dropped = dropped
        self._stream = stream
        self._cut_short = False
        self._descriptor: int | None = None
        with suppress(OSError, ValueError):  # io.StringIO and its like
            self._descriptor = stream.fileno() if stream is not None else None
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def info(self, line: bytes) -> None:
        """Queue a line, or drop it if too many wait."""
        if self._queue.qsize() < MAX_WAITING:
            self._queue.put(line)
        else:
            self._on_dropped(1)

    debug = warning = error = critical = info

    def close(self) -> None:
        """Write the lines that wait, for :data:`LAST_LINES` seconds at most."""
        self._queue.put(None)
        self._thread.join(LAST_LINES)

    def _run(self) -> None:
        lines = [self._queue.get()]
        while lines[-1] is not None:
            sleep(GATHER)
            with suppress(Empty):
                while len(lines) < BATCH and lines[-1] is not None:
                    lines.append(self._queue.get_nowait())
            self._write([line for line in lines if line is not None])
            if lines[-1] is not None:
                lines = [self._queue.get()]

    def _write(self, lines: list[bytes]) -> None:
        data = b"".join(b"%b\n" % line for line in lines)
        written = 0
        try:
            if self._descriptor is not None:
                if self._cut_short:
                    os.write(self._descriptor, b"\n")
                    self._cut_short = False
                while written < len(data):
                    written += os.write(self._descriptor, data[written:])
            elif self._stream is not None:
                self._stream.write(data.decode())
            else:
                self._on_dropped(len(lines))
        except (OSError, ValueError):  # a full disk, a closed pipe or stream
            self._cut_short = self._cut_short or (written > 0 and data[written - 1 : written] != b"\n")
            self._on_dropped(sum(end > written for end in accumulate(len(line) + 1 for line in lines)))
