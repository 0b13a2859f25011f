"""Feed llhttp's parsers. Not compiled: to catch an exception costs the interpreter half as much as compiled code."""

from __future__ import annotations

from httptools import HttpParserUpgrade, HttpRequestParser, HttpResponseParser


def feed(parser: HttpRequestParser | HttpResponseParser, data: bytes) -> bool:
    """Parse the next bytes of a head; an upgrade ends it like any other.

    Return whether the head is complete and the parser can begin another one. Raises HttpParserError.
    """
    try:
        parser.feed_data(data)
    except HttpParserUpgrade:
        return parser.should_keep_alive()
    return False
