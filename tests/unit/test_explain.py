"""explain: what close codes mean, for a person and for a program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporter.explain import as_json, as_text, describe
from exporter.protocol.close_codes import REGISTRY, unregistered
from tests.golden import assert_golden

GOLDEN = Path(__file__).parent / "golden"


def test_1001_and_1011_side_by_side_are_golden() -> None:
    """The pair that this is all about: weather beside a bug."""
    assert_golden(GOLDEN / "explain_1001_1011.txt", as_text([1001, 1011]) + "\n")


def test_one_code_is_golden() -> None:
    """One code below its name."""
    assert_golden(GOLDEN / "explain_1006.txt", as_text([1006]) + "\n")


@pytest.mark.parametrize("code", REGISTRY)
def test_every_registered_code_is_explained(code: int) -> None:
    """Name, meaning, when it is seen, what to do and how to come back, in lines that fit a terminal."""
    text = as_text([code])
    info = REGISTRY[code]
    flowing = " ".join(text.split())
    for unlink in (f"{code} {info.name}", info.meaning, info.seen, info.remedy, info.reconnect_how, info.cause):
        assert " ".join(unlink.split()) in flowing
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("left", REGISTRY)
def test_any_two_registered_codes_stand_side_by_side(left: int) -> None:
    """Every pair makes one table that fits, and what is the same for both is said once."""
    for right in REGISTRY:
        text = as_text([left, right])
        assert max(map(len, text.splitlines())) <= 100
        if left != right:
            assert str(left) in text.splitlines()[0]
            assert str(right) in text.splitlines()[0]
            same = "cause label" in (text.splitlines()[-1] if "The same for both" in text else "")
            assert same == (REGISTRY[left].cause == REGISTRY[right].cause)


@pytest.mark.parametrize("code", [-1, 0, 999, 1016, 2999, 3001, 3999, 4000, 4999, 5000, 70000])
def test_an_unregistered_code_gets_one_clear_line(code: int) -> None:
    """Whatever number is asked about, one line says whose it is."""
    assert as_text([code]) == f"{code} {unregistered(code)}."


def test_several_codes_stand_below_each_other_in_order() -> None:
    """Three codes, or two of which one is not registered, are listed as they were asked for."""
    blocks = as_text([1011, 4321, 1000]).split("\n\n")
    assert [block.split()[0] for block in blocks] == ["1011", "4321", "1000"]
    assert [block.split()[0] for block in as_text([4321, 1001]).split("\n\n")] == ["4321", "1001"]
    assert as_text([1001, 1001]).count("1001 Going Away") == 2


def test_json_says_the_same_to_a_program() -> None:
    """A list in the order asked for, with every field; unregistered codes have a note instead."""
    found = json.loads(as_json([1011, 4321, 1006, 1016]))
    assert [entry["code"] for entry in found] == [1011, 4321, 1006, 1016]
    assert [entry["registered"] for entry in found] == [True, False, True, False]
    assert [entry["may_be_sent"] for entry in found] == [True, True, False, False]
    info = REGISTRY[1011]
    assert found[0] == {
        "code": 1011,
        "registered": True,
        "may_be_sent": True,
        "name": "Internal Error",
        "meaning": info.meaning,
        "seen": info.seen,
        "remedy": info.remedy,
        "reconnect": "backoff",
        "reconnect_how": info.reconnect_how,
        "cause": "internal-error",
        "severity": "fault",
    }
    assert found[1]["note"] == unregistered(4321)


@pytest.mark.parametrize("code", [*REGISTRY, 4321, -5])
def test_every_description_is_plain_data(code: int) -> None:
    """Nothing in it needs more than JSON."""
    assert json.loads(json.dumps(describe(code)))["code"] == code
