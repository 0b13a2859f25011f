"""Text of peers, made fit to be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.observe.recent_closes import MAX_TEXT, sanitize


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain", "plain"),
        ("übermäßig 日本語 🙂", "übermäßig 日本語 🙂"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x1b[2Jwiped", "\\x1b[2Jwiped"),
        ("tab\tand\0null", "tab\\tand\\x00null"),
        ("\u202edrawkcab", "\\u202edrawkcab"),
        ("\x9b31m", "\\x9b31m"),
        ("\u2028", "\\u2028"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_acts_instead_of_showing_is_escaped(text: str, shown: str) -> None:
    """Line breaks, terminal controls and bidi marks become visible; letters of any language stay."""
    assert sanitize(text) == shown


@given(st.text(max_size=600))
def test_any_text_becomes_printable_and_bounded(text: str) -> None:
    """Whatever a peer writes, the result is printable, one line, and bounded."""
    shown = sanitize(text)
    assert shown.isprintable()
    assert len(shown) <= MAX_TEXT * 10
    assert len(shown.splitlines()) <= 1


def test_long_text_is_cut_with_a_sign_that_it_was() -> None:
    """A cut text ends with an ellipsis; one that just fits is whole."""
    assert sanitize("x" * MAX_TEXT) == "x" * MAX_TEXT
    assert sanitize("x" * (MAX_TEXT + 1)) == "x" * (MAX_TEXT - 1) + "…"
    assert sanitize("abcdef", 4) == "abc…"
