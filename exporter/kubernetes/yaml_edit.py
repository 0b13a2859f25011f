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
from collections.abc import Collection, Sequence
from itertools import groupby
from textwrap import indent
from types import NoneType
from typing import Any

from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from exporter.kubernetes.yaml_values import block_yaml, is_plain, load_yaml, same, yaml_reader

_ALIAS = re.compile(r"\s*:\s*(\*[^\s,\[\]{}]+)")
_WRAPPED = re.compile(r"\{<<: \[(\*[^\s,\[\]{}]+)\](?:, .*)?\}", re.DOTALL)
_MERGE = "tag:yaml.org,2002:merge"

_Range = tuple[int, int]
"""Start and end of an entry in the text."""


class _CannotEdit(Exception):
    """The text has a layout that the edits do not cover."""


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
    """Edits of one text: start, end, and the text to put there."""

    def __init__(self, text: str, is_json: bool) -> None:
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self.added_newline = "" if text.endswith("\n") else self.newline  # removed after the edits
        self.text = text + self.added_newline
        self.is_json = is_json
        self.tight = is_json and '": ' not in text
        self.edits: list[tuple[int, int, str]] = []

    def edit(self, old: Any, new: Any) -> str:
        root = yaml_reader().compose(self.text)
        if root is None:
            raise _CannotEdit
        self.offset = _list_offset(root)
        self.step = _step(root)
        self._change(root, old, new)
        parts, position = [], 0
        for start, end, text in sorted(self.edits, key=lambda edit: edit[:2]):
            if start < position:
                raise _CannotEdit
            parts += [self.text[position:start], text.replace("\n", self.newline)]
            position = end
        return ("".join(parts) + self.text[position:]).removesuffix(self.added_newline)

    def _replace(self, start: int, end: int, text: str) -> None:
        self.edits.append((start, end, text))

    def _replace_node(self, node: Node, text: str) -> None:
        if node.start_mark.index == node.end_mark.index:
            raise _CannotEdit
        self._replace(node.start_mark.index, node.end_mark.index, text)

    def _change(self, node: Node, old: Any, new: Any) -> None:
        if same(old, new):
            return
        if isinstance(node, MappingNode) and isinstance(old, dict) and isinstance(new, dict):
            self._change_mapping(node, old, new)
        elif isinstance(node, SequenceNode) and isinstance(old, list) and isinstance(new, list):
            self._change_list(node, old, new)
        elif isinstance(node, ScalarNode) and node.style in (None, "'", '"') and not isinstance(new, dict | list):
            self._replace_node(node, self._scalar(new, node.style))
        else:
            raise _CannotEdit

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
        if not _holds(new, old, merged):
            raise _CannotEdit
        wrapped = _WRAPPED.fullmatch(self.text, node.start_mark.index, node.end_mark.index)
        if wrapped and merged and new.keys() == merged:  # by _wrap_alias
            self._replace_node(node, wrapped[1])
            return
        for key, (key_node, value_node) in pairs.items():
            if key not in new or same(old[key], new[key]):
                continue
            if value_node.start_mark.index < key_node.end_mark.index:
                self._wrap_alias(key_node, old[key], new[key])
            elif {type(old[key]), type(new[key])} in ({NoneType, dict}, {NoneType, list}):
                self._fill_or_empty(node, key_node, value_node, new[key])
            else:
                self._change(value_node, old[key], new[key])
        entries = [(key.start_mark.index, self._end(value, key)) for key, value in node.value]
        added = {key: value for key, value in new.items() if key not in old}
        self._splice(node, entries, [key.tag == _MERGE or key.value in new for key, _ in node.value], added)

    def _wrap_alias(self, key: Node, old: Any, new: Any) -> None:
        """Merge the mapping of an alias into a new mapping that has more keys."""
        found = _ALIAS.match(self.text, key.end_mark.index)
        if found is None or not isinstance(old, dict) or not isinstance(new, dict) or not _holds(new, old, old):
            raise _CannotEdit
        added = [
            f"{self._scalar(name)}: {json.dumps(new[name], ensure_ascii=False)}" for name in new if name not in old
        ]
        self._replace(*found.span(1), "{" + ", ".join([f"<<: [{found[1]}]", *added]) + "}")

    def _fill_or_empty(self, parent: CollectionNode, key: Node, value: Node, new: Any) -> None:
        """Write a collection where there was none, or leave the key without one."""
        if parent.flow_style or (isinstance(value, CollectionNode) and value.flow_style):
            self._replace_node(value, json.dumps(new, ensure_ascii=False))
            return
        end = self._end(value, key)
        if new is None:
            self._delete_lines(value.start_mark.index, end)
            return
        if value.start_mark.index < value.end_mark.index <= end:  # `null` or `~` is written there
            self._replace(key.end_mark.index, end, ":")
        shift = self.offset if isinstance(new, list) else 2
        self._insert_lines(end, block_yaml(new, self.offset), key.start_mark.column + shift)

    # lists

    def _change_list(self, node: SequenceNode, old: list[Any], new: list[Any]) -> None:
        keep = _kept(old, new)
        kept = [(value, item) for value, item, stays in zip(node.value, old, keep, strict=True) if stays]
        for (value, item), wanted in zip(kept, new, strict=False):
            self._change(value, item, wanted)
        starts = [value.start_mark.index for value in node.value]
        if not node.flow_style:
            starts = [self.text.rindex("-", 0, start) for start in starts]
        entries = list(zip(starts, map(self._end, node.value), strict=True))
        self._splice(node, entries, keep, new[len(kept) :])

    # both

    def _splice(self, node: CollectionNode, entries: list[_Range], keep: list[bool], added: Any) -> None:
        """Delete the entries that are not kept, add the new ones after the last."""
        if not node.flow_style and not any(keep) and entries:
            raise _CannotEdit  # a block collection cannot be empty
        for stays, run in groupby(range(len(keep)), keep.__getitem__):
            first, *rest = run
            if not stays:
                delete = self._delete_flow if node.flow_style else self._delete_block
                delete(entries, first, rest[-1] if rest else first)
        if not added:
            return
        if node.flow_style:
            self._insert_flow(node, [entry for entry, stays in zip(entries, keep, strict=True) if stays], added)
        else:
            text = block_yaml(added, self.offset if isinstance(added, dict) else 0)
            self._insert_lines(entries[-1][1], text, self._column(entries[0][0]))

    def _delete_flow(self, entries: Sequence[_Range], first: int, last: int) -> None:
        start, end = entries[first][0], entries[last][1]
        if first > 0:
            start = entries[first - 1][1]
        elif last + 1 < len(entries):
            end = entries[last + 1][0]
        self._replace(start, end, "")

    def _delete_block(self, entries: Sequence[_Range], first: int, last: int) -> None:
        start = entries[first][0]
        if self._begins_line(start):
            self._delete_lines(start, entries[last][1])
        elif last + 1 < len(entries):  # the first key behind a dash: the next one takes its place
            self._replace(start, entries[last + 1][0], "")
        else:
            raise _CannotEdit

    def _delete_lines(self, start: int, end: int) -> None:
        self._replace(start - self._column(start), self._next_line(end), "")

    def _insert_lines(self, after: int, text: str, column: int) -> None:
        position = self._next_line(after)
        self._replace(position, position, indent(text, " " * column))

    def _insert_flow(self, node: Node, kept: Sequence[_Range], added: Any) -> None:
        comma, colon = (",", ":") if self.tight else (", ", ": ")
        margin, step = "", None
        if kept and self._begins_line(kept[-1][0]):
            comma, margin, step = ",", "\n" + " " * self._column(kept[-1][0]), self.step
        texts = []
        for key in added:
            value = added[key] if isinstance(added, dict) else key
            value = json.dumps(value, indent=step, separators=(comma, colon), ensure_ascii=False)
            value = value.replace("\n", margin)
            texts.append(f"{self._scalar(key)}{colon}{value}" if isinstance(added, dict) else value)
        between = comma + margin
        text = between.join(texts)
        position = kept[-1][1] if kept else node.start_mark.index + 1
        self._replace(position, position, between + text if kept else text)

    def _column(self, index: int) -> int:
        return index - (self.text.rfind("\n", 0, index) + 1)

    def _begins_line(self, index: int) -> bool:
        return not self.text[index - self._column(index) : index].strip()

    def _next_line(self, index: int) -> int:
        if index > 0 and self.text[index - 1] == "\n":  # block scalars end with their line break
            return index
        return self.text.index("\n", index) + 1

    def _end(self, node: Node, key: Node | None = None) -> int:
        """Return the end of a node's last character, without comments and blank lines after it."""
        if key is not None and node.start_mark.index < key.end_mark.index:  # an alias: its node is elsewhere
            found = _ALIAS.match(self.text, key.end_mark.index)
            if found is None:
                raise _CannotEdit
            return found.end()
        if isinstance(node, CollectionNode) and not node.flow_style:
            last = node.value[-1]
            return self._end(last[1], last[0]) if isinstance(node, MappingNode) else self._end(last)
        if node.start_mark.index < node.end_mark.index:
            return int(node.end_mark.index)
        if key is None:
            raise _CannotEdit
        return self.text.index(":", key.end_mark.index) + 1


