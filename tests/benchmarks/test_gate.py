"""What the hot path costs does not creep up unseen."""

from __future__ import annotations

import pytest

from benchmarks import gate
from benchmarks.hotpath import SCRIPTS, drive, legs
from exporter.protocol.frames import PAYLOAD
from exporter.relay.engine import PythonEngine, SessionLeg

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
    cheap = SessionLeg.data_received

    def dear(leg: SessionLeg, data: bytes) -> None:
        len(data)
        cheap(leg, data)

    monkeypatch.setattr(SessionLeg, "data_received", dear)
    assert gate.count_bytecodes()["pp64"] > figures["pp64"] * (1 + gate.BYTECODE_TOLERANCE)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_whole_frames(name: str) -> None:
    """What is counted is real traffic: every byte of a script is understood, and ends at a frame boundary."""
    script = SCRIPTS[name]
    for chunks, receive in zip((script.client, script.server), legs(PythonEngine()), strict=True):
        scanner = receive.__self__.ear  # type: ignore[attr-defined]
        for data in chunks:
            receive(data)
        scanner.settle()
        assert scanner.at_boundary
        assert not scanner.lost
        assert (scanner.frames > 0) == bool(chunks)
        assert scanner.payload == scanner.tally[PAYLOAD] < sum(map(len, chunks)) + (not chunks)


def test_driving_repeats_the_script() -> None:
    """A script that is driven three times makes three times as many calls as one driven once, and leaves no error."""
    calls: list[int] = []

    class Engine(PythonEngine):
        def take(self, client, server, *rest):  # type: ignore[no-untyped-def]
            client.write = server.write = lambda data: calls.append(len(data))
            return super().take(client, server, *rest)

    drive(SCRIPTS["pp64"], 3, Engine())()
    assert len(calls) == 6
