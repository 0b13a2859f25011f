"""Plain values to YAML text and back, as this package wants them; ruamel.yaml does the work."""

from __future__ import annotations

import io
import json
import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import SingleQuotedScalarString

_PLAIN = re.compile(
    r"[A-Za-z_/][A-Za-z0-9_./=:*-]*[A-Za-z0-9_/*]|[A-Za-z_]"
    r"|--[A-Za-z0-9_./=:*-]*[A-Za-z0-9_/*]|[0-9]+(m|Ki|Mi|Gi)"
)
_NOT_STRINGS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
"""Words that YAML 1.1, which Kubernetes reads, or YAML 1.2 take for something else than a string."""


def load_yaml(text: str) -> Any:
    """One YAML document as plain values. Raises ruamel's YAMLError."""
    return YAML(typ="safe", pure=True).load(text)


def dumped(value: Any, *, is_json: bool) -> str:
    """A whole document in one style, for when no edit would do."""
    return json.dumps(value, indent=4, ensure_ascii=False) + "\n" if is_json else block_yaml(value, 0)


def block_yaml(value: Any, offset: int) -> str:
    """`value` as block-style YAML. offset: how far list items are indented below their key."""
    yaml = YAML(pure=True)
    yaml.width = 1 << 20
    yaml.indent(mapping=2, sequence=2 + offset, offset=offset)
    out = io.StringIO()
    yaml.dump(_quoted(value), out)
    return out.getvalue()


def same(left: Any, right: Any) -> bool:
    """Equality that tells True from 1 and 1 from 1.0."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return type(left) is type(right) and bool(left == right)


def _quoted(value: Any) -> Any:
    """Strings that some YAML reader might take for something else, marked to be quoted."""
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
    """Whether every YAML reader takes the unquoted text for just this string."""
    return bool(_PLAIN.fullmatch(text)) and text.lower() not in _NOT_STRINGS and ": " not in text
