"""Logging: structlog, one JSON object a line, or coloured text on a terminal.

Lines are rendered where they arise and written by a thread from a queue. Sessions that end make
nearly all of them, so a line of JSON passes through a single processor: a call for each thing that is added to it would
cost more than the encoding.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from time import time_ns
from typing import IO, Any, Final, Literal

import orjson
import structlog
from structlog.processors import TimeStamper, add_log_level, format_exc_info
from structlog.typing import EventDict, Processor

from exporter.observe.inline.linewriter import LineWriter

Format = Literal["auto", "json", "console"]

_OPTIONS: Final = orjson.OPT_APPEND_NEWLINE
_dumps: Final = orjson.dumps


def _logger_class(level: str) -> Any:
    """structlog's logger for ``level`` and above, with a short way through our processors.

    These end in one line of bytes, whatever the event, and drop none; structlog's own way is open to more, and takes as
    long again as encoding the line.
    """

    def proxy(self: Any, method: str, event: str | None = None, **keywords: Any) -> None:
        line: Any = {**self._context, **keywords}
        line["event"] = event
        for process in self._processors:
            line = process(self._logger, method, line)
        self._logger(line)

    return type("BoundLogger", (structlog.make_filtering_bound_logger(level),), {"_proxy_to_logger": proxy})


class _Clock:
    """The time as a line has it. Of a second all but the fraction is made once: datetime takes 5,000 instructions."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def now(self) -> str:
        """In UTC, by RFC 3339, to the microsecond."""
        now = time_ns() // 1000
        second = now // 1_000_000
        if second != self._second:
            self._second = second
            self._text = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}."
        return f"{self._text}{str(1_000_000 + now % 1_000_000)[1:]}Z"


class _ToJson:
    """Makes one JSON object of an event, with its level, time and exception: the only processor that a line meets."""

    def __init__(self) -> None:
        self._clock = _Clock()

    def __call__(self, logger: Any, method: str, event: EventDict) -> bytes:
        event = _spread(logger, method, event)
        event["level"] = method
        event["timestamp"] = self._clock.now()
        if "exc_info" in event:
            event = format_exc_info(logger, method, event)
        try:
            return _dumps(event, repr, _OPTIONS)
        except (
            orjson.JSONEncodeError
        ):  # half a surrogate pair, a number of more than 64 bits: the standard library's may
            return json.dumps(event, default=repr).encode() + b"\n"


def _spread(logger: Any, method: str, event: EventDict) -> EventDict:
    """Let ``fields``, a dict of its own, stand for what it holds: as keywords they would be copied three times."""
    fields: EventDict | None = event.pop("fields", None)
    if fields is None:
        return event
    fields.update(event)
    return fields


def _line(logger: Any, method: str, text: str) -> bytes:
    """A rendered text as it is written."""
    return f"{text}\n".encode("utf-8", "backslashreplace")


def _processors(console: bool, colors: bool) -> list[Any]:
    """The processors that end in a line: of text for a person, or of JSON."""
    if not console:
        return [_ToJson()]
    chain: list[Processor] = [_spread, add_log_level, TimeStamper(fmt="iso", utc=True), format_exc_info]
    return [*chain, structlog.dev.ConsoleRenderer(colors=colors), _line]


def configure(fmt: Format = "auto", level: str = "info", stream: IO[str] | None = None) -> LineWriter:
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
        processors=_processors(console, terminal),
        wrapper_class=_logger_class(level),
        logger_factory=lambda *args: writer.write,
        cache_logger_on_first_use=True,
    )
    return writer
