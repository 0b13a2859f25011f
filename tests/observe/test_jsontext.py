"""The text of log lines against the standard library's."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.observe.jsontext import dumps
from exporter.protocol.frames import Opcode
from exporter.protocol.words import Cause, ConnectError, How, Peer, Unobserved

PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from(Cause), st.sampled_from(Peer),
    st.sampled_from(How), st.sampled_from(Opcode), st.sampled_from(Unobserved), st.sampled_from(ConnectError),
    st.builds(Decimal, st.integers()),
)  # fmt: skip
FIELDS = st.recursive(
    st.dictionaries(st.text(), PLAIN),
    lambda inner: st.dictionaries(st.text(), st.one_of(PLAIN, inner, st.lists(inner), st.tuples(inner))),
    max_leaves=8,
)


@given(FIELDS)
def test_the_text_is_that_of_the_standard_library(fields: dict[str, Any]) -> None:
    """For any names and values, those that JSON does not know included."""
    assert dumps(fields) == json.dumps(fields, default=repr)


@pytest.mark.parametrize("name", ["%", "%s", "%(a)s", 'a"b', "é", ""])
def test_a_name_is_not_taken_for_a_place(name: str) -> None:
    """Whatever is special to the way lines are filled in."""
    assert dumps({name: name, "a": 1}) == json.dumps({name: name, "a": 1})


def test_what_json_does_not_know_is_written_by_the_default() -> None:
    """At any depth, by the function that was given."""
    fields = {"a": Path("/x"), "b": {"c": Path("/y")}, "d": [Path("/z")]}
    assert dumps(fields, default=str) == json.dumps(fields, default=str)
