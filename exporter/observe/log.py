"""The log: structlog events as one JSON object a line, or as one short line on a terminal.

A line is rendered where it arises and written by a thread from a bounded queue, so a blocked output blocks nothing but
that thread. Lines over a ceiling per second are suppressed, lines that cannot be written are dropped; both are counted.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from logging.handlers import QueueHandler, QueueListener
from queue import Full, Queue
from threading import Thread
from time import monotonic
from typing import IO, Any, Literal

import structlog
from structlog.processors import JSONRenderer, TimeStamper, add_log_level, format_exc_info
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, FilteringBoundLogger

from exporter import __version__
from exporter.address import Address
from exporter.config import Settings
from exporter.observe.recent_closes import close_fields
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
#: Seconds for which :meth:`Log.close` waits for the last lines to be written.
LAST_LINES = 1.0

CLOSED = "session.closed"
_COLOURS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}


class Log:
    """Configure structlog and the standard library's logging for this process.

    :param fmt: ``auto`` is ``console`` on a terminal and ``json`` otherwise.
    :param level: the least level that is logged.
    :param stream: standard output by default; None, as when it is closed, drops every line.
    :param reports: the URL before ``/closes``, for lines on a terminal; empty for none.
    """

    def __init__(
        self, fmt: Format = "auto", level: str = "info", stream: IO[str] | None = None, reports: str = ""
    ) -> None:
        stream = stream or sys.stdout
        terminal = stream is not None and stream.isatty()
        console = fmt == "console" or (fmt == "auto" and terminal)
        self._suppressed = _Count()
        self._dropped = _Count()
        queue: Queue[Any] = Queue(MAX_WAITING)
        self._listener = _Listener(queue, _Output(stream, self._dropped.add))
        stamp = TimeStamper(fmt="iso", utc=True)
        render = _TerminalLine(reports, terminal) if console else JSONRenderer(serializer=_serialize)
        handler = _BoundedHandler(queue, self._dropped.add)
        handler.setFormatter(
            ProcessorFormatter(
                foreign_pre_chain=[add_log_level, stamp],  # events of asyncio and aiohttp
                processors=[ProcessorFormatter.remove_processors_meta, format_exc_info, render],
            )
        )
        logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
        logging.captureWarnings(True)
        self._listener.start()
        structlog.configure(
            processors=[
                _Ceiling(LINES_PER_SECOND, self._suppressed.add),
                add_log_level,
                stamp,
                ProcessorFormatter.wrap_for_formatter,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=structlog.stdlib.LoggerFactory(),
            cache_logger_on_first_use=True,
        )

    def count(self, suppressed: Callable[[int], None], dropped: Callable[[int], None]) -> None:
        """Call these with the number of lines suppressed and dropped, those until now included."""
        self._suppressed.forward(suppressed)
        self._dropped.forward(dropped)

    def close(self) -> None:
        """Write the lines that wait, for :data:`LAST_LINES` seconds at most."""
        stopping = Thread(target=self._listener.stop, name="log-close", daemon=True)
        stopping.start()
        stopping.join(LAST_LINES)


class SessionLog:
    """Log closed sessions.

    :param routes: the names of the routes.
    :param which: which closes are logged.
    """

    def __init__(self, routes: Sequence[str], which: LogEndings, log: FilteringBoundLogger | None = None) -> None:
        self._routes = routes
        self._which = which
        self._log = log or structlog.get_logger("exporter")

    def session_closed(self, record: SessionRecord, ending: Ending) -> None:
        """Log one close, as a warning if it is abnormal."""
        abnormal = is_abnormal(ending.cause)
        if self._which == "all" or (self._which == "abnormal" and abnormal):
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


class _Count:
    """Count, and pass the count on once there is a receiver."""

    def __init__(self) -> None:
        self._waiting = 0
        self._receiver: Callable[[int], None] | None = None

    def add(self) -> None:
        if self._receiver is None:
            self._waiting += 1
        else:
            self._receiver(1)

    def forward(self, receiver: Callable[[int], None]) -> None:
        self._receiver = receiver
        receiver(self._waiting)
        self._waiting = 0


class _Ceiling:
    """Drop events over a number a second, those of closed sessions counted apart from all others."""

    def __init__(self, limit: int, suppressed: Callable[[], None], clock: Callable[[], float] = monotonic) -> None:
        self._limit = limit
        self._suppressed = suppressed
        self._clock = clock
        self._second = 0
        self._counts = {True: 0, False: 0}

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._counts = {True: 0, False: 0}
        is_close = event.get("event") == CLOSED
        self._counts[is_close] += 1
        if self._counts[is_close] > self._limit:
            self._suppressed()
            raise structlog.DropEvent
        return event


def _serialize(event: EventDict, **_: Any) -> str:
    """Return the event as JSON, its longest texts cut so that the line fits."""
    limit = MAX_TRACEBACK_LINE if "exception" in event else MAX_LINE
    line = _dumps(event)
    while (size := len(line.encode("utf-8", "backslashreplace"))) >= limit:
        longest = max(event, key=lambda name: len(event[name]) if isinstance(event[name], str) else 0)
        text = event[longest]
        if not isinstance(text, str) or len(text) < 2:
            return _dumps({name: event[name] for name in ("event", "level", "timestamp") if name in event})
        keep = max(1, len(text) - max(size - limit + 4, len(text) // 8))
        event[longest] = f"…{text[-keep:]}" if longest == "exception" else f"{text[: keep - 1]}…"
        line = _dumps(event)
    return line


def _dumps(event: EventDict) -> str:
    try:
        return json.dumps(event, default=repr, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError):  # keys of another type, or a circular reference
        return json.dumps({"event": repr(event)[: MAX_LINE // 2]}, ensure_ascii=False)


class _TerminalLine:
    """Render an event as one short line for a person: local time, then the close or the event with its fields."""

    def __init__(self, reports: str, colours: bool) -> None:
        self._reports = reports
        self._colours = colours

    def __call__(self, logger: Any, method: str, event: EventDict) -> str:
        level, exception = event.pop("level", method), event.pop("exception", "")
        event.pop("timestamp", None)
        body = self._close(event) if event.get("event") == CLOSED else self._other(event)
        line = f"{datetime.now():%H:%M:%S} {body}"
        if self._colours and level in _COLOURS:
            line = f"{_COLOURS[level]}{line}\x1b[0m"
        return f"{line}\n{exception}" if exception else line

    def _close(self, event: EventDict) -> str:
        code = event["close_code"] or event["code"]
        report = ""
        if self._reports and is_abnormal(event["cause"]):
            report = f"  {self._reports}/closes/{event['session_id']}"
        return f"{code} {event['cause']} by {event['initiator']}  {event['path']}  {event['duration_s']:.1f}s{report}"

    def _other(self, event: EventDict) -> str:
        name = event.pop("event", "")
        return "  ".join([str(name), *(f"{key}={value}" for key, value in event.items())])


class _BoundedHandler(QueueHandler):
    """Put lines into the queue, or drop them if it is full."""

    def __init__(self, queue: Queue[Any], dropped: Callable[[], None]) -> None:
        super().__init__(queue)
        self._on_dropped = dropped

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except Full:
            self._on_dropped()


class _Listener(QueueListener):
    def enqueue_sentinel(self) -> None:
        with suppress(Full):  # the output is blocked: the thread ends with the process
            super().enqueue_sentinel()


class _Output(logging.Handler):
    """Write lines to a stream: to its descriptor, if it has one, so that no line waits in a buffer when it is full."""

    def __init__(self, stream: IO[str] | None, dropped: Callable[[], None]) -> None:
        super().__init__()
        self._stream = stream
        self._on_dropped = dropped
        self._cut_short = False
        try:
            self._descriptor = stream.fileno() if stream is not None else None
        except (OSError, ValueError):  # io.StringIO and its like
            self._descriptor = None

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.getMessage()}\n"
        try:
            if self._descriptor is not None:
                self._write(self._descriptor, line.encode("utf-8", "backslashreplace"))
            elif self._stream is not None:
                self._stream.write(line)
            else:
                self._on_dropped()
        except (OSError, ValueError):  # a full disk, a closed pipe or stream
            self._on_dropped()

    def _write(self, descriptor: int, line: bytes) -> None:
        data = b"\n" + line if self._cut_short else line
        written = 0
        try:
            while written < len(data):
                written += os.write(descriptor, data[written:])
        finally:
            self._cut_short = 0 < written < len(data) or (self._cut_short and not written)
