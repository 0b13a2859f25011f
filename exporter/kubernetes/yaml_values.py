"""YAML and JSON text to plain values and back, read as Kubernetes reads it (YAML 1.1 as in go-yaml).

Plain values are dict with string keys, list, str, int, float, bool and None, with nothing shared between two places.
"""

from __future__ import annotations

import io
import json
import re
from itertools import chain
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.scalarstring import SingleQuotedScalarString

MAX_DEPTH = 100
"""Levels of mappings and lists in one document. The deepest objects in use (CRD schemas) have about 40."""
TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels, or contains itself by an alias"
MAX_VALUES = 1_000_000
"""Values that one document may expand to; aliases of aliases grow without bound otherwise."""

_PLAIN = re.compile(
    r"[A-Za-z_/][A-Za-z0-9_./=:*-]*[A-Za-z0-9_/*]|[A-Za-z_]"
    r"|--[A-Za-z0-9_./=:*-]*[A-Za-z0-9_/*]|[0-9]+(m|Ki|Mi|Gi)"
)
_BOOLEANS = SafeConstructor.bool_values.keys()
_WORDS = "|".join(form for word in sorted(_BOOLEANS) for form in (word, word.capitalize(), word.upper()))

_TAG = "tag:yaml.org,2002:"
_SCALARS = (
    ("bool", "yYnNtTfFoO", f"(?:{_WORDS})"),
    ("int", "-+0123456789", "[-+]?(?:0[bB]_*[01][01_]*|0[oO]_*[0-7][0-7_]*|0[xX]_*[0-9a-fA-F][0-9a-fA-F_]*)"),
    ("int", "-+0123456789", "[-+]?(?:0[0-7_]*|[1-9][0-9_]*)"),
    ("float", "-+.0123456789", r"[-+]?(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?"),
    ("float", "-+.", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"),
    ("null", ["", *"~nN"], "|~|null|Null|NULL"),
    ("merge", "<", "<<"),
)
"""Unquoted scalars that are not strings: tag, first characters, pattern; the first that matches counts."""


class _Resolver(VersionedResolver):
    """Give an unquoted scalar the type that Kubernetes gives it, whatever %YAML says."""

    @property
    def versioned_resolver(self) -> Any:
        return self.yaml_implicit_resolvers


for _name, _first, _pattern in _SCALARS:
    _Resolver.add_implicit_resolver_base(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _first)


class _Constructor(SafeConstructor):
    """Build Python values; 010 is 8."""

    def construct_integer(self, node: ScalarNode) -> int:
        text = self.construct_scalar(node).replace("_", "").lower()
        digits = text.lstrip("+-")
        if digits.isdecimal() and digits.startswith("0"):
            digits = "0o" + digits
        return -int(digits, 0) if text.startswith("-") else int(digits, 0)


_Constructor.add_constructor(_TAG + "int", _Constructor.construct_integer)


def yaml_reader() -> YAML:
    """Return a parser that types scalars as Kubernetes does."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Resolver = _Resolver
    yaml.Constructor = _Constructor
    return yaml


def load_yaml(text: str) -> Any:
    """Read one YAML document. Raises ruamel's YAMLError, or ValueError as `plain_copy`."""
    try:
        value = yaml_reader().load(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    return plain_copy(value)


def load_json(text: str | bytes) -> Any:
    """Read one JSON value. Raises ValueError if it is no JSON or nested deeper than MAX_DEPTH levels."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    level: list[Any] = [[value]]
    for _ in range(MAX_DEPTH + 1):
        inside = chain.from_iterable(one.values() if isinstance(one, dict) else one for one in level)
        level = [one for one in inside if isinstance(one, dict | list)]
    if level:
        raise ValueError(TOO_DEEP)
    return value


def plain_copy(value: Any) -> Any:
    """Copy a value, aliases written out, keys as the strings that Kubernetes makes of them.

    Raises ValueError for more than MAX_DEPTH levels (as in a value that contains itself) or MAX_VALUES values.
    """
    return _copy(value, MAX_DEPTH, [MAX_VALUES])


def _copy(value: Any, levels: int, budget: list[int]) -> Any:
    budget[0] -= 1
    if budget[0] < 0:
        raise ValueError(f"expands to more than {MAX_VALUES} values")
    if not isinstance(value, dict | list):
        return value
    if not levels:
        raise ValueError(TOO_DEEP)
    if isinstance(value, dict):
        keys = (json.dumps(key) if isinstance(key, bool | int | float) else key for key in value)
        return {key: _copy(inner, levels - 1, budget) for key, inner in zip(keys, value.values(), strict=True)}
    return [_copy(inner, levels - 1, budget) for inner in value]


def block_yaml(value: Any, offset: int) -> str:
    """Write `value` as block-style YAML. offset: columns from a key to the list items below it."""
    yaml = YAML(pure=True)
    yaml.width = 1 << 20
    yaml.indent(mapping=2, sequence=2 + offset, offset=offset)
    out = io.StringIO()
    yaml.dump(_quoted(value), out)
    return out.getvalue()


def same(left: Any, right: Any) -> bool:
    """Compare values and their types: True is not 1, and 1 is not 1.0."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return type(left) is type(right) and bool(left == right)


def _quoted(value: Any) -> Any:
    """Mark strings to be quoted that a YAML reader might type as something else."""
    match value:
        case dict():
            return {_quoted(key): _quoted(inner) for key, inner in value.items()}
        case list():
            return [_quoted(inner) for inner in value]
        case str() if "\n" not in value and not is_plain(value):
            return SingleQuotedScalarString(value)
        case _:
            return value


def is_plain(text: str) -> bool:
    """Return whether every YAML reader reads the unquoted text as this string."""
    return bool(_PLAIN.fullmatch(text)) and text.lower() not in {*_BOOLEANS, "null"} and ": " not in text
