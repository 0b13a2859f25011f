"""Log lines: one JSON object a line, console on a terminal, and never a wait for whoever reads them."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from exporter.observe import logs
from exporter.observe.logs import LineWriter, set_up
from exporter.protocol.words import How
from tests.golden import assert_golden
from tests.observe.scenes import Stage, opening
from tests.waiting import PATIENCE, eventually
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


class Stuck(io.StringIO):
    """A stream whose reader does not read, until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.released = threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        assert self.released.wait(PATIENCE)
        return super().write(text)


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


class Pipe(io.StringIO):
    """A stream with a file descriptor; ``takes`` says how many bytes each write(2) takes, the last for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, takes: list[int]) -> None:
        super().__init__()
        self.takes = takes
        self.got: list[bytes] = []
        monkeypatch.setattr(logs.os, "write", self._take)

    def fileno(self) -> int:
        return 12345

    def _take(self, descriptor: int, data: memoryview) -> int:
        assert descriptor == 12345
        taken = min(self.takes.pop(0) if len(self.takes) > 1 else self.takes[0], len(data))
        if taken < 0:
            raise OSError(28, "No space left on device")
        self.got.append(bytes(data[:taken]))
        return taken


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
    writer = set_up(fmt, stream=stream)
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
    writer = set_up("json", level, stream)
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
        (How.FIN, "fin"),
        ("naïve", "naïve"),
    ],
)
def test_whatever_is_logged_makes_a_line_of_json(value: object, told: object) -> None:
    """Numbers beyond 64 bits, half a surrogate pair, what JSON has no word for: there is a line, the rest intact."""
    stream = io.StringIO()
    writer = set_up("json", stream=stream)
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
        writer = set_up(fmt, stream=stream)
        structlog.get_logger().info("e", **fields)
        writer.close()
        texts.append(steady(stream.getvalue()))
    assert texts[0] == texts[1]


def test_a_traceback_stays_on_its_line() -> None:
    """A defect's traceback is a field of the line, not lines of its own."""
    stream = io.StringIO()
    writer = set_up("json", stream=stream)
    try:
        raise ValueError("ours")
    except ValueError as error:
        structlog.get_logger().error("exporter.defect", exc_info=error)
    writer.close()
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: ours" in json.loads(line)["exception"]


def test_a_reader_that_does_not_read_blocks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the stream is blocked write() returns at once; what does not fit is dropped and counted, the rest is
    written in order when the reader comes back."""
    monkeypatch.setattr(logs, "MAX_WAITING", 10)
    stream = Stuck()
    writer = LineWriter(stream)
    writer.write("0")
    assert stream.entered.wait(PATIENCE)
    writing = threading.Thread(target=lambda: [writer.write(str(number)) for number in range(1, 51)], daemon=True)
    writing.start()
    writing.join(PATIENCE)
    assert not writing.is_alive(), "write() waits for the stream"
    assert writer.dropped == 40
    assert stream.getvalue() == ""
    stream.released.set()
    writer.close()
    assert stream.getvalue().split() == [str(number) for number in range(11)]
    assert writer.dropped == 40


def test_a_process_that_ends_does_not_wait_long_for_a_stuck_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """close() gives up on a stream that stays blocked."""
    monkeypatch.setattr(logs, "LAST_LINES", 0.05)
    monkeypatch.setattr(logs, "MAX_WAITING", 2)
    stream = Stuck()
    writer = LineWriter(stream)
    writer.write("0")
    assert stream.entered.wait(PATIENCE)
    writer.write("1")
    writer.close()
    writer.write("2")
    writer.write("3")
    writer.close()
    assert stream.getvalue() == ""
    stream.released.set()


@pytest.mark.parametrize("broken", [Full, None])
def test_a_stream_that_fails_costs_lines_only(broken: type[io.StringIO] | None) -> None:
    """A full disk or a closed pipe drops lines, counts them, and raises nowhere."""
    if broken is None:
        stream = io.StringIO()
        stream.close()
    else:
        stream = broken()
    writer = LineWriter(stream)
    for number in range(5):
        writer.write(str(number))
    eventually(lambda: writer.dropped == 5, "five are dropped")
    writer.close()
    assert writer.dropped == 5


def test_every_line_is_written_before_the_end() -> None:
    """Lines that wait when the process ends are written, all and in order."""
    stream = io.StringIO()
    writer = LineWriter(stream)
    for number in range(5000):
        writer.write(str(number))
    writer.close()
    assert stream.getvalue().split() == [str(number) for number in range(5000)]
    assert writer.dropped == 0


def test_lines_that_come_together_are_written_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred lines in a row cost a few writes, not a hundred."""
    pipe = Pipe(monkeypatch, [1_000_000])
    writer = LineWriter(pipe)
    for number in range(100):
        writer.write(str(number))
    writer.close()
    assert b"".join(pipe.got) == b"".join(b"%d\n" % number for number in range(100))
    assert len(pipe.got) <= 5


@pytest.mark.parametrize(
    ("takes", "arrived", "lost"),
    [
        pytest.param([2, 100], b"aa\nbb\ncc\n" + b"dd\n", 0, id="in pieces"),
        pytest.param([-1, 100], b"dd\n", 3, id="nothing, then all"),
        pytest.param([3, -1, 100], b"aa\n" + b"dd\n", 2, id="a whole line, then none"),
        pytest.param([4, -1, 100], b"aa\nb" + b"\ndd\n", 2, id="a line and a half: ended before the next"),
        pytest.param([4, -1, -1], b"aa\nb", 3, id="a line and a half, then none"),
    ],
)
def test_each_line_that_did_not_arrive_whole_is_counted(
    monkeypatch: pytest.MonkeyPatch, takes: list[int], arrived: bytes, lost: int
) -> None:
    """Of lines that are written at once those that arrived are not counted; half a line is, and spoils no other."""
    monkeypatch.setattr(logs, "AT_ONCE", 3)
    pipe = Pipe(monkeypatch, takes)
    writer = LineWriter(pipe)
    writer.write("aa")
    writer.write("bb")
    writer.write("cc")
    eventually(lambda: writer.dropped or b"".join(pipe.got).count(b"\n") == 3, "three lines went their way")
    writer.write("dd")
    writer.close()
    assert b"".join(pipe.got) == arrived
    assert writer.dropped == lost
