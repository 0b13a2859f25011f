"""The book of abnormal endings."""

from __future__ import annotations

from exporter.observe.inline.recent_closes import CloseReport, Closes
from exporter.protocol.flight_recorder import Ring


def story(number: int) -> CloseReport:
    ring = Ring()
    return CloseReport({"session_id": f"s-{number}", "code": "1011"}, bytes(ring.slots), ring.at, 0.0)


def book(stories: int, limit: int = 5) -> Closes:
    closes = Closes(limit)
    for number in range(stories):
        closes.add(story(number))
    return closes


def test_newest_first_and_the_oldest_goes():
    """A full book forgets the oldest; numbers go on from the start."""
    closes = book(8)
    assert [(number, kept.fields["session_id"]) for number, kept in closes.walk()] == [
        (7, "s-7"),
        (6, "s-6"),
        (5, "s-5"),
        (4, "s-4"),
        (3, "s-3"),
    ]
    assert (len(closes), closes.total) == (5, 8)


def test_walking_on_from_a_number():
    """A page begins where the one before it ended; before the oldest there is nothing."""
    closes = book(8)
    assert [number for number, _ in closes.walk(before=5)] == [4, 3]
    assert list(closes.walk(before=3)) == []
    assert [number for number, _ in closes.walk(before=99)] == [7, 6, 5, 4, 3]


def test_stories_that_come_while_somebody_walks():
    """A slow walker sees no story twice, none that is newer than its start, and holds none that went."""
    closes = book(5)
    walk = closes.walk()
    assert next(walk)[0] == 4
    assert next(walk)[0] == 3
    closes.add(story(5))
    assert next(walk)[0] == 2
    for number in range(6, 9):  # s-0 to s-3 are gone now
        closes.add(story(number))
    assert list(walk) == []


def test_a_story_is_found_by_its_session_while_it_is_kept():
    """By session id, and no longer than it is kept."""
    closes = book(8)
    kept = closes.get("s-7")
    assert kept is not None
    assert kept.fields["session_id"] == "s-7"
    assert closes.number("s-3") == 3
    assert closes.get("s-2") is None
    assert closes.number("s-2") is None


def test_an_empty_book():
    """Nothing to walk, nothing to find."""
    assert list(Closes().walk()) == []
    assert Closes().get("s-1") is None
