"""The last abnormal endings with their stories, for people who ask *why*: kept in memory, newest first, bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from exporter.protocol.flight import Frame, unpack
from exporter.protocol.frames import Opcode

#: Endings that are kept: about 3 KB each, 1.5 MB in all.
MAX_CLOSES = 500

_OPCODES = {int(opcode): opcode.name.lower() for opcode in Opcode}


def describe(frames: Iterable[Frame], now: float) -> list[dict[str, object]]:
    """Frames as a log line and a page show them; ``age_s`` is seconds before ``now``."""
    return [
        {
            "sender": str(frame.sender),
            "opcode": _OPCODES.get(frame.opcode, "reserved"),
            "fin": frame.fin,
            "length": frame.length,
            "age_s": round(now - frame.at, 3),
        }
        for frame in frames
    ]


@dataclass(frozen=True, slots=True)
class Story:
    """One ending: its log fields, and the flight recorder as it was, packed."""

    fields: dict[str, object]
    slots: bytes
    at: int
    now: float

    def as_dict(self) -> dict[str, object]:
        """All of it, ready for JSON."""
        return {**self.fields, "last_frames": describe(unpack(self.slots, self.at), self.now)}


class Closes:
    """The book of abnormal endings."""

    def __init__(self, limit: int = MAX_CLOSES) -> None:
        self._stories: deque[Story] = deque(maxlen=limit)
        self.total = 0  # ever added, so that a reader can tell whether something is new

    def add(self, story: Story) -> None:
        """Keep one more; the oldest goes if the book is full."""
        self._stories.append(story)
        self.total += 1

    def find(
        self, code: str = "", cause: str = "", route: str = "", limit: int = MAX_CLOSES
    ) -> list[dict[str, object]]:
        """Stories that match all that is given, newest first."""
        wanted = {"code": code, "cause": cause, "route": route}
        found: list[dict[str, object]] = []
        for story in reversed(self._stories):
            if all(not value or story.fields[name] == value for name, value in wanted.items()):
                found.append(story.as_dict())
                if len(found) >= limit:
                    break
        return found

    def get(self, session_id: str) -> dict[str, object] | None:
        """The story of one session, if it is still kept."""
        return next((s.as_dict() for s in reversed(self._stories) if s.fields["session_id"] == session_id), None)
