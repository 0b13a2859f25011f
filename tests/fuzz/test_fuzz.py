"""About a minute of fuzzing, bounded by inputs; ``make fuzz`` takes an hour. And proof that each target can fail."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.observe import recent_closes as text_module
from exporter.protocol.close_codes import Classification, CloseCodeMap
from exporter.protocol.enums import Cause
from exporter.protocol.frames import FrameScanner
from exporter.protocol.http1 import HandshakeTracker, Upgraded
from exporter.protocol.record import SessionRecord
from exporter.relay.reporter import Reporter
from exporter.relay.tunnel import Tunnel
from exporter.relay.tunnel_leg import TunnelLeg
from tests.fuzz import targets
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).parent / "corpus"

#: Inputs in one run of the tests, by target; together a good half minute.
RUNS = {"scanner": 20_000, "http": 20_000, "session": 15_000, "relay": 1_500, "text": 10_000, "inject": 300}
WAIT_LIMIT = 300


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the driver."""
    command = [sys.executable, "-m", "tests.fuzz", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_LIMIT)


@pytest.mark.parametrize("target", RUNS)
def test_no_input_breaks_a_promise(target: str) -> None:
    """The corpus and thousands of inputs grown from it: no crash, no unbounded memory, no altered byte, one ending."""
    if target not in TARGETS:
        pytest.skip("exporter.kubernetes is not in this tree")
    done = fuzz(target, "--runs", str(RUNS[target]), "--seed", "1")
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    ran = int(done.stdout.split()[1])
    assert ran >= RUNS[target]


def test_hypothesis_stands_in() -> None:
    """Where atheris cannot be installed, hypothesis drives the same targets."""
    done = fuzz("session", "--hypothesis", "--runs", "300", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "inputs by hypothesis" in done.stdout


def _ignores_last_bytes(patch: pytest.MonkeyPatch) -> None:
    feed = FrameScanner.feed
    patch.setattr(FrameScanner, "feed", lambda self, data, now: feed(self, data[:-1] or data, now))


def _hoarder(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(targets, "MAX_PENDING", 3)


def _inventive_switch(patch: pytest.MonkeyPatch) -> None:
    request = HandshakeTracker.response

    def response(self: HandshakeTracker, data: bytes) -> list[object]:
        return [
            Upgraded(fact.request, fact.response, fact.client, fact.server + b"!")
            if isinstance(fact, Upgraded)
            else fact
            for fact in request(self, data)
        ]

    patch.setattr(HandshakeTracker, "response", response)


def _silent_abort(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(HandshakeTracker, "eof", lambda self: [])


def _label_of_a_client(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CloseCodeMap, "classify_code", lambda self, code: Classification(str(code), Cause.APPLICATION))


def _altered_byte(patch: pytest.MonkeyPatch) -> None:
    received = TunnelLeg.data_received
    patch.setattr(TunnelLeg, "data_received", lambda self, data: received(self, data[:-1] + b"\0"))


def _reported_twice(patch: pytest.MonkeyPatch) -> None:
    report = Reporter.session_closed

    def twice(self: Reporter, record: SessionRecord) -> None:
        report(self, record)
        report(self, record)

    patch.setattr(Reporter, "session_closed", twice)


def _never_reported(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Reporter, "session_closed", lambda self, record: None)


def _no_back_pressure(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TunnelLeg, "pause_writing", lambda self: None)


def _close_inside_a_frame(patch: pytest.MonkeyPatch) -> None:
    close = Tunnel.close

    def hasty(self: Tunnel, *arguments: object) -> None:
        close(self, *arguments)  # type: ignore[arg-type]
        if not self.session.is_closing:
            self._send_close()

    patch.setattr(Tunnel, "close", hasty)


def _no_escaping(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(targets, "sanitize", lambda chosen: chosen[: text_module.MAX_TEXT])


SABOTAGE: list[tuple[str, Callable[[pytest.MonkeyPatch], None]]] = [
    ("scanner", _ignores_last_bytes),
    ("scanner", _hoarder),
    ("http", _inventive_switch),
    ("http", _silent_abort),
    ("session", _label_of_a_client),
    ("relay", _altered_byte),
    ("relay", _reported_twice),
    ("relay", _never_reported),
    ("relay", _no_back_pressure),
    ("relay", _close_inside_a_frame),
    ("text", _no_escaping),
]


@pytest.mark.parametrize(("target", "break_it"), SABOTAGE, ids=[f"{name}{how.__name__}" for name, how in SABOTAGE])
def test_each_target_finds_the_defect_it_is_for(
    target: str, break_it: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a defect built in, the committed corpus alone breaks the promise: each target can fail."""
    break_it(monkeypatch)
    broken = 0
    for path in sorted((CORPUS / target).iterdir()):
        try:
            TARGETS[target](path.read_bytes())
        except AssertionError:
            broken += 1
    assert broken


def test_the_corpus_is_small_and_holds() -> None:
    """Every committed input is played, on every run, by every target; together they stay small."""
    sizes = [path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(sizes) < 512 * 1024
    for target, play in TARGETS.items():
        inputs = sorted((CORPUS / target).iterdir())
        assert inputs
        for path in inputs:
            play(path.read_bytes())