def _holds(new: dict[Any, Any], old: dict[Any, Any], keys: Collection[str]) -> bool:
    """Return whether `new` has the old values under `keys`."""
    return all(key in new and same(old[key], new[key]) for key in keys)


def _kept(old: Sequence[Any], new: Sequence[Any]) -> list[bool]:
    """Return for each old item whether it is kept, perhaps changed. Items of `new` after the kept ones are added."""
    before, after = [_identity(item) for item in old], [_identity(item) for item in new]
    if len(old) == len(new) and before != after:
        return [True] * len(old)
    keep, position = [], 0
    for identity in before:
        stays = after[position : position + 1] == [identity]
        keep.append(stays)
        position += stays
    return keep


def _identity(item: Any) -> Any:
    """Return the identity of a list item: its port, its name, its kind and name, or all of it."""
    if not isinstance(item, dict):
        return item
    for key in ("containerPort", "name"):
        if key in item:
            return item[key]
    if "kind" not in item:
        return item
    metadata = item.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return item.get("apiVersion"), item["kind"], metadata.get("namespace"), metadata.get("name")


def _list_offset(root: Node) -> int:
    """Return the columns from a key to the list items below it in this text; 0 if it has no block list."""
    nodes = [root]
    while nodes:
        node = nodes.pop()
        if isinstance(node, MappingNode):
            for key, value in node.value:
                if isinstance(value, SequenceNode) and not value.flow_style:
                    return max(0, int(value.start_mark.column) - int(key.start_mark.column))
            nodes += [value for _, value in reversed(node.value)]
        elif isinstance(node, SequenceNode):
            nodes += reversed(node.value)
    return 0


def _step(root: Node) -> int:
    """Return the columns by which nested JSON is indented."""
    if isinstance(root, MappingNode) and root.value:
        first = root.value[0][0].start_mark
        if first.line > root.start_mark.line:
            return max(1, int(first.column) - int(root.start_mark.column))
    return 2
