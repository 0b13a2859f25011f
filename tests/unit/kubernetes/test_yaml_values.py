"""Scalars of YAML as Kubernetes reads them, and the bounds of a document."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.kubernetes.yaml_values import MAX_DEPTH, load_json, load_yaml, plain_copy

READ: list[tuple[str, Any]] = [
    ("010", 8),
    ("-010", -8),
    ("0o10", 8),
    ("0x1F", 31),
    ("0b11", 3),
    ("1_000", 1000),
    ("0", 0),
    ("8080", 8080),
    ("089", 89.0),
    ("1.5", 1.5),
    (".5", 0.5),
    ("1e3", 1000.0),
    ("yes", True),
    ("On", True),
    ("n", False),
    ("OFF", False),
    ("true", True),
    ("~", None),
    ("Null", None),
    ("'010'", "010"),
    ('"yes"', "yes"),
    ("22:22", "22:22"),
    ("2001-01-01", "2001-01-01"),
    ("0o", "0o"),
    ("yEs", "yEs"),
    ("1.2.3", "1.2.3"),
]


@pytest.mark.parametrize(("text", "value"), READ, ids=[text for text, _ in READ])
def test_scalar_is_typed_as_kubernetes_types_it(text: str, value: Any) -> None:
    """YAML 1.1 as in go-yaml: octal by a leading 0, yes and no; no base 60, no dates."""
    found = load_yaml(f"a: {text}\n")["a"]
    assert (type(found), found) == (type(value), value)


def test_directive_does_not_change_how_scalars_are_typed() -> None:
    """%YAML 1.2 makes no difference to Kubernetes."""
    assert load_yaml("%YAML 1.2\n---\na: 010\n") == {"a": 8}


def test_keys_are_strings() -> None:
    """Keys of other types become the strings that Kubernetes makes of them."""
    assert load_yaml("80: a\nyes: b\n1.5: c\n") == {"80": "a", "true": "b", "1.5": "c"}


def test_merge_keys_and_aliases_are_written_out() -> None:
    """What two places share in the text is two values."""
    value = load_yaml("a: &a {x: {k: 1}}\nb: {<<: *a, z: 2}\nc: *a\n")
    assert value == {"a": {"x": {"k": 1}}, "b": {"x": {"k": 1}, "z": 2}, "c": {"x": {"k": 1}}}
    assert value["a"]["x"] is not value["c"]["x"]


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("load", [load_yaml, load_json])
def test_nesting_up_to_the_limit_is_read(load: Any) -> None:
    """MAX_DEPTH levels are read."""
    assert load(nested(MAX_DEPTH)) is not None


@pytest.mark.parametrize("load", [load_yaml, load_json])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 300, pytest.param(3_000, marks=pytest.mark.slow)])
def test_nesting_beyond_the_limit_is_an_error(load: Any, depth: int) -> None:
    """Deeper values are refused with a sentence, at any depth, never with RecursionError."""
    with pytest.raises(ValueError, match="nested deeper than 100 levels"):
        load(nested(depth))


def test_value_that_contains_itself_is_an_error() -> None:
    """A cycle counts as nesting without end."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ValueError, match="contains itself"):
        plain_copy(value)


def test_aliases_of_aliases_are_bounded() -> None:
    """A small text that expands to a billion values is refused."""
    lines = ["a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ValueError, match="expands to more than 1000000 values"):
        load_yaml("\n".join(lines) + "\n")
