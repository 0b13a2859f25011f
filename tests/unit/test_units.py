"""Durations and sizes as people write them."""

from __future__ import annotations

import pytest

from exporter.units import parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5),
        ("0.5", 0.5),
        ("500ms", 0.5),
        ("5s", 5),
        ("1m30s", 90),
        ("2h", 7200),
        ("1h0.5m", 3630),
        (" 3s ", 3),
        ("0", 0),
    ],
)
def test_duration_of_any_spelling_is_seconds(text: str, seconds: float) -> None:
    """A plain number is seconds; numbers with units add up."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1d", "1m 30s", "1e3", "30s1", "8761h", "nan"])
def test_duration_of_anything_else_is_an_error(text: str) -> None:
    """Anything else, and more than a year, is a ValueError that says what is accepted."""
    with pytest.raises(ValueError, match="expected"):
        parse_duration(text)


def test_size_has_units_and_a_limit() -> None:
    """Sizes are bytes, KiB or MiB, at most 1024 MiB."""
    assert [parse_size(text) for text in ("1", "2B", "3KiB", "4MiB")] == [1, 2, 3072, 4194304]
    for text in ("", "1GB", "-1", "1025MiB"):
        with pytest.raises(ValueError, match="expected"):
            parse_size(text)
