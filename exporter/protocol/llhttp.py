"""Feeds llhttp's parsers. Not compiled: the interpreter catches an exception for half of what compiled code takes."""

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
