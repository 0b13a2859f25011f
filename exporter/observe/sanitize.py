"""Text that peers chose, made fit for a log line or a page: cut, and free of characters that act instead of show."""

from __future__ import annotations

import re

#: Longest text taken over from a peer. A Close reason has at most 123 bytes (RFC 6455, section 5.5); paths and
#: addresses beyond this help nobody.
MAX_TEXT = 256

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


def sanitize(text: str, limit: int = MAX_TEXT) -> str:
    """``text`` cut to ``limit`` characters, unprintable ones (line breaks, terminal controls, bidi marks) escaped."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def path_of(target: str) -> str:
    """The path of a request target. A query string may hold tokens and is left out."""
    return sanitize(target.partition("?")[0])


def trace_id(traceparent: str) -> str:
    """The trace id of a W3C ``traceparent`` header; empty if there is none or it is malformed."""
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    found = match.group(1) if match else ""
    return "" if found == "0" * 32 else found
