"""inject on whole manifests, against files. UPDATE_GOLDEN=1 writes them anew: read the difference then."""

from __future__ import annotations

import os
from typing import Any

import pytest
from click.testing import CliRunner, Result

from exporter.kubernetes.command import inject
from exporter.kubernetes.manifest_stream import ManifestFile
from tests.unit.kubernetes.cases import CASES, GOLDEN, Case
from tests.unit.kubernetes.manifests import IMAGE

every_case = pytest.mark.parametrize("case", CASES, ids=str)


def run(flags: list[str], text: bytes) -> Result:
    return CliRunner().invoke(inject, [f"--image={IMAGE}", *flags], input=text)


def warnings_of(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if ": warning: " in line]


def objects(text: str) -> list[Any]:
    return [one.object for one in ManifestFile.read("text", text).objects(lambda _text: None)]


@every_case
def test_the_manifest_comes_out_as_written_down(case: Case) -> None:
    """The output is the golden file byte for byte, and exactly the warnings that are due are said."""
    result = run(case.flags, case.before.read_bytes())
    assert result.exit_code == 0, result.stderr
    if os.environ.get("UPDATE_GOLDEN"):
        case.after.write_bytes(result.stdout_bytes)
    assert result.stdout_bytes == case.after.read_bytes()
    said = warnings_of(result)
    assert len(said) == len(case.warnings), said
    for line, piece in zip(said, case.warnings, strict=True):
        assert piece in line
        assert line.startswith("websocket-exporter inject: warning: stdin: document ")


@every_case
def test_a_second_run_gives_the_same_bytes(case: Case) -> None:
    """inject over its own output changes nothing."""
    after = case.after.read_bytes()
    assert run(case.flags, after).stdout_bytes == after


@every_case
def test_remove_gives_back_the_original_bytes(case: Case) -> None:
    """--remove over the output is the manifest as it was before inject, comments and layout included."""
    result = run(["--remove", *case.kinds], case.after.read_bytes())
    assert result.exit_code == 0, result.stderr
    assert result.stdout_bytes == case.before.read_bytes()
    assert [line for line in warnings_of(result) if "(passed through)" not in line] == []


@every_case
def test_other_flags_on_a_second_run_are_as_on_a_first(case: Case) -> None:
    """inject with other flags over an injected manifest gives the objects which these flags give on the
    original.
    """
    flags = [*case.kinds, "--drain-timeout", "50s", "--image", "registry.example/w:2", "--admin-port", "10099"]
    first = run(flags, case.before.read_bytes())
    again = run(flags, case.after.read_bytes())
    assert objects(again.stdout) == objects(first.stdout)


def test_every_golden_file_belongs_to_a_case() -> None:
    """No file in golden/ is left over."""
    known = {path for case in CASES for path in (case.before, case.after)}
    assert set(GOLDEN.iterdir()) == known
