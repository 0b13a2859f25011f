"""``/closes`` and ``/closes/<session id>``: the abnormal endings that are kept, for a program or for a person."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice

from exporter.admin.closes_query import BadQuery, Query, read, refuse_unknown, select, wants_html
from exporter.admin.http import web
from exporter.admin.pages import closes as pages
from exporter.admin.responses import HTML, JSON, TEXT, line, send
from exporter.admin.state import Book

#: Readers at a time, each with an answer of up to a few megabytes under way.
MAX_READERS = 16


class Closes:
    """The handlers. What is asked is answered from ``book``."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._readers = 0

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Take the routes."""
        router.add_get("/closes", self._handle)
        router.add_get("/closes/{session_id}", self._handle)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self._readers >= MAX_READERS:
            return line(503, f"{MAX_READERS} readers are being answered already", {"Retry-After": "5"})
        self._readers += 1
        try:
            html = wants_html(request.query, request.headers.get("Accept", ""))
            session_id = request.match_info.get("session_id")
            if session_id is not None:
                refuse_unknown(request.query, ("format",))
                return await self._one(request, session_id, html)
            return await self._list(request, read(request.query, html), html)
        except BadQuery as error:
            return line(400, str(error))
        finally:
            self._readers -= 1

    async def _one(self, request: web.Request, session_id: str, html: bool) -> web.StreamResponse:
        story = self._book.get(session_id)
        if story is None:
            said = f"no story of session {session_id[:64]!r} is kept: it ended normally, lives, or was long ago"
            if html:
                return await send(request, HTML, [pages.missing(said)], status=404)
            return await send(request, TEXT, [f"{said}\n"], status=404)
        if html:
            return await send(request, HTML, [pages.one(story.as_dict())])
        return await send(request, JSON, [json.dumps(story.as_dict()) + "\n"])

    async def _list(self, request: web.Request, query: Query, html: bool) -> web.StreamResponse:
        if html:
            return await send(request, HTML, pages.listing(self._book, query))
        return await send(request, JSON, as_json(self._book, query))


def as_json(book: Book, query: Query) -> Iterator[str]:
    """The list as one JSON document, a story a piece. ``total`` is since the start, ``next`` an address or null."""
    yield f'{{"total": {book.total}, "kept": {len(book)}, "closes": ['
    found = select(book, query)
    last, comma = "", "\n"
    for story in islice(found, query.limit):
        yield comma + json.dumps(story.as_dict())
        last, comma = story.fields["session_id"], ",\n"
    more = next(found, None) is not None
    following = query.link(format="json", limit=str(query.limit), before=last) if more else None
    yield f'\n], "next": {json.dumps(following)}}}\n'
