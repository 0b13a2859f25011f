"""Durations are read as the command line promises."""

from __future__ import annotations

import pytest

from exporter.demo.durations import seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5", 5), ("0.5", 0.5), ("500ms", 0.5), ("5s", 5), ("2m", 120), ("1h", 3600)],
)
def test_seconds_or_a_unit(text: str, expected: float) -> None:
    """Bare numbers are seconds; ms, s, m and h are understood."""
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "s", "5 s", "-1", "1d", "1e3", "inf", "1m30s", ".5", "٣"])
def test_anything_else_is_refused_with_what_is_accepted(text: str) -> None:
    """A text of another form is refused, and the refusal shows the forms that are accepted."""
    with pytest.raises(ValueError, match="500ms, 5s, 2m, 1h"):
        seconds(text)
