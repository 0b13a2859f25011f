"""``/closes`` and ``/closes/<session id>``: the reports that are kept, for a program or for a person.

Parameters are read strictly: one that is unknown or invalid is answered with 400 and one line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from multidict import MultiMapping

from exporter.admin.pages import closes as pages
from exporter.admin.responses import HTML, JSON, TEXT, line, send, web
from exporter.admin.state import Book, CloseReport
from exporter.protocol.enums import Cause

FORMATS = ("json", "html")
FILTERS = ("code", "cause", "route")
PARAMETERS = (*FILTERS, "format", "limit", "before")

#: Stories on one page for a person; a program gets all unless it says otherwise.
PAGE = 25
#: Longest value that is repeated in an answer.
_LONGEST = 60

_CODE = re.compile(r"\d{4}|3xxx|4xxx|invalid|unknown", re.ASCII)
_SESSION = re.compile(r"[0-9a-f]+-[0-9a-f]+", re.ASCII)


class BadQuery(Exception):
    """A parameter that is not understood. The message is one line for whoever asked."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which stories are wanted.

    :ivar limit: how many at most; None is all.
    :ivar before: only those older than this session's.
    """

    code: str = ""
    cause: str = ""
    route: str = ""
    limit: int | None = None
    before: str = ""

    def matches(self, fields: Mapping[str, Any]) -> bool:
        """Whether a story is wanted, as far as its fields say."""
        return (
            (not self.code or fields["code"] == self.code)
            and (not self.cause or fields["cause"] == self.cause)
            and (not self.route or fields["route"] == self.route)
        )

    @property
    def filters(self) -> dict[str, str]:
        """Those filters that are on."""
        return {name: value for name in FILTERS if (value := getattr(self, name))}

    def link(self, **changed: str) -> str:
        """The address of the same question with other parameters beside the filters."""
        asked = urlencode({**self.filters, **changed})
        return f"/closes?{asked}" if asked else "/closes"


def select(book: Book, query: Query) -> Iterator[CloseReport]:
    """The stories that are wanted, newest first, however many. None if the one to go on from is gone: so are older."""
    number = book.number(query.before) if query.before else None
    if query.before and number is None:
        return
    for _, story in book.walk(number):
        if query.matches(story.fields):
            yield story


def wants_html(parameters: MultiMapping[str], accept: str) -> bool:
    """Whether a person asks: ``format`` says so, or else Accept prefers HTML to JSON. Raises BadQuery."""
    if chosen := _single(parameters, "format"):
        if chosen not in FORMATS:
            raise BadQuery(f"format: {_cut(chosen)} is neither json nor html")
        return chosen == "html"
    return _quality(accept, "text/html") > _quality(accept, "application/json")


def read(parameters: MultiMapping[str], html: bool) -> Query:
    """The query of a list of stories. An empty value is no filter. Raises BadQuery."""
    refuse_unknown(parameters, PARAMETERS)
    asked = {name: _single(parameters, name) for name in PARAMETERS}
    if asked["code"] and not _CODE.fullmatch(asked["code"]):
        raise BadQuery(f"code: {_cut(asked['code'])} is no code label such as 1011, 4xxx, invalid or unknown")
    if asked["cause"] and asked["cause"] not in Cause.__members__.values():
        raise BadQuery(f"cause: {_cut(asked['cause'])} is none of {', '.join(Cause)}")
    if asked["before"] and not _SESSION.fullmatch(asked["before"]):
        raise BadQuery(f"before: {_cut(asked['before'])} is no session id")
    limit = PAGE if html else None
    if asked["limit"]:
        if not re.fullmatch(r"[1-9]\d{0,3}", asked["limit"], re.ASCII):
            raise BadQuery(f"limit: {_cut(asked['limit'])} is no whole number from 1 to 9999")
        limit = int(asked["limit"])
    return Query(asked["code"], asked["cause"], asked["route"], limit, asked["before"])


def refuse_unknown(parameters: MultiMapping[str], known: tuple[str, ...]) -> None:
    """Raises BadQuery for a parameter that is not among ``known``."""
    for name in parameters:
        if name not in known:
            raise BadQuery(f"{_cut(name)} is no parameter here; known are {', '.join(known)}")


def _single(parameters: MultiMapping[str], name: str) -> str:
    values = parameters.getall(name, [])
    if len(values) > 1:
        raise BadQuery(f"{name}: given {len(values)} times, once is enough")
    return values[0] if values else ""


def _cut(value: str) -> str:
    return repr(value if len(value) <= _LONGEST else value[:_LONGEST] + "…")


def _quality(accept: str, wanted: str) -> float:
    """How much Accept wants a media type, 0 to 1 (RFC 9110, section 12.5.1); the closest range counts."""
    ranges = (wanted, wanted.partition("/")[0] + "/*", "*/*")
    found: dict[str, float] = {}
    for unlink in accept.split(","):
        name, *parameters = (piece.strip().lower() for piece in unlink.split(";"))
        quality = next((given[2:] for given in parameters if given.startswith("q=")), "1")
        found[name] = float(quality) if re.fullmatch(r"[01](\.\d{0,3})?", quality, re.ASCII) else 0.0
    return next((found[name] for name in ranges if name in found), 0.0)


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
            said = f"no report of session {session_id[:64]!r} is kept: it closed normally, is open or is too old"
            if html:
                return await send(request, HTML, [pages.missing(said)], status=404)
            return await send(request, TEXT, [f"{said}\n"], status=404)
        if html:
            return await send(request, HTML, [pages.one(story.as_dict())])
        return await send(request, JSON, [json.dumps(story.as_dict()) + "\n"])

    async def _list(self, request: web.Request, query: Query, html: bool) -> web.StreamResponse:
        if html:
            return await send(request, HTML, pages.listing(self._book, query, select(self._book, query)))
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
