"""Texts of peers for log lines and pages: cut, and with escapes for characters that act on a terminal or a page."""

from __future__ import annotations

#: Characters of a peer's text at most. A Close reason has at most 123 bytes (RFC 6455, section 5.5).
MAX_TEXT = 256


def sanitize(text: str, limit: int = MAX_TEXT) -> str:
    """Return ``text`` cut to ``limit`` characters, line breaks, terminal controls and bidi marks escaped."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
