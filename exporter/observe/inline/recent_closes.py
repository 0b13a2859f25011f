"""The last abnormal endings with their stories, for people who ask *why*: kept in memory, newest first, bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from exporter.observe.inline.tallies import OPCODES, RESERVED
from exporter.protocol.flight_recorder import Frame, unpack

#: Endings that are kept: about 3 KB each, 1.5 MB in all.
MAX_CLOSES = 500


def describe(frames: Iterable[Frame], now: float) -> list[dict[str, object]]:
    """Frames as a log line and a page show them; ``age_s`` is seconds before ``now``."""
    return [
        {
            "sender": str(frame.sender),
            "opcode": OPCODES.get(frame.opcode, RESERVED),
            "fin": frame.fin,
            "length": frame.length,
            "age_s": round(now - frame.at, 3),
        }
        for frame in frames
    ]


@dataclass(frozen=True, slots=True)
class CloseReport:
    """One ending: its log fields, and the flight recorder as it was, packed."""

    fields: dict[str, object]
    slots: bytes
    at: int
    now: float

    def as_dict(self) -> dict[str, object]:
        """All of it, ready for JSON."""
        return {**self.fields, "last_frames": describe(unpack(self.slots, self.at), self.now)}


class Closes:
    """The book of abnormal endings. A story's number is how many came before it since the start."""

    def __init__(self, limit: int = MAX_CLOSES) -> None:
        self._stories: deque[CloseReport] = deque(maxlen=limit)
        self.total = 0  # ever added, so that a reader can tell whether something is new

    def __len__(self) -> int:
        return len(self._stories)

    def add(self, story: CloseReport) -> None:
        """Keep one more; the oldest goes if the book is full."""
        self._stories.append(story)
        self.total += 1

    def walk(self, before: int | None = None) -> Iterator[tuple[int, CloseReport]]:
        """Numbers and stories, newest first, from before the story of number ``before``.

        Stories may be added while somebody walks, however slowly: none comes twice, and those that went are not held.
        """
        number = self.total if before is None else min(before, self.total)
        while (number := number - 1) >= (oldest := self.total - len(self._stories)):
            yield number, self._stories[number - oldest]

    def number(self, session_id: str) -> int | None:
        """The number of one session's story, if it is still kept."""
        return next((number for number, story in self.walk() if story.fields["session_id"] == session_id), None)

    def get(self, session_id: str) -> CloseReport | None:
        """The story of one session, if it is still kept."""
        return next((story for _, story in self.walk() if story.fields["session_id"] == session_id), None)
