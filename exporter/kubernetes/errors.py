"""Errors in manifests, in one line that names the document and the field; checked access to fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

Warn = Callable[[str], None]
"""Receives one warning, a sentence without a line break."""


@dataclass(eq=False)
class ManifestError(ValueError):
    """A manifest that cannot be changed as requested; `str()` is one line.

    field: the path inside the document, such as `spec.template.spec.containers`; may be empty.
    where: the document, such as `chat.yaml: document 2, Deployment shop/chat`.
    A caller that has them adds the document and the beginning of the path, see `located`.
    """

    field: str
    message: str
    where: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.field, self.message) if part)


class NotInjectable(ManifestError):
    """An object that takes no sidecar and may pass through unchanged, such as one without a TCP port."""


@contextmanager
def located(where: str = "", path: str = "", refuse: Warn | None = None) -> Iterator[None]:
    """Complete the place of a ManifestError: the document, unless it has one, and the enclosing path.

    refuse: gets NotInjectable, if given, instead of the caller.
    """
    try:
        yield
    except ManifestError as error:
        error.where = error.where or where
        error.field = join(path, error.field)
        if refuse is None or not isinstance(error, NotInjectable):
            raise
        refuse(f"{error} (passed through)")


_KINDS = {
    type(None): "nothing",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    dict: "a mapping",
    list: "a list",
}


def kind_of(value: object) -> str:
    """Return the words for a value's type, such as "a mapping"."""
    return _KINDS.get(type(value), type(value).__name__)


def mapping_of(value: object, path: str) -> dict[str, Any]:
    """Return a value that must be a mapping. Raises ManifestError for another type."""
    if not isinstance(value, dict):
        raise ManifestError(path, f"must be a mapping, is {kind_of(value)}")
    return value


def mapping_at(parent: Mapping[str, Any], key: str, path: str = "") -> dict[str, Any]:
    """Return the mapping under `key`, a new empty one if absent or null. Raises ManifestError for another type."""
    value = parent.get(key)
    return {} if value is None else mapping_of(value, join(path, key))


def list_at(parent: Mapping[str, Any], key: str, path: str) -> list[dict[str, Any]]:
    """Return the list of mappings under `key`, a new empty one if absent or null. Raises ManifestError."""
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise ManifestError(join(path, key), f"must be a list, is {kind_of(value)}")
    for index, item in enumerate(value):
        mapping_of(item, f"{join(path, key)}[{index}]")
    return value


def strings_at(parent: Mapping[str, Any], key: str, path: str) -> dict[str, str]:
    """Return the string-to-string mapping under `key` (labels, annotations, selectors). Raises ManifestError."""
    found = mapping_at(parent, key, path)
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, str):
            kind = f"{kind_of(value)} ({value})" if isinstance(value, bool | int | float) else kind_of(value)
            raise ManifestError(f"{join(path, key)}.{name}", f"must be a string, is {kind}")
    return found


def metadata_of(obj: Mapping[str, Any], key: str, path: str = "") -> dict[str, str]:
    """Return the labels or annotations of an object or pod template. Raises ManifestError."""
    return strings_at(mapping_at(obj, "metadata", path), key, join(path, "metadata"))


def join(path: str, key: str) -> str:
    """Return `spec.ports` for `spec` and `ports`; an empty one of them gives the other."""
    return ".".join(filter(None, (path, key)))


def named(obj: dict[str, Any]) -> str:
    """Return an object's name for messages: `Deployment shop/chat`."""
    metadata = obj.get("metadata") or {}
    name = metadata.get("name") or metadata.get("generateName") or "without a name"
    namespace = metadata.get("namespace")
    return f"{obj.get('kind')} {namespace}/{name}" if namespace else f"{obj.get('kind')} {name}"
