"""Feeds llhttp's parsers. Not compiled: the interpreter catches an exception for half of what compiled code takes."""

from __future__ import annotations

from httptools import HttpParserUpgrade, HttpRequestParser, HttpResponseParser


def feed(parser: HttpRequestParser | HttpResponseParser, data: bytes) -> None:
    """Parse the next bytes of a head; an upgrade ends it like any other. Raises HttpParserError."""
    try:
        parser.feed_data(data)
    except HttpParserUpgrade:
        return
