"""What the hot path costs does not creep up unseen."""

from __future__ import annotations

import pytest

from benchmarks import gate
from benchmarks.hotpath import SCRIPTS, drive, session
from exporter.protocol.direction import PAYLOAD
from exporter.protocol.frame_header import Events
from exporter.protocol.frames import FrameScanner

#: Under valgrind each script takes seconds; these two are what most traffic is.
COUNTED = ("pp64", "pipe")


@pytest.mark.parametrize("name", SCRIPTS)
def test_bytecodes_of_a_unit_stay_at_their_figure(name: str) -> None:
    """No more bytecode runs for a message than the committed figure and its tolerance allow."""
    figures = gate.figures("bytecodes")
    if not figures:
        pytest.skip(f"no figures for Python {gate.VERSION}; make bench-figures writes them")
    assert gate.count_bytecodes()[name] <= figures[name] * (1 + gate.BYTECODE_TOLERANCE)


def test_instructions_of_a_unit_stay_at_their_figure() -> None:
    """No more user-space instructions run for a message than the committed figure and its tolerance allow."""
    figures = gate.figures("instructions")
    if not figures:
        pytest.skip(f"no figures for Python {gate.VERSION}; make bench-figures writes them")
    try:
        counts = gate.count_instructions(COUNTED)
    except gate.CannotCount as reason:
        pytest.skip(str(reason))
    for name, count in counts.items():
        assert count <= figures[name] * (1 + gate.INSTRUCTION_TOLERANCE), name


def test_a_dearer_hot_path_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more call for each chunk is enough to be over the tolerance of the commonest script."""
    figures = {"pp64": gate.count_bytecodes()["pp64"]}
    cheap = FrameScanner.feed

    def dear(scanner: FrameScanner, data: bytes, now: float) -> Events | None:
        len(data)
        return cheap(scanner, data, now)

    monkeypatch.setattr(FrameScanner, "feed", dear)
    assert gate.count_bytecodes()["pp64"] > figures["pp64"] * (1 + gate.BYTECODE_TOLERANCE)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_whole_frames(name: str) -> None:
    """What is counted is real traffic: every byte of a script is understood, and ends at a frame boundary."""
    script = SCRIPTS[name]
    with session() as ends:
        for chunks, end in zip((script.client, script.server), ends, strict=True):
            for data in chunks:
                end.send(data)
            scanner = end.leg.observer
            assert isinstance(scanner, FrameScanner)
            scanner.flush_counts()
            assert scanner.at_boundary
            assert not scanner.unobserved
            assert (scanner.frames > 0) == bool(chunks)
            assert scanner.payload == scanner.counts[PAYLOAD] < sum(map(len, chunks)) + (not chunks)


def test_drive_three_times_repeats_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that is driven three times is fed three times, of both peers."""
    fed: list[int] = []
    feed = FrameScanner.feed

    def note(scanner: FrameScanner, data: bytes, now: float) -> Events | None:
        fed.append(len(data))
        return feed(scanner, data, now)

    monkeypatch.setattr(FrameScanner, "feed", note)
    drive(SCRIPTS["pp64"], 3)
    assert fed == [136, 132] * 3
