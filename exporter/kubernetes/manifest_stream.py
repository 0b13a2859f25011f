"""A file of manifests: cut into documents, written back with every unchanged byte in place.

A document is its own text and the text before it (separators, comments, blank lines). YAML is cut at lines that begin
with `---` (YAML 1.2, 9.1.2: no content line may), JSON where one value ends. A List of objects is one document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml.error import MarkedYAMLError, YAMLError

from exporter.kubernetes.errors import ManifestError, NotInjectable, Warn, join, kind_of, located, named
from exporter.kubernetes.yaml_edit import edited
from exporter.kubernetes.yaml_values import TOO_DEEP, block_yaml, load_yaml, plain_copy

_SEPARATOR = re.compile(r"^(---(?:[ \t]+#.*|[ \t]*)(?:\r?\n|\Z)|---(?=[ \t]))", re.MULTILINE)
_DIRECTIVES = re.compile(r"(?:%[^\n]*\n|[ \t]*#[^\n]*\n|[ \t]*\r?\n)*\Z")
_BLANK = re.compile(r"[\ufeff \t\r\n]*")


@dataclass(slots=True)
class Document:
    """One document of a file.

    before: the text in front of it. text: its own text. value: its content, changed in place by callers.
    number: its place in the file, from 1; documents without content are not counted.
    """

    before: str
    text: str
    value: Any
    number: int
    is_json: bool = field(init=False)
    loaded: Any = field(init=False)

    def __post_init__(self) -> None:
        self.is_json = _is_json(self.text)
        self.loaded = plain_copy(self.value)


@dataclass(frozen=True, slots=True)
class Located:
    """A Kubernetes object in a file. where: for messages. siblings: the list that it is an item of, or None."""

    file: ManifestFile
    document: Document
    where: str
    siblings: list[Any] | None
    object: dict[str, Any]

    @property
    def metadata(self) -> dict[str, Any]:
        return self.object.get("metadata") or {}

    @property
    def resource(self) -> str:
        """Its kind and API group: `Deployment.apps`, or `Pod` without a group for the core."""
        version = self.object.get("apiVersion")
        return join(self.object["kind"], version.rpartition("/")[0] if isinstance(version, str) else "")

    def remove(self) -> None:
        """Remove the object from its list, or its document from the file."""
        if self.siblings is None:
            self.file.documents[:] = [one for one in self.file.documents if one is not self.document]
        else:
            self.siblings[:] = [one for one in self.siblings if one is not self.object]

    def add(self, obj: dict[str, Any]) -> None:
        """Add an object at the end of its list, or of its file."""
        if self.siblings is None:
            self.file.append(obj, is_json=self.document.is_json)
        else:
            self.siblings.append(obj)


@dataclass(slots=True)
class ManifestFile:
    """One input with its documents, empty ones (comments only) included."""

    name: str
    documents: list[Document]

    @classmethod
    def read(cls, name: str, text: str) -> ManifestFile:
        """Cut an input into documents. Raises ManifestError that names document and line."""
        return cls(name, _read_json(text, name) or list(_read_yaml(text, name)))

    def objects(self, refuse: Warn | None = None) -> Iterator[Located]:
        """Yield every Kubernetes object. Content that is no object raises NotInjectable, or goes to `refuse`."""
        for document in self.documents:
            where = f"{self.name}: document {document.number}"
            for at, siblings, value in _items(document.value, where, None):
                with located(at, refuse=refuse):
                    yield Located(self, document, f"{at}, {_check_object(value, at)}", siblings, value)

    def append(self, value: dict[str, Any], *, is_json: bool) -> None:
        """Add a document at the end."""
        number, last = len(self.documents) + 1, self.documents[-1]
        if is_json:
            position = len(self.documents) - (not last.text)  # ahead of the blank end of a stream
            self.documents.insert(position, Document("\n", _dumped(value, is_json=True).rstrip("\n"), value, number))
        else:
            before = "---\n" if (last.text or last.before).endswith("\n") else "\n---\n"
            self.documents.append(Document(before, block_yaml(value, 0), value, number))

    def render(self, warn: Warn) -> str:
        """Return the file's text for the present values; warn of a document that loses its comments."""
        parts = []
        for document in self.documents:
            text = edited(document.text, document.loaded, document.value, is_json=document.is_json)
            if text is None:
                text = _dumped(document.value, is_json=document.is_json)
                warn(
                    f"{self.name}: document {document.number}: rewritten without its comments: "
                    "its layout (aliases, tags) cannot be edited in place"
                )
            parts += [document.before, text]
        return "".join(parts)


