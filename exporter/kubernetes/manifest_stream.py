"""A stream of manifests: cut into documents, and put together again with what did not change left as it was.

A document is its own text plus whatever stood before it (separators, comments, blank lines). YAML streams are
cut at lines that begin with `---` (YAML 1.2, 9.1.2: no content line may), JSON streams where one value ends.
What holds several objects (kind List, or any kind that ends so and has `items`) stays one document.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml.error import MarkedYAMLError, YAMLError

from exporter.kubernetes.errors import ManifestError, kind_of
from exporter.kubernetes.workloads import named
from exporter.kubernetes.yaml_edit import edited
from exporter.kubernetes.yaml_values import dumped, load_yaml

_SEPARATOR = re.compile(r"^---(?:[ \t][^\r\n]*)?(?:\r?\n|\Z)|^---(?=[ \t])", re.MULTILINE)
_BARE_SEPARATOR = re.compile(r"---[ \t]*(#.*)?\r?\n?")
_MAX_VALUES = 1_000_000
"""A document may expand to this many values; aliases of aliases grow without bound otherwise."""
_DIRECTIVES = re.compile(r"(?:%[^\n]*\n|[ \t]*#[^\n]*\n|[ \t]*\r?\n)*\Z")


@dataclass(slots=True)
class Document:
    """One document of a stream.

    before: text in front of it, kept as it is. text: the document. value: what it holds, changed in place by
    callers. source: the file's name. number: its place in the file, from 1; documents without content are not
    counted.
    """

    before: str
    text: str
    value: Any
    is_json: bool
    source: str
    number: int
    loaded: Any = field(init=False)

    def __post_init__(self) -> None:
        self.loaded = copy.deepcopy(self.value)

    def objects(self) -> Iterator[tuple[str, list[Any] | None, dict[str, Any]]]:
        """Every Kubernetes object in it: where it is (for messages), the list it is an item of, the object.

        Raises ManifestError if the document holds something that is no object.
        """
        here = f"{self.source}: document {self.number}"
        yield from _objects(self.value, here, None)

    def render(self) -> tuple[str, bool]:
        """The document's text for its present value; and whether it had to be written anew, without its
        comments.
        """
        text = edited(self.text, self.loaded, self.value, is_json=self.is_json)
        if text is not None:
            return text, False
        return dumped(self.value, is_json=self.is_json), True


def _objects(
    value: Any, where: str, siblings: list[Any] | None
) -> Iterator[tuple[str, list[Any] | None, dict[str, Any]]]:
    if value is None:
        return
    if not isinstance(value, dict):
        raise ManifestError("", f"must be a Kubernetes object, is {kind_of(value)}", where)
    kind = value.get("kind")
    if not isinstance(kind, str) or not kind:
        raise ManifestError("kind", f"must be a string, is {kind_of(kind)}", where)
    if kind.endswith("List") and isinstance(value.get("items"), list):
        for index, item in enumerate(value["items"]):
            yield from _objects(item, f"{where}, items[{index}]", value["items"])
        return
    metadata = value.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise ManifestError("metadata", f"must be a mapping, is {kind_of(metadata)}", f"{where}, {kind}")
    yield f"{where}, {named(value)}", siblings, value


def read_stream(text: str, source: str) -> list[Document]:
    """The documents of a stream, empty ones (comments only) included. Raises ManifestError naming document
    and line.
    """
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        documents = _read_json(text, source)
        if documents is not None:
            return documents
    return list(_read_yaml(text, source))


def _read_json(text: str, source: str) -> list[Document] | None:
    """JSON values one after the other; None if it is not that (YAML in flow style begins alike)."""
    documents: list[Document] = []
    decoder, position = json.JSONDecoder(), 0
    while True:
        start = len(text) - len(text[position:].lstrip("\ufeff \t\r\n"))
        if start == len(text):
            break
        try:
            value, end = decoder.raw_decode(text, start)
        except ValueError:
            return None
        documents.append(Document(text[position:start], text[start:end], value, True, source, len(documents) + 1))
        position = end
    documents.append(Document(text[position:], "", None, True, source, len(documents) + 1))
    return documents


def _read_yaml(text: str, source: str) -> Iterator[Document]:
    number = 0
    for before, body, line in _cut(text):
        number += bool(body.strip())
        where = f"{source}: document {max(number, 1)}"
        try:
            value = _unshared(load_yaml(body), [_MAX_VALUES]) if body.strip() else None
        except RecursionError:
            raise ManifestError("", "holds itself by an alias, or is nested too deeply", where) from None
        except MarkedYAMLError as error:
            raise ManifestError("", _yaml_problem(error, line), where) from None
        except (YAMLError, ValueError) as error:
            raise ManifestError("", f"cannot be read: {str(error).splitlines()[0]}", where) from None
        if value is None:
            number -= bool(body.strip())  # comments only
        yield Document(before, body, value, _is_json(body), source, number)


def _unshared(value: Any, budget: list[int]) -> Any:
    """The value with what aliases share written out, so that a change here is no change there."""
    budget[0] -= 1
    if budget[0] < 0:
        raise ValueError(f"expands to more than {_MAX_VALUES} values")
    if isinstance(value, dict):
        return {key: _unshared(inner, budget) for key, inner in value.items()}
    if isinstance(value, list):
        return [_unshared(inner, budget) for inner in value]
    return value


def _cut(text: str) -> Iterator[tuple[str, str, int]]:
    """Separator, body, and the number of lines before the body."""
    position, before = 0, ""
    if text.startswith("\ufeff"):
        position, before = 1, "\ufeff"
    start = position
    for found in _SEPARATOR.finditer(text, position):
        body = text[start : found.start()]
        if before.strip("\ufeff") or body:
            if _DIRECTIVES.match(body) and "%" in body:
                before, start = before + body, found.start()
                body = ""
            else:
                yield before, body, text.count("\n", 0, start)
                before = ""
        bare = _BARE_SEPARATOR.fullmatch(found[0])
        before += found[0] if bare else "---"
        start = found.end() if bare else found.start() + 3
    yield before, text[start:], text.count("\n", 0, start)


def _yaml_problem(error: MarkedYAMLError, line: int) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"line {line + mark.line + 1}, column {mark.column + 1}: " if mark else ""
    said = " ".join((error.problem or error.context or "cannot be read").split())
    return f"{place}{said}"


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
