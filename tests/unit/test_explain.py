"""explain: close codes, labels and causes, for a person and for a program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from exporter.cli import cli
from exporter.explain import WIDTH, as_json, as_text, preset_subject, subject
from exporter.protocol.causes import CAUSES
from exporter.protocol.close_codes import LABELS, REGISTRY, unregistered
from exporter.protocol.enums import Cause
from exporter.protocol.presets import PRESETS
from tests.golden import assert_golden

GOLDEN = Path(__file__).parent / "golden"


def text_of(*names: str) -> str:
    return as_text([subject(name) for name in names])


def flowing(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("names", [("1001", "1011"), ("1006",), ("app-down", "internal-error"), ("4xxx",)])
def test_explain_text_is_golden(names: tuple[str, ...]) -> None:
    """Two side by side, one below its name."""
    assert_golden(GOLDEN / f"explain_{'_'.join(names)}.txt", text_of(*names) + "\n")


def test_explain_preset_is_golden() -> None:
    """A preset's codes, each with its cause."""
    assert_golden(GOLDEN / "explain_preset_graphql-ws.txt", as_text([preset_subject("graphql-ws")]) + "\n")


@pytest.mark.parametrize("code", REGISTRY)
def test_explain_registered_code_has_every_sentence(code: int) -> None:
    """Name, meaning, when it is seen, remedy and how to reconnect, in lines that fit a terminal."""
    text, info = text_of(str(code)), REGISTRY[code]
    for unlink in (f"{code} {info.name}", info.meaning, info.seen, info.remedy, info.reconnect_how, info.cause):
        assert flowing(unlink) in flowing(text)
    assert max(map(len, text.splitlines())) <= WIDTH


@pytest.mark.parametrize("cause", Cause)
def test_explain_cause_has_meaning_and_remedy(cause: Cause) -> None:
    """Every cause that the metrics show is explained."""
    text = text_of(cause.value)
    assert text.splitlines()[0] == cause.value
    assert flowing(CAUSES[cause].meaning) in flowing(text)
    assert flowing(CAUSES[cause].remedy) in flowing(text)
    assert max(map(len, text.splitlines())) <= WIDTH


@pytest.mark.parametrize("label", LABELS)
def test_explain_label_has_its_sentence(label: str) -> None:
    """Every label value that is no number is explained."""
    assert flowing(LABELS[label][1]) in flowing(text_of(label))


@pytest.mark.parametrize("name", PRESETS)
def test_explain_preset_lists_all_codes(name: str) -> None:
    """Each code of a preset with its cause, and the source; only an address may be longer than a line."""
    lines = as_text([preset_subject(name)]).splitlines()
    for code, cause in PRESETS[name].codes.items():
        assert any(line.split() == [str(code), cause] for line in lines)
    assert all(len(line) <= WIDTH or "https://" in line for line in lines)


@pytest.mark.parametrize("left", [*map(str, REGISTRY), *Cause])
def test_explain_pairs_stand_side_by_side(left: str) -> None:
    """Every pair of codes or causes fits, and rows that are the same for both are named once."""
    for right in [*map(str, REGISTRY), *Cause]:
        text = text_of(left, right)
        assert max(map(len, text.splitlines())) <= WIDTH
        if left.isdigit() and right.isdigit() and left != right:
            assert left in text.splitlines()[0]
            assert right in text.splitlines()[0]
            same = "cause label" in (text.partition("The same for both")[2])
            assert same == (REGISTRY[int(left)].cause == REGISTRY[int(right)].cause)


@pytest.mark.parametrize("code", [0, 999, 1016, 2999, 3001, 3999, 4000, 4999, 5000, 70000])
def test_explain_unregistered_code_gets_one_sentence(code: int) -> None:
    """Any number is explained by its range."""
    assert flowing(text_of(str(code))) == f"{code} {unregistered(code)}."


def test_explain_several_stand_below_each_other_in_order() -> None:
    """Three subjects, or two of different kinds, are listed as given."""
    assert [block.split()[0] for block in text_of("1011", "4321", "1000").split("\n\n")] == ["1011", "4321", "1000"]
    assert [block.split()[0] for block in text_of("app-down", "1001").split("\n\n")] == ["app-down", "1001"]
    assert text_of("1001", "1001").count("1001 Going Away") == 2


def test_explain_json_has_every_field() -> None:
    """A list in the order given, ready for a program."""
    found = json.loads(as_json([subject(name) for name in ("1011", "4321", "1006", "1016", "4xxx", "app-down")]))
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
    assert [entry.get("may_be_sent") for entry in found] == [True, True, False, False, None, None]
    assert found[4]["label"] == "4xxx"
    assert (found[5]["cause"], found[5]["initiators"], found[5]["server_fault"]) == ("app-down", ["server"], True)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["1011"], 0), (["1006"], 0), (["4409"], 0), (["4xxx", "app-down"], 0), (["--preset", "stomp"], 0),
        (["4500", "--preset", "graphql-ws"], 0), (["1011", "999"], 1), (["5000"], 1), (["1016"], 1), (["nonsense"], 2),
        ([], 2), (["1011", "--preset", "none"], 2),
    ],
)  # fmt: skip
def test_explain_exit_status(arguments: list[str], status: int) -> None:
    """0, 1 for a code that cannot be, 2 for a word that names nothing."""
    assert CliRunner().invoke(cli, ["explain", *arguments]).exit_code == status


def test_explain_code_of_a_preset_names_its_cause() -> None:
    """A private code means whatever the given presets say."""
    result = CliRunner().invoke(cli, ["explain", "4500", "--preset", "graphql-ws", "--preset", "stomp"])
    assert "graphql-ws   internal-error:" in result.output
    assert "stomp        timeout:" in result.output
    data = json.loads(CliRunner().invoke(cli, ["explain", "4500", "--preset", "graphql-ws", "--json"]).output)
    assert data[0]["presets"] == {"graphql-ws": "internal-error"}
