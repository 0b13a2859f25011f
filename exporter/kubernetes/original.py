"""The annotation `websocket-exporter/original`: the replaced values as JSON, and their restoration."""

from __future__ import annotations

import json
from typing import Any

from exporter.kubernetes.errors import ManifestError, list_at, mapping_at, metadata_of
from exporter.kubernetes.settings import ORIGINAL

Note = dict[str, Any]

_TYPES = {
    "annotations": list,
    "blank": dict | str,  # version 0.1 wrote a string on Services
    "host": dict,
    "ingress": dict,
    "probes": list,
    "targetPorts": dict,
}
"""Types of the fields that are not plain scalars."""


def ensure(parent: dict[str, Any], key: str, empty: Any, path: str, note: Note) -> Any:
    """Return the list or mapping under `key`; one that is absent or null is made, and noted."""
    if parent.get(key) is None:
        note.setdefault("blank", {})[key] = "null" if key in parent else "absent"
        parent[key] = empty
    return list_at(parent, key, path) if isinstance(empty, list) else mapping_at(parent, key, path)


def prune(parent: dict[str, Any], key: str, note: Note) -> None:
    """Undo `ensure`: remove a value that it made and that is empty again, or make it null as it was."""
    if parent.get(key) or key not in parent:
        return
    blank = note.get("blank", {})
    match blank if isinstance(blank, str) else blank.get(key):
        case "absent":
            del parent[key]
        case "null":
            parent[key] = None


def annotate(obj: dict[str, Any], note: Note) -> None:
    """Add the note to the annotations of an object or pod template."""
    metadata = ensure(obj, "metadata", {}, "", note)
    annotations = ensure(metadata, "annotations", {}, "metadata", note)
    annotations[ORIGINAL] = json.dumps(note, sort_keys=True, separators=(",", ":"))


def read_note(parent: dict[str, Any]) -> Note | None:
    """Return the note of an object or pod template, None if it has none. Raises ManifestError if it is damaged."""
    text = metadata_of(parent, "annotations").get(ORIGINAL)
    if text is None:
        return None
    try:
        note = json.loads(text)
    except (ValueError, RecursionError):
        note = None
    if not isinstance(note, dict) or not all(isinstance(note[key], _TYPES[key]) for key in _TYPES.keys() & note.keys()):
        raise ManifestError(f"metadata.annotations.{ORIGINAL}", "is damaged: remove the sidecar by hand")
    return note


def remove_note(parent: dict[str, Any], note: Note) -> None:
    """Remove the note, and the mappings that `ensure` made for it."""
    metadata = parent["metadata"]
    del metadata["annotations"][ORIGINAL]
    prune(metadata, "annotations", note)
    prune(parent, "metadata", note)
