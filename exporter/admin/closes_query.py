"""What a request for ``/closes`` asks for, read strictly: what is not understood is refused in one clear line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from multidict import MultiMapping

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
