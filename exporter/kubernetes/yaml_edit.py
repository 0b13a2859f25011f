"""Change a few values in a YAML or JSON text and leave every other byte alone.

Dumping a loaded manifest would lose comments, quotes and layout, and removing the sidecar could not restore the bytes.
So the text is composed into nodes with positions, the old and the new value are walked side by side, and differences
become edits of the text:

    a new key or item         lines after the last line of its mapping or list; before the closing bracket in flow
                              style (all of JSON)
    a removed key or item     its lines, or its characters between the commas, deleted
    a different scalar        its characters replaced, in the same quotes
    new keys for an alias     `*labels` becomes `{<<: [*labels], key: value}`, and back
    anything else             no edit

Comments after a mapping's last line stay behind added lines, because a node ends at its last character. The edited
text is loaded again and must hold exactly the wanted value; if not, the caller gets None and dumps the document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from exporter.kubernetes.yaml_values import block_yaml, is_plain, load_yaml, same, yaml_reader

_ALIAS = re.compile(r"\s*:\s*(\*[^\s,\[\]{}]+)")
_WRAPPED = re.compile(r"\{<<: \[(\*[^\s,\[\]{}]+)\](?:, .*)?\}", re.DOTALL)
_MERGE = "tag:yaml.org,2002:merge"


class _CannotEdit(Exception):
    """The text has a layout that the edits do not cover."""


@dataclass(frozen=True, slots=True)
class _Edit:
    start: int
    end: int
    text: str


def edited(text: str, old: Any, new: Any, *, is_json: bool) -> str | None:
    """Return `text`, which holds the value `old`, with as few edits as possible to hold `new`; None if impossible.

    text: one document. old, new: plain values. is_json: whether additions must be JSON.
    """
    if same(old, new):
        return text
    try:
        result = _Editor(text, is_json).edit(old, new)
        loaded = json.loads(result) if is_json else load_yaml(result)
    except (_CannotEdit, YAMLError, ValueError):
        return None
    return result if same(loaded, new) else None


class _Editor:
    """Edits of one text."""

    def __init__(self, text: str, is_json: bool) -> None:
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self.added_newline = "" if text.endswith("\n") else self.newline  # removed after the edits
        self.text = text + self.added_newline
        self.is_json = is_json
        self.tight = is_json and '": ' not in text
        self.edits: list[_Edit] = []

    def edit(self, old: Any, new: Any) -> str:
        root = yaml_reader().compose(self.text)
        if root is None:
            raise _CannotEdit
        self.offset = _list_offset(root)
        self.step = _step(root)
        self._change(root, old, new)
        return self._apply().removesuffix(self.added_newline)

    def _apply(self) -> str:
        parts, position = [], 0
        for edit in sorted(self.edits, key=lambda edit: (edit.start, edit.end)):
            if edit.start < position:
                raise _CannotEdit
            parts += [self.text[position : edit.start], edit.text.replace("\n", self.newline)]
            position = edit.end
        return "".join(parts) + self.text[position:]

    def _change(self, node: Node, old: Any, new: Any) -> None:
        if same(old, new):
            return
        if isinstance(node, MappingNode) and isinstance(old, dict) and isinstance(new, dict):
            self._change_mapping(node, old, new)
        elif isinstance(node, SequenceNode) and isinstance(old, list) and isinstance(new, list):
            self._change_list(node, old, new)
        elif isinstance(node, ScalarNode) and not isinstance(new, dict | list):
            self._replace_scalar(node, new)
        else:
            raise _CannotEdit

    def _replace_scalar(self, node: ScalarNode, new: Any) -> None:
        start, end = node.start_mark.index, node.end_mark.index
        if start == end or node.style not in (None, "'", '"'):
            raise _CannotEdit
        self.edits.append(_Edit(start, end, self._scalar(new, node.style)))

    def _scalar(self, value: Any, style: str | None = None) -> str:
        if isinstance(value, str) and not self.is_json:
            if style == "'":
                return "'" + value.replace("'", "''") + "'"
            if style is None and is_plain(value):
                return value
        return json.dumps(value, ensure_ascii=False)

    # mappings

    def _change_mapping(self, node: MappingNode, old: dict[Any, Any], new: dict[Any, Any]) -> None:
        if not all(isinstance(key, ScalarNode) for key, _ in node.value):
            raise _CannotEdit
        pairs = {key.value: (key, value) for key, value in node.value if key.tag != _MERGE}
        merged = old.keys() - pairs.keys()
        if not pairs.keys() <= old.keys() or (merged and len(pairs) == len(node.value)):
            raise _CannotEdit  # keys that are not strings
        if not all(key in new and same(old[key], new[key]) for key in merged):
            raise _CannotEdit
        if merged and not pairs.keys() & new.keys() and self._unwrap_alias(node, merged, new):
            return
        for key, (key_node, value_node) in pairs.items():
            if key not in new or same(old[key], new[key]):
                continue
            if value_node.start_mark.index < key_node.end_mark.index:
                self._wrap_alias(key_node, old[key], new[key])
            elif old[key] is None and isinstance(new[key], dict | list):
                self._fill(node, key_node, value_node, new[key])
            elif new[key] is None and isinstance(old[key], dict | list):
                self._empty(node, value_node)
            else:
                self._change(value_node, old[key], new[key])
        entries = [_Range(key.start_mark.index, self._end(value, key)) for key, value in node.value]
        added = {key: value for key, value in new.items() if key not in old}
        self._splice(node, entries, [key.tag == _MERGE or key.value in new for key, _ in node.value], added)

    def _wrap_alias(self, key: Node, old: Any, new: Any) -> None:
        """Merge the mapping of an alias into a new mapping that has more keys."""
        found = _ALIAS.match(self.text, key.end_mark.index)
        if found is None or not isinstance(old, dict) or not isinstance(new, dict):
            raise _CannotEdit
        if not all(name in new and same(old[name], new[name]) for name in old):
            raise _CannotEdit
        parts = [f"<<: [{found[1]}]"]
        parts += [f"{self._key(name)}: {json.dumps(new[name], ensure_ascii=False)}" for name in new if name not in old]
        self.edits.append(_Edit(found.start(1), found.end(1), "{" + ", ".join(parts) + "}"))

    def _unwrap_alias(self, node: MappingNode, merged: Collection[str], new: dict[Any, Any]) -> bool:
        """Undo `_wrap_alias` if the mapping holds the alias' keys alone. Returns False if it was not wrapped."""
        start, end = node.start_mark.index, node.end_mark.index
        found = _WRAPPED.fullmatch(self.text, start, end)
        if found is None or new.keys() != merged:
            return False
        self.edits.append(_Edit(start, end, found[1]))
        return True

    def _fill(self, parent: CollectionNode, key: Node, value: Node, new: Any) -> None:
        """Write a value where there was none."""
        if parent.flow_style:
            self._replace_token(value, json.dumps(new, ensure_ascii=False))
            return
        end = self._end(value, key)
        if value.start_mark.index < value.end_mark.index <= end:  # `null` or `~` is written there
            self.edits.append(_Edit(key.end_mark.index, end, ":"))
        shift = self.offset if isinstance(new, list) else 2
        text = _indented(block_yaml(new, self.offset), key.start_mark.column + shift)
        self._insert_lines(end, text)

    def _replace_token(self, value: Node, text: str) -> None:
        start, end = value.start_mark.index, value.end_mark.index
        if start == end:
            raise _CannotEdit
        self.edits.append(_Edit(start, end, text))

    def _empty(self, parent: MappingNode, value: Node) -> None:
        """Leave a key without a value."""
        if parent.flow_style or (isinstance(value, CollectionNode) and value.flow_style):
            self._replace_token(value, "null")
            return
        self._delete_lines(value.start_mark.index, self._end(value))

    # lists

    def _change_list(self, node: SequenceNode, old: list[Any], new: list[Any]) -> None:
        keep = _kept(old, new)
        kept = [(value, item) for value, item, stays in zip(node.value, old, keep, strict=True) if stays]
        for (value, item), wanted in zip(kept, new, strict=False):
            self._change(value, item, wanted)
        entries = [_Range(self._item_start(node, value), self._end(value)) for value in node.value]
        self._splice(node, entries, keep, new[len(kept) :])

    def _item_start(self, node: SequenceNode, value: Node) -> int:
        start: int = value.start_mark.index
        return start if node.flow_style else self.text.rindex("-", 0, start)

    # both

    def _splice(self, node: CollectionNode, entries: list[_Range], keep: list[bool], added: Any) -> None:
        """Delete the entries that are not kept, add the new ones after the last."""
        if not all(keep) and not any(keep) and not node.flow_style:
            raise _CannotEdit  # a block collection cannot be empty
        for first, last in _runs(keep):
            if node.flow_style:
                self._delete_flow(entries, first, last)
            else:
                self._delete_block(entries, first, last)
        if not added:
            return
        if not node.flow_style:
            text = _indented(block_yaml(added, self.offset if isinstance(added, dict) else 0), _column(node, self.text))
            self._insert_lines(entries[-1].end, text)
            return
        kept = [entry for entry, stays in zip(entries, keep, strict=True) if stays]
        self._insert_flow(node, kept, added)

    def _delete_flow(self, entries: Sequence[_Range], first: int, last: int) -> None:
        if first > 0:
            self.edits.append(_Edit(entries[first - 1].end, entries[last].end, ""))
        elif last + 1 < len(entries):
            self.edits.append(_Edit(entries[0].start, entries[last + 1].start, ""))
        else:
            self.edits.append(_Edit(entries[0].start, entries[last].end, ""))

    def _delete_block(self, entries: Sequence[_Range], first: int, last: int) -> None:
        start = entries[first].start
        line = self.text.rfind("\n", 0, start) + 1
        if self.text[line:start].strip():  # the first key behind a dash: the next one takes its place
            if last + 1 == len(entries):
                raise _CannotEdit
            self.edits.append(_Edit(start, entries[last + 1].start, ""))
            return
        self._delete_lines(start, entries[last].end)

    def _delete_lines(self, start: int, end: int) -> None:
        start = self.text.rfind("\n", 0, start) + 1
        self.edits.append(_Edit(start, self._next_line(end), ""))

    def _insert_lines(self, after: int, text: str) -> None:
        position = self._next_line(after)
        self.edits.append(_Edit(position, position, text))

    def _insert_flow(self, node: Node, kept: Sequence[_Range], added: Any) -> None:
        column = self._own_line(kept[-1].start) if kept else None
        comma, colon = (",", ":") if self.tight else (", ", ": ")
        between = ",\n" + " " * column if column is not None else comma
        indent = self.step if column is not None else None
        separators = (comma if indent is None else ",", colon)
        texts = []
        for key in added:
            value = added[key] if isinstance(added, dict) else key
            value = json.dumps(value, indent=indent, separators=separators, ensure_ascii=False)
            value = value.replace("\n", "\n" + " " * (column or 0))
            texts.append(f"{self._key(key)}{colon}{value}" if isinstance(added, dict) else value)
        text = between.join(texts)
        position = kept[-1].end if kept else node.start_mark.index + 1
        self.edits.append(_Edit(position, position, between + text if kept else text))

    def _key(self, key: str) -> str:
        return key if not self.is_json and is_plain(key) else json.dumps(key, ensure_ascii=False)

    def _own_line(self, index: int) -> int | None:
        """Return the column of a position that has only blanks before it on its line."""
        line = self.text.rfind("\n", 0, index) + 1
        return index - line if line and not self.text[line:index].strip() else None

    def _next_line(self, index: int) -> int:
        if index > 0 and self.text[index - 1] == "\n":  # block scalars end with their line break
            return index
        return self._after("\n", index)

    def _after(self, character: str, index: int) -> int:
        found: int = self.text.index(character, index)
        return found + 1

    def _alias_end(self, key: Node) -> int:
        """Return the end of `key: *alias`: the node of an alias is elsewhere in the text."""
        found = _ALIAS.match(self.text, key.end_mark.index)
        if found is None:
            raise _CannotEdit
        return found.end()

    def _end(self, node: Node, key: Node | None = None) -> int:
        """Return the end of a node's last character, without comments and blank lines after it."""
        if key is not None and node.start_mark.index < key.end_mark.index:
            return self._alias_end(key)
        if isinstance(node, MappingNode) and not node.flow_style:
            inner_key, inner = node.value[-1]
            return self._end(inner, inner_key)
        if isinstance(node, SequenceNode) and not node.flow_style:
            return self._end(node.value[-1])
        if node.start_mark.index == node.end_mark.index:
            if key is None:
                raise _CannotEdit
            return self._after(":", key.end_mark.index)
        end: int = node.end_mark.index
        return end