def _dumped(value: Any, *, is_json: bool) -> str:
    """Write a whole document in one style."""
    return json.dumps(value, indent=4, ensure_ascii=False) + "\n" if is_json else block_yaml(value, 0)


def join_files(texts: Iterable[str]) -> str:
    """Return several files as one stream; each begins a document of its own."""
    stream = ""
    for text in filter(None, texts):
        if stream:
            text = text.removeprefix("\ufeff")
            stream += "" if stream.endswith("\n") else "\n"
            stream += "" if text.lstrip().startswith("---") else "---\n"
        stream += text
    return stream


def _items(value: Any, where: str, siblings: list[Any] | None) -> Iterator[tuple[str, list[Any] | None, Any]]:
    """Yield a document's value, or the items of a List (any kind that ends so and has `items`)."""
    match value:
        case {"kind": str(kind), "items": list(items)} if kind.endswith("List"):
            for index, item in enumerate(items):
                yield from _items(item, f"{where}, items[{index}]", items)
        case None:
            pass
        case _:
            yield where, siblings, value


def _check_object(value: Any, where: str) -> str:
    """Return an object's name for messages. Raises NotInjectable if the value is no Kubernetes object."""
    if not isinstance(value, dict):
        raise NotInjectable("", f"must be a Kubernetes object, is {kind_of(value)}")
    kind = value.get("kind")
    if not isinstance(kind, str) or not kind:
        raise NotInjectable("kind", f"must be a string, is {kind_of(kind)}")
    metadata = value.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise ManifestError("metadata", f"must be a mapping, is {kind_of(metadata)}", f"{where}, {kind}")
    return named(value)


def _read_json(text: str, name: str) -> list[Document] | None:
    """Cut a stream of JSON values; None if it is not one (YAML in flow style begins alike)."""
    documents: list[Document] = []
    decoder, position = json.JSONDecoder(), 0
    if not text.startswith("{", _after_blank(text, 0)):
        return None
    while (start := _after_blank(text, position)) < len(text):
        number = len(documents) + 1
        try:
            value, end = decoder.raw_decode(text, start)
            documents.append(Document(text[position:start], text[start:end], plain_copy(value), number))
        except json.JSONDecodeError:
            return None
        except (ValueError, RecursionError) as error:
            reason = TOO_DEEP if isinstance(error, RecursionError) else str(error)
            raise ManifestError("", reason, f"{name}: document {number}") from None
        position = end
    documents.append(Document(text[position:], "", None, len(documents) + 1))
    return documents


def _after_blank(text: str, position: int) -> int:
    blank = _BLANK.match(text, position)
    return blank.end() if blank else position


def _read_yaml(text: str, name: str) -> Iterator[Document]:
    number = 0
    for before, body, line in _cut(text):
        value = None
        if body.strip():
            try:
                value = load_yaml(body)
            except (YAMLError, ValueError) as error:
                raise ManifestError("", _problem(error, line), f"{name}: document {number + 1}") from None
        number += value is not None  # else comments only
        yield Document(before, body, value, number)


def _cut(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield the text before each document, its own, and the number of lines before it."""
    before, line = ("\ufeff" if text.startswith("\ufeff") else ""), 0
    pieces = [*_SEPARATOR.split(text.removeprefix("\ufeff")), ""]
    for body, separator in zip(pieces[::2], pieces[1::2], strict=True):
        if separator and "%" in body and _DIRECTIVES.match(body):
            before += body
        elif body or before.strip("\ufeff") or not separator:
            line += before.count("\n")
            yield before, body, line
            line += body.count("\n")
            before = ""
        before += separator


def _problem(error: Exception, line: int) -> str:
    """Return the error in a document after so many lines, on one line."""
    if not isinstance(error, YAMLError):
        return str(error)
    if not isinstance(error, MarkedYAMLError):
        return f"cannot be read: {str(error).splitlines()[0]}"
    mark = error.problem_mark or error.context_mark
    place = f"line {line + mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = " ".join((error.problem or error.context or "cannot be read").split())
    return f"{place}{problem}"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
