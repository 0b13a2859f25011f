"""Log lines: one JSON object a line, console on a terminal."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from exporter.observe.inline import log as logs
from exporter.observe.inline.log import configure
from exporter.protocol.enums import TcpEndKind
from tests.golden import assert_golden
from tests.unit.observe.inline.harness import Stage, opening
from tests.wire import BINARY, KEY, TEXT, close, frame

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Leave structlog as other tests expect it."""
    yield
    structlog.reset_defaults()


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def crash(log: Any) -> None:
    """An ending worth a line, with a reason that would like to be two."""
    stage = Stage(log=log)
    stage.recorder.run = "5eed5eed"
    stage.play(
        opening(
            "/chat/1?token=secret",
            forwarded_for="198.51.100.1",
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        client=frame(TEXT, b"hi", mask=KEY),
        server=frame(BINARY, bytes(300)) + close(1011, b'boom\n{"event": "fake"}\x1b[31m'),
    )


def steady(line: str) -> str:
    """A line without what differs from run to run."""
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "TIME", line)


def written(fmt: logs.Format, stream: io.StringIO) -> str:
    writer = configure(fmt, stream=stream)
    crash(structlog.get_logger())
    writer.close()
    return steady(stream.getvalue())


def test_the_closing_line_is_golden_as_json() -> None:
    """One ending is one line, one JSON object, with nothing of a peer's that could break out of it."""
    text = written("json", io.StringIO())
    assert text.count("\n") == 1
    line = json.loads(text)
    assert (line["event"], line["level"]) == ("session.closed", "warning")
    assert line["reason"] == 'boom\\n{"event": "fake"}\\x1b[31m'
    assert_golden(GOLDEN / "closed.json", json.dumps(line, indent=2, ensure_ascii=False) + "\n")


def test_the_closing_line_is_golden_on_a_console() -> None:
    """For a person: one line of name=value, no JSON, no colours where the stream is no terminal."""
    text = written("console", io.StringIO())
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert_golden(GOLDEN / "closed.console", text)


@pytest.mark.parametrize(
    ("fmt", "stream", "is_json"),
    [("auto", io.StringIO, True), ("auto", Terminal, False), ("json", Terminal, True), ("console", io.StringIO, False)],
)
def test_auto_is_console_on_a_terminal_and_json_otherwise(
    fmt: logs.Format, stream: type[io.StringIO], is_json: bool
) -> None:
    """A terminal gets text for a person, a pipe gets JSON, unless somebody said otherwise."""
    text = written(fmt, stream())
    assert text.startswith("{") is is_json
    assert "internal-error" in text


@pytest.mark.parametrize(
    ("level", "events"),
    [
        ("debug", ["d", "i", "w", "e"]),
        ("info", ["i", "w", "e"]),
        ("warning", ["w", "e"]),
        ("error", ["e"]),
    ],
)
def test_levels_below_the_least_are_not_written(level: str, events: list[str]) -> None:
    """--log-level is the least level that is logged."""
    stream = io.StringIO()
    writer = configure("json", level, stream)
    log = structlog.get_logger()
    log.debug("d")
    log.info("i")
    log.warning("w")
    log.error("e")
    writer.close()
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == events


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1 << 70, 1 << 70),
        ("\udcff", "\udcff"),
        (Path("/etc"), "PosixPath('/etc')"),
        (b"\xff", "b'\\xff'"),
        (float("nan"), None),
        (TcpEndKind.FIN, "fin"),
        ("naïve", "naïve"),
    ],
)
def test_whatever_is_logged_makes_a_line_of_json(value: object, told: object) -> None:
    """Numbers beyond 64 bits, half a surrogate pair, what JSON has no word for: there is a line, the rest intact."""
    stream = io.StringIO()
    writer = configure("json", stream=stream)
    structlog.get_logger().info("odd", value=value, other="kept")
    writer.close()
    line = json.loads(stream.getvalue())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", line.pop("timestamp"))
    assert line == {"event": "odd", "level": "info", "value": told, "other": "kept"}


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_fields_stand_for_what_they_hold(fmt: logs.Format) -> None:
    """A line is the same whether its fields come as keywords or as a dict; keywords may come beside it."""
    texts = []
    for fields in ({"fields": {"a": 1, "b": "2"}, "c": 3.5}, {"a": 1, "b": "2", "c": 3.5}):
        stream = io.StringIO()
        writer = configure(fmt, stream=stream)
        structlog.get_logger().info("e", **fields)
        writer.close()
        texts.append(steady(stream.getvalue()))
    assert texts[0] == texts[1]


def test_a_traceback_stays_on_its_line() -> None:
    """A defect's traceback is a field of the line, not lines of its own."""
    stream = io.StringIO()
    writer = configure("json", stream=stream)
    try:
        raise ValueError("ours")
    except ValueError as error:
        structlog.get_logger().error("exporter.defect", exc_info=error)
    writer.close()
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: ours" in json.loads(line)["exception"]


def test_a_line_tells_when_it_was_made() -> None:
    """In UTC, to the microsecond, with the fraction's zeros, across a second's end."""
    stream = io.StringIO()
    writer = configure("json", stream=stream)
    begun = datetime.now(UTC)
    while datetime.now(UTC) < begun + timedelta(seconds=1.1):
        structlog.get_logger().info("tick")
        time.sleep(0.05)
    writer.close()
    stamps = [json.loads(line)["timestamp"] for line in stream.getvalue().splitlines()]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", stamp) for stamp in stamps)
    times = [datetime.fromisoformat(stamp) for stamp in stamps]
    assert times == sorted(times)
    assert begun - timedelta(milliseconds=1) <= times[0] <= times[-1] <= datetime.now(UTC)
    assert times[-1] - times[0] >= timedelta(seconds=1)