@dataclass(frozen=True, slots=True)
class _Range:
    start: int
    end: int


def _kept(old: Sequence[Any], new: Sequence[Any]) -> list[bool]:
    """Return for each old item whether it is kept, perhaps changed. Items of `new` after the kept ones are added."""
    if len(old) == len(new) and [_names(item) for item in old] != [_names(item) for item in new]:
        return [True] * len(old)
    keep, position = [], 0
    for item in old:
        stays = position < len(new) and _names(item) == _names(new[position])
        keep.append(stays)
        position += stays
    return keep


def _names(item: Any) -> Any:
    """Return the identity of a list item: its port, its name, or itself."""
    if not isinstance(item, dict):
        return item
    for key in ("containerPort", "name"):
        if key in item:
            return item[key]
    return json.dumps(item, sort_keys=True, default=str) if "kind" not in item else _identity(item)


def _identity(item: dict[str, Any]) -> Any:
    metadata = item.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return item.get("apiVersion"), item["kind"], metadata.get("namespace"), metadata.get("name")


def _runs(keep: Sequence[bool]) -> list[tuple[int, int]]:
    """Return first and last index of every run of entries that are not kept."""
    runs: list[tuple[int, int]] = []
    for index, stays in enumerate(keep):
        if stays:
            continue
        if runs and runs[-1][1] == index - 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return runs


