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

from exporter.kubernetes.errors import ManifestError, NotInjectable, Warn, kind_of
from exporter.kubernetes.workloads import named
from exporter.kubernetes.yaml_edit import edited
from exporter.kubernetes.yaml_values import TOO_DEEP, block_yaml, load_yaml, plain_copy

_SEPARATOR = re.compile(r"^---(?:[ \t][^\r\n]*)?(?:\r?\n|\Z)|^---(?=[ \t])", re.MULTILINE)
_BARE_SEPARATOR = re.compile(r"---[ \t]*(#.*)?\r?\n?")
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
    is_json: bool
    number: int
    loaded: Any = field(init=False)

    def __post_init__(self) -> None:
        self.loaded = plain_copy(self.value)

    def render(self) -> tuple[str, bool]:
        """Return the text for the present value, and whether it was rewritten as a whole, without its comments."""
        text = edited(self.text, self.loaded, self.value, is_json=self.is_json)
        if text is not None:
            return text, False
        return _dumped(self.value, is_json=self.is_json), True


@dataclass(frozen=True, slots=True)
class Located:
    """A Kubernetes object in a file. where: for messages. siblings: the list that it is an item of, or None."""

    file: ManifestFile
    document: Document
    where: str
    siblings: list[Any] | None
    object: dict[str, Any]


@dataclass(slots=True)
class ManifestFile:
    """One input with its documents, empty ones (comments only) included."""

    name: str
    text: str
    documents: list[Document]

    @classmethod
    def read(cls, name: str, text: str) -> ManifestFile:
        """Cut an input into documents. Raises ManifestError that names document and line."""
        documents = _read_json(text, name) if text.startswith("{", _after_blank(text, 0)) else None
        return cls(name, text, list(_read_yaml(text, name)) if documents is None else documents)

    def objects(self, refuse: Warn | None = None) -> Iterator[Located]:
        """Yield every Kubernetes object. Content that is no object raises NotInjectable, or goes to `refuse`."""
        for document in self.documents:
            where = f"{self.name}: document {document.number}"
            for at, siblings, value in _items(document.value, where, None):
                try:
                    yield Located(self, document, f"{at}, {_check_object(value, at)}", siblings, value)
                except NotInjectable as error:
                    if refuse is None:
                        raise
                    refuse(str(error))

    def append(self, value: dict[str, Any], *, is_json: bool) -> None:
        """Add a document at the end."""
        number = len(self.documents) + 1
        if is_json:
            tail = [self.documents.pop()] if not self.documents[-1].text else []
            text = _dumped(value, is_json=True).rstrip("\n")
            self.documents += [Document("\n", text, value, True, number), *tail]
            return
        ends = (self.documents[-1].text or self.documents[-1].before).endswith("\n")
        before = "---\n" if ends else "\n---\n"
        self.documents.append(Document(before, block_yaml(value, 0), value, False, number))

    def render(self, warn: Warn) -> str:
        """Return the file's text for the present values."""
        parts = []
        for document in self.documents:
            text, rewritten = document.render()
            if rewritten:
                warn(
                    f"{self.name}: document {document.number}: rewritten without its comments: "
                    "its layout (aliases, tags) cannot be edited in place"
                )
            parts += [document.before, text]
        return "".join(parts)


def join_files(texts: Iterable[str]) -> str:
    """Return several files as one stream; each begins a document of its own."""
    stream = ""
    for text in filter(None, texts):
        if not stream:
            stream = text
            continue
        following = text.removeprefix("\ufeff")
        separator = "" if following.lstrip().startswith("---") else "---\n"
        stream += ("" if stream.endswith("\n") else "\n") + separator + following
    return stream


def _items(value: Any, where: str, siblings: list[Any] | None) -> Iterator[tuple[str, list[Any] | None, Any]]:
    """Yield a document's value, or the items of a List (any kind that ends so and has `items`)."""
    if value is None:
        return
    kind = value.get("kind") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind.endswith("List") and isinstance(value.get("items"), list):
        for index, item in enumerate(value["items"]):
            yield from _items(item, f"{where}, items[{index}]", value["items"])
        return
    yield where, siblings, value


def _check_object(value: Any, where: str) -> str:
    """Return an object's name for messages. Raises NotInjectable if the value is no Kubernetes object."""
    if not isinstance(value, dict):
        raise NotInjectable("", f"must be a Kubernetes object, is {kind_of(value)}", where)
    kind = value.get("kind")
    if not isinstance(kind, str) or not kind:
        raise NotInjectable("kind", f"must be a string, is {kind_of(kind)}", where)
    metadata = value.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise ManifestError("metadata", f"must be a mapping, is {kind_of(metadata)}", f"{where}, {kind}")
    return named(value)


def _read_json(text: str, name: str) -> list[Document] | None:
    """Cut a stream of JSON values; None if it is not one (YAML in flow style begins alike)."""
    documents: list[Document] = []
    decoder, position = json.JSONDecoder(), 0
    while True:
        start = _after_blank(text, position)
        number = len(documents) + 1
        if start == len(text):
            break
        try:
            value, end = decoder.raw_decode(text, start)
        except ValueError:
            return None
        except RecursionError:
            raise ManifestError("", TOO_DEEP, f"{name}: document {number}") from None
        try:
            value = plain_copy(value)
        except ValueError as error:
            raise ManifestError("", str(error), f"{name}: document {number}") from None
        documents.append(Document(text[position:start], text[start:end], value, True, number))
        position = end
    documents.append(Document(text[position:], "", None, True, number))
    return documents


def _after_blank(text: str, position: int) -> int:
    blank = _BLANK.match(text, position)
    return blank.end() if blank else position


def _read_yaml(text: str, name: str) -> Iterator[Document]:
    number = 0
    for before, body, line in _cut(text):
        number += bool(body.strip())
        where = f"{name}: document {max(number, 1)}"
        try:
            value = load_yaml(body) if body.strip() else None
        except MarkedYAMLError as error:
            raise ManifestError("", _yaml_problem(error, line), where) from None
        except YAMLError as error:
            raise ManifestError("", f"cannot be read: {str(error).splitlines()[0]}", where) from None
        except ValueError as error:
            raise ManifestError("", str(error), where) from None
        if value is None:
            number -= bool(body.strip())  # comments only
        yield Document(before, body, value, _is_json(body), number)


def _cut(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield separator, body, and the number of lines before the body."""
    before = "\ufeff" if text.startswith("\ufeff") else ""
    start = counted = len(before)
    line = 0
    for found in _SEPARATOR.finditer(text, start):
        body = text[start : found.start()]
        if before.strip("\ufeff") or body:
            if _DIRECTIVES.match(body) and "%" in body:
                before, start = before + body, found.start()
                body = ""
            else:
                line, counted = line + text.count("\n", counted, start), start
                yield before, body, line
                before = ""
        bare = _BARE_SEPARATOR.fullmatch(found[0])
        before += found[0] if bare else "---"
        start = found.end() if bare else found.start() + 3
    yield before, text[start:], line + text.count("\n", counted, start)


def _yaml_problem(error: MarkedYAMLError, line: int) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"line {line + mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = " ".join((error.problem or error.context or "cannot be read").split())
    return f"{place}{problem}"


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _dumped(value: Any, *, is_json: bool) -> str:
    return json.dumps(value, indent=4, ensure_ascii=False) + "\n" if is_json else block_yaml(value, 0)
