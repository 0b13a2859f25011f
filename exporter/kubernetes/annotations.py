"""The annotations `websocket-exporter/*`: what a workload may say about its sidecar, and what `inject` notes
down.

A user writes them on the workload or on its pod template (the template wins); a name that is not known is an
error, so that a typing mistake does not silently mean the default.
"""

from __future__ import annotations

from collections.abc import Mapping

from exporter.kubernetes.problems import ManifestError, join
from exporter.kubernetes.settings import PREFIX, READERS, Settings, check, override, read_bool

INJECT = PREFIX + "inject"
ORIGINAL = PREFIX + "original"
"""JSON, on a pod template or a Service: what `inject` changed, enough to undo it."""
STATUS = PREFIX + "status"
"""On a pod, by the webhook: why there is no sidecar in it although it asked for one."""
GENERATED = PREFIX + "generated-for"
"""On a PodMonitor that `inject` made: the workload it was made for."""

_OURS = {ORIGINAL, STATUS, GENERATED}


def wishes(annotations: Mapping[str, str], path: str) -> dict[str, str]:
    """Our settings among annotations: setting name to text, each checked. `path` is that of the annotations.

    Raises ManifestError for an unknown name under our prefix and for a value that does not fit.
    """
    found: dict[str, str] = {}
    for key, text in annotations.items():
        if not key.startswith(PREFIX) or key in _OURS:
            continue
        name = key.removeprefix(PREFIX)
        reader = read_bool if key == INJECT else READERS.get(name)
        if reader is None:
            known = ", ".join(["inject", *READERS])
            raise ManifestError(join(path, key), f"is not an annotation of ours; known are {known}")
        try:
            reader(text)
        except ValueError as error:
            raise ManifestError(join(path, key), str(error)) from None
        found[name] = text
    return found


def settings_of(settings: Settings, texts: Mapping[str, str], path: str) -> Settings:
    """The settings with a workload's wishes over them. Raises ManifestError if they contradict each other."""
    changed = override(settings, {name: text for name, text in texts.items() if name != "inject"})
    try:
        check(changed)
    except ValueError as error:
        raise ManifestError(path, str(error)) from None
    return changed