def _indented(text: str, column: int) -> str:
    return "".join(" " * column + line if line.strip() else line for line in text.splitlines(keepends=True))


def _column(node: Node, text: str) -> int:
    first = node.value[0][0] if isinstance(node, MappingNode) else node.value[0]
    index: int = first.start_mark.index
    if isinstance(node, SequenceNode):
        index = text.rindex("-", 0, index)
    return index - (text.rfind("\n", 0, index) + 1)


def _mappings(node: Node, seen: set[int]) -> Iterator[MappingNode]:
    """Yield the mappings of a tree, each once although aliases share nodes."""
    if id(node) in seen or isinstance(node, ScalarNode):
        return
    seen.add(id(node))
    if isinstance(node, MappingNode):
        yield node
    for child in node.value:
        for inner in child if isinstance(child, tuple) else (child,):
            yield from _mappings(inner, seen)


def _list_offset(root: Node) -> int:
    """Return the columns from a key to the list items below it in this text; 0 if it has no block list."""
    offsets = (
        max(0, value.start_mark.column - key.start_mark.column)
        for node in _mappings(root, set())
        for key, value in node.value
        if isinstance(value, SequenceNode) and not value.flow_style
    )
    return next(offsets, 0)


def _step(root: Node) -> int:
    """Return the columns by which nested JSON is indented."""
    if isinstance(root, MappingNode) and root.value:
        first = root.value[0][0].start_mark
        if first.line > root.start_mark.line:
            return max(1, int(first.column) - int(root.start_mark.column))
    return 2
