"""The facts of an opening handshake."""

from __future__ import annotations

import pytest

from exporter.relay.client_connection import trace_id

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (f"00-{TRACE}-b7ad6b7169203331-01", TRACE),
        (f"  00-{TRACE}-b7ad6b7169203331-01 ", TRACE),
        (f"cc-{TRACE}-b7ad6b7169203331-01-what-the-future-brings", TRACE),
        (f"00-{TRACE}-b7ad6b7169203331", ""),
        (f"00-{TRACE.upper()}-b7ad6b7169203331-01", ""),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", ""),
        ("00-short-b7ad6b7169203331-01", ""),
        ("", ""),
        ('"} evil', ""),
    ],
)
def test_trace_id_of_a_malformed_header_is_empty(header: str, found: str) -> None:
    """W3C Trace Context, section 3.2: 32 lower-case hex digits, not all zero; anything else is none."""
    assert trace_id(header) == found
