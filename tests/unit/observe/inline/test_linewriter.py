"""The thread that writes the log: nobody waits for whoever reads it, and what does not fit or arrive is counted."""

from __future__ import annotations

import io
import threading

import pytest

from exporter.observe.inline import linewriter
from exporter.observe.inline.linewriter import LineWriter
from tests.waiting import PATIENCE, eventually


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
        monkeypatch.setattr(linewriter.os, "write", self._take)

    def fileno(self) -> int:
        return 12345

    def _take(self, descriptor: int, data: memoryview) -> int:
        assert descriptor == 12345
        taken = min(self.takes.pop(0) if len(self.takes) > 1 else self.takes[0], len(data))
        if taken < 0:
            raise OSError(28, "No space left on device")
        self.got.append(bytes(data[:taken]))
        return taken


def test_a_reader_that_does_not_read_blocks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the stream is blocked write() returns at once; what does not fit is dropped and counted, the rest is
    written in order when the reader comes back."""
    monkeypatch.setattr(linewriter, "MAX_WAITING", 10)
    stream = Stuck()
    writer = LineWriter(stream)
    writer.write(b"0\n")
    assert stream.entered.wait(PATIENCE)
    writing = threading.Thread(target=lambda: [writer.write(b"%d\n" % number) for number in range(1, 51)], daemon=True)
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
    monkeypatch.setattr(linewriter, "LAST_LINES", 0.05)
    monkeypatch.setattr(linewriter, "MAX_WAITING", 2)
    stream = Stuck()
    writer = LineWriter(stream)
    writer.write(b"0\n")
    assert stream.entered.wait(PATIENCE)
    writer.write(b"1\n")
    writer.close()
    writer.write(b"2\n")
    writer.write(b"3\n")
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
        writer.write(b"%d\n" % number)
    eventually(lambda: writer.dropped == 5, "five are dropped")
    writer.close()
    assert writer.dropped == 5


def test_every_line_is_written_before_the_end() -> None:
    """Lines that wait when the process ends are written, all and in order."""
    stream = io.StringIO()
    writer = LineWriter(stream)
    for number in range(5000):
        writer.write(b"%d\n" % number)
    writer.close()
    assert stream.getvalue().split() == [str(number) for number in range(5000)]
    assert writer.dropped == 0


def test_lines_that_come_together_are_written_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred lines in a row cost a few writes, not a hundred."""
    pipe = Pipe(monkeypatch, [1_000_000])
    writer = LineWriter(pipe)
    for number in range(100):
        writer.write(b"%d\n" % number)
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
    monkeypatch.setattr(linewriter, "ACCEPT_BATCH", 3)
    pipe = Pipe(monkeypatch, takes)
    writer = LineWriter(pipe)
    writer.write(b"aa\n")
    writer.write(b"bb\n")
    writer.write(b"cc\n")
    eventually(lambda: writer.dropped or b"".join(pipe.got).count(b"\n") == 3, "three lines went their way")
    writer.write(b"dd\n")
    writer.close()
    assert b"".join(pipe.got) == arrived
    assert writer.dropped == lost
