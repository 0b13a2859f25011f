"""Log lines: JSON or short text, bounded in length, number and memory, written by a thread."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pytest
import structlog

from exporter.observe.log import LINES_PER_SECOND, MAX_LINE, MAX_TRACEBACK_LINE, MAX_WAITING, Log, SessionLog
from exporter.protocol.enums import Cause, Peer
from tests.unit.observe.harness import ROUTES, ending, record
from tests.waiting import WAIT_LIMIT

LOST = ending("1006", Cause.CONNECTION_LOST, clean=False)


class Counts:
    """A log that has been started, and its lines suppressed and dropped."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self.suppressed = self.dropped = 0
        self.log = Log(*arguments, **more, suppressed=self._suppress, dropped=self._drop)
        self.log.start()

    def _suppress(self, lines: int) -> None:
        self.suppressed += lines

    def _drop(self, lines: int) -> None:
        self.dropped += lines


@pytest.fixture(autouse=True)
def _configuration() -> Iterator[None]:
    yield
    logging.basicConfig(handlers=[], level=logging.WARNING, force=True)
    logging.captureWarnings(False)
    structlog.reset_defaults()


@contextmanager
def logging_to(stream: IO[str] | None, *arguments: Any, **more: Any) -> Iterator[Counts]:
    """Configure a log to a stream; its lines are written when the context ends."""
    counts = Counts(*arguments, stream=stream, **more)
    try:
        yield counts
    finally:
        counts.log.close()


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    """Return the JSON objects of a stream, one a line."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_log_line_is_one_json_object() -> None:
    """A line holds the event, its fields, the level and the time in UTC."""
    stream = io.StringIO()
    with logging_to(stream, "json"):
        structlog.get_logger().info("drain.started", sessions=3)
    (line,) = events(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("timestamp"))
    assert line == {"event": "drain.started", "level": "info", "sessions": 3}


def test_log_level_below_the_least_is_not_logged() -> None:
    """Lines below the configured level are left out."""
    stream = io.StringIO()
    with logging_to(stream, "json", "warning"):
        structlog.get_logger().info("no")
        structlog.get_logger().warning("yes")
    assert [line["event"] for line in events(stream)] == ["yes"]


def test_log_of_libraries_is_in_the_same_form() -> None:
    """Events of the standard library's logging are JSON as well."""
    stream = io.StringIO()
    with logging_to(stream, "json"):
        logging.getLogger("asyncio").error("it %s", "broke")
    (line,) = events(stream)
    assert (line["event"], line["level"]) == ("it broke", "error")


def test_log_line_of_an_exception_holds_the_end_of_its_traceback() -> None:
    """A traceback is a field of its line; a long one keeps its end."""
    stream = io.StringIO()
    with logging_to(stream, "json"):
        try:
            raise ValueError("x" * 20_000 + "the end")
        except ValueError as error:
            structlog.get_logger().error("exporter.defect", exc_info=error)
    (line,) = events(stream)
    assert line["exception"].endswith("the end")
    assert len(stream.getvalue()) <= MAX_TRACEBACK_LINE


@pytest.mark.parametrize("char", ["x", "\\", "日", "\ud800", "\x1b", "🙂"])
def test_log_line_of_the_longest_texts_has_a_bound(char: str) -> None:
    """Whatever peers send, a line of a close has at most 1.5 KB and all its fields."""
    stream = io.StringIO()
    with logging_to(stream, "json") as counts:
        closed = record(path=char * 512, forwarded_for=char * 256, subprotocol=char * 64, trace_id="ab" * 16)
        SessionLog(counts.log, ROUTES, "all", int).session_closed(closed, ending(reason=char * 123))
    assert len(stream.getvalue().encode("utf-8", "backslashreplace")) <= MAX_LINE
    (line,) = events(stream)
    assert line["code"] == "1011"
    assert line["session_id"]
    assert line["trace_id"] == "ab" * 16


def test_log_line_of_any_value_is_written() -> None:
    """Values that JSON has no type for, and many fields, do not stop a line."""
    stream = io.StringIO()
    with logging_to(stream, "json"):
        structlog.get_logger().info("odd", value=object(), **{f"f{number}": "y" * 50 for number in range(100)})
    (line,) = events(stream)
    assert line["event"] == "odd"
    assert len(stream.getvalue()) <= MAX_LINE


@pytest.mark.parametrize(("value", "logged"), [("\ud800", "\ud800"), (2**70, 2**70), ({1: 2}, {"1": 2})])
def test_log_line_of_an_unusual_value_keeps_its_fields(value: Any, logged: Any) -> None:
    """Texts that are no UTF-8, large integers and other keys cost a line none of its fields."""
    stream = io.StringIO()
    with logging_to(stream, "json"):
        structlog.get_logger().info("odd", value=value, sessions=3)
    (line,) = events(stream)
    assert (line["event"], line["value"], line["sessions"]) == ("odd", logged, 3)


