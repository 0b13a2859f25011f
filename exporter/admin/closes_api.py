"""``/closes`` and ``/closes/<session id>``: the reports that are kept, for a program or for a person.

Parameters are read strictly: one that is unknown or invalid is answered with 400 and one line.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from urllib.parse import urlencode

from multidict import MultiMapping

from exporter.admin.pages import closes as pages
from exporter.admin.responses import HTML, JSON, TEXT, line, send, web
from exporter.observe.recent_closes import CloseReport, RecentCloses
from exporter.protocol.enums import Cause

PARAMETERS = (*pages.FILTERS, "format", "limit", "before")

#: Reports on one page for a person; a program gets all unless it sets a limit.
PAGE = 25
#: Characters of a value that an error message repeats.
_LONGEST = 60

#: A parameter's pattern, and the error for a value that does not match.
_CHECKS = {
    "code": (r"\d{4}|3xxx|4xxx|invalid|unknown", "is no code label such as 1011, 4xxx, invalid or unknown"),
    "cause": ("|".join(Cause), f"is none of {', '.join(Cause)}"),
    "before": (r"[0-9a-f]+-[0-9a-f]+", "is no session id"),
    "limit": (r"[1-9]\d{0,3}", "is no whole number from 1 to 9999"),
}


@dataclass(frozen=True, slots=True)
class Query:
    """The reports that a request asks for.

    :ivar filters: fields and their values.
    :ivar limit: reports at most; None is all.
    :ivar before: older reports than this session's alone.
    """

    filters: dict[str, str]
    limit: int | None = None
    before: str = ""

    def link(self, **changed: str) -> str:
        """Return the address of the same request with other parameters beside the filters."""
        given = urlencode({**self.filters, **changed})
        return f"/closes?{given}" if given else "/closes"


def select(reports: RecentCloses, query: Query) -> Iterator[CloseReport]:
    """Yield matching reports, newest first; none if the one to continue from is gone, for so are older ones."""
    last = reports.find(query.before) if query.before else None
    if query.before and last is None:
        return
    for _, report in reports.walk(last and last[0]):
        if query.filters.items() <= report.fields.items():
            yield report


def wants_html(parameters: MultiMapping[str], accept: str) -> bool:
    """Return whether to answer with HTML: by ``format``, else if Accept prefers it to JSON. Raises HTTPBadRequest."""
    if chosen := _single(parameters, "format"):
        if chosen not in ("json", "html"):
            raise _bad(f"format: {_cut(chosen)} is neither json nor html")
        return chosen == "html"
    return _quality(accept, "text/html") > _quality(accept, "application/json")


def read(parameters: MultiMapping[str], html: bool) -> Query:
    """Return the query of a list of reports. An empty value is no filter. Raises HTTPBadRequest."""
    refuse_unknown(parameters, PARAMETERS)
    given = {name: _single(parameters, name) for name in PARAMETERS}
    for name, (pattern, complaint) in _CHECKS.items():
        if given[name] and not re.fullmatch(pattern, given[name], re.ASCII):
            raise _bad(f"{name}: {_cut(given[name])} {complaint}")
    limit = int(given["limit"]) if given["limit"] else PAGE if html else None
    return Query({name: given[name] for name in pages.FILTERS if given[name]}, limit, given["before"])


def refuse_unknown(parameters: MultiMapping[str], known: tuple[str, ...]) -> None:
    """Raise HTTPBadRequest for a parameter that is not among ``known``."""
    for name in parameters:
        if name not in known:
            raise _bad(f"{_cut(name)} is no parameter here; known are {', '.join(known)}")


def _single(parameters: MultiMapping[str], name: str) -> str:
    values = parameters.getall(name, [])
    if len(values) > 1:
        raise _bad(f"{name}: given {len(values)} times, once is enough")
    return values[0] if values else ""


def _bad(why: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=f"{why}\n")


def _cut(value: str) -> str:
    return repr(value if len(value) <= _LONGEST else value[:_LONGEST] + "…")


def _quality(accept: str, wanted: str) -> float:
    """Return the quality of a media type in Accept, 0 to 1 (RFC 9110, section 12.5.1); the closest range counts."""
    ranges = (wanted, wanted.partition("/")[0] + "/*", "*/*")
    found: dict[str, float] = {}
    for item in accept.split(","):
        name, *parameters = (piece.strip().lower() for piece in item.split(";"))
        quality = next((given[2:] for given in parameters if given.startswith("q=")), "1")
        found[name] = float(quality) if re.fullmatch(r"[01](\.\d{0,3})?", quality, re.ASCII) else 0.0
    return next((found[name] for name in ranges if name in found), 0.0)


#: Readers at a time, each with an answer of up to a few megabytes under way.
MAX_READERS = 16


class ClosesApi:
    """The handlers of ``/closes``."""

    def __init__(self, reports: RecentCloses) -> None:
        self._reports = reports
        self._places = asyncio.Semaphore(MAX_READERS)

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes to a router."""
        router.add_get("/closes", self._handle)
        router.add_get("/closes/{session_id}", self._handle)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self._places.locked():
            return line(503, f"{MAX_READERS} readers are being answered already", {"Retry-After": "5"})
        async with self._places:
            html = wants_html(request.query, request.headers.get("Accept", ""))
            session_id = request.match_info.get("session_id")
            if session_id is None:
                return await self._list(request, read(request.query, html), html)
            refuse_unknown(request.query, ("format",))
            return await self._one(request, session_id, html)

    async def _one(self, request: web.Request, session_id: str, html: bool) -> web.StreamResponse:
        found = self._reports.find(session_id)
        if found is None:
            said = f"no report of session {session_id[:64]!r} is kept: it closed normally, is open or is too old"
            if html:
                return await send(request, HTML, [pages.missing_page(said)], status=404)
            return await send(request, TEXT, [f"{said}\n"], status=404)
        report = found[1].as_dict()
        if html:
            return await send(request, HTML, [pages.report_page(report)])
        return await send(request, JSON, [json.dumps(report) + "\n"])

    async def _list(self, request: web.Request, query: Query, html: bool) -> web.StreamResponse:
        if html:
            return await send(request, HTML, pages.list_page(self._reports, query, select(self._reports, query)))
        return await send(request, JSON, as_json(self._reports, query))


def as_json(reports: RecentCloses, query: Query) -> Iterator[str]:
    """Yield the list as one JSON document; ``total`` is since the start, ``next`` an address or null."""
    yield f'{{"total": {reports.total}, "kept": {len(reports)}, "closes": ['
    found = select(reports, query)
    last, comma = "", "\n"
    for report in islice(found, query.limit):
        yield comma + json.dumps(report.as_dict())
        last, comma = report.fields["session_id"], ",\n"
    more = next(found, None) is not None
    following = query.link(format="json", limit=str(query.limit), before=last) if more else None
    yield f'\n], "next": {json.dumps(following)}}}\n'