@pytest.mark.parametrize(("which", "logged"), [("all", ["1001", "1011"]), ("abnormal", ["1011"]), ("none", [])])
def test_session_log_of_each_setting_is_what_was_chosen(which: Any, logged: list[str]) -> None:
    """All, abnormal or no closes are logged, abnormal ones as warnings."""
    stream = io.StringIO()
    with logging_to(stream, "json") as counts:
        sessions = SessionLog(counts.log, ROUTES, which, int)
        sessions.session_closed(record(), ending("1001", Cause.GOING_AWAY))
        sessions.session_closed(record(), ending())
    lines = events(stream)
    assert [line["code"] for line in lines] == logged
    assert {line["code"]: line["level"] for line in lines}.items() <= {"1001": "info", "1011": "warning"}.items()


def test_session_log_below_the_least_level_is_not_logged() -> None:
    """The log's least level holds for closes as well."""
    stream = io.StringIO()
    with logging_to(stream, "json", "warning") as counts:
        sessions = SessionLog(counts.log, ROUTES, "all", int)
        sessions.session_closed(record(), ending("1001", Cause.GOING_AWAY))
        sessions.session_closed(record(), ending())
    assert [line["code"] for line in events(stream)] == ["1011"]


def test_terminal_line_of_a_close_is_short() -> None:
    """A close on a terminal is one line: time, real code, cause, initiator, path, duration, its report's address."""
    stream = io.StringIO()
    closed = record(path="/ws/a", seconds=4.1)
    with logging_to(stream, "console", reports="http://localhost:10011") as counts:
        sessions = SessionLog(counts.log, ROUTES, "all", int)
        sessions.session_closed(closed, LOST)
        sessions.session_closed(closed, ending("4xxx", Cause.APPLICATION, Peer.CLIENT, close_code=4409))
        sessions.session_closed(closed, ending("1000", Cause.NORMAL, close_code=1000))
    address = f"  http://localhost:10011/closes/{closed.session_id}"
    assert [line[9:] for line in stream.getvalue().splitlines()] == [
        f"1006 connection-lost by server  /ws/a  4.1s{address}",
        f"4409 application by client  /ws/a  4.1s{address}",
        "1000 normal by server  /ws/a  4.1s",
    ]
    assert re.match(r"\d\d:\d\d:\d\d ", stream.getvalue())


def test_terminal_line_of_another_event_shows_its_fields() -> None:
    """Every other event is its name and fields."""
    stream = io.StringIO()
    with logging_to(stream, "console"):
        structlog.get_logger().info("drain.started", sessions=3)
    assert stream.getvalue()[9:] == "drain.started  sessions=3\n"


def test_log_lines_over_the_ceiling_are_suppressed_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one second so many lines of closes pass, and as many of everything else; the others are counted."""
    monkeypatch.setattr("exporter.observe.log.monotonic", lambda: 5.0)
    stream = io.StringIO()
    with logging_to(stream, "json") as counts:
        suppressed: list[int] = []
        sessions = SessionLog(counts.log, ROUTES, "all", suppressed.append)
        for _ in range(LINES_PER_SECOND + 20):
            sessions.session_closed(record(), LOST)
        for _ in range(LINES_PER_SECOND + 3):
            structlog.get_logger().info("other")
    names = [line["event"] for line in events(stream)]
    assert (names.count("session.closed"), names.count("other")) == (LINES_PER_SECOND, LINES_PER_SECOND)
    assert (sum(suppressed), counts.suppressed, counts.dropped) == (20, 3, 0)


def test_log_to_a_blocked_output_never_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a pipe that nobody reads lines are queued up to a bound, then dropped and counted; the caller goes on."""
    monkeypatch.setattr("exporter.observe.log.LINES_PER_SECOND", 10**9)
    monkeypatch.setattr("exporter.observe.log.LAST_LINES", WAIT_LIMIT)
    read, write = os.pipe()
    lines = MAX_WAITING + 500  # a pipe holds 64 KiB
    with open(read, "rb") as reader:
        with open(write, "w", encoding="utf-8") as stream, logging_to(stream, "json") as counts:
            for _ in range(lines):
                structlog.get_logger().info("long", text="x" * 1000)
            assert 0 < counts.dropped < 500
            rest: list[bytes] = []
            thread = threading.Thread(target=lambda: rest.append(reader.read()))
            thread.start()  # the reader wakes up: every line that was queued is written
        thread.join()
    assert rest[0].count(b"\n") == lines - counts.dropped
    assert all(json.loads(line)["event"] == "long" for line in rest[0].splitlines())


@pytest.mark.parametrize("where", ["closed", "full", "none"])
def test_log_to_an_output_that_fails_counts_dropped_lines(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, a closed pipe or no standard output at all: each line is counted, nothing is raised."""
    if where == "closed":
        read, write = os.pipe()
        os.close(read)
        stream: IO[str] | None = open(write, "w")  # noqa: SIM115  # closed below
    elif where == "full":
        stream = open("/dev/full", "w")  # noqa: SIM115
    else:
        monkeypatch.setattr("sys.stdout", None)
        stream = None
    with logging_to(stream, "json") as counts:
        for _ in range(5):
            structlog.get_logger().info("lost")
    assert counts.dropped == 5
    if stream is not None:
        stream.close()
