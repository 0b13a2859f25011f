"""A log line's fields as JSON: the text that ``json.dumps`` makes of them, for a third of its work.

How it works
============
Lines of one kind have the same fields in the same order. What stands between their values is made once for each kind
(:func:`_parts`) and then filled in. A value is written by what its exact type has in :data:`_WRITERS`; a line with any
other type in it goes to the standard library's encoder, which knows all of them. What is told of each peer, most lines'
only inner objects, has a way of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from json import JSONEncoder
from json.encoder import encode_basestring_ascii as _text
from typing import Any

from exporter.protocol.words import PEERS, Cause, ConnectError, Peer, Unobserved

#: Kinds of lines, and of objects within lines, that are remembered; there are some dozens.
_KINDS = 128

_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def dumps(fields: dict[str, Any], default: Callable[[Any], Any] = repr) -> str:
    """The text of an object; ``default`` says what to write for a value that JSON does not know."""
    writers = _WRITERS
    try:
        values = [writers[type(value)](value) for value in fields.values()]
    except KeyError:
        return JSONEncoder(default=default).encode(fields)
    parts = _parts(*fields).copy()
    parts[1::2] = values
    return "".join(parts)


@lru_cache(_KINDS)
def _parts(*names: str) -> list[str]:
    """An object of these names, cut where its values go: each has an empty part for a place."""
    before = [("{" if at == 0 else ", ") + _text(name) + ": " for at, name in enumerate(names)]
    return [part for text in before for part in (text, "")] + ["}" if names else "{}"]


def _inner(fields: dict[str, Any]) -> str:
    if tuple(fields) != PEERS:
        return dumps(fields, _give_up)
    client, server = fields.values()
    return f'{{"client": {_WRITERS[type(client)](client)}, "server": {_WRITERS[type(server)](server)}}}'


def _give_up(value: object) -> None:
    """An object inside another does not know the default: leave all of it to the library."""
    raise KeyError


def _float(value: float) -> str:
    text = repr(value)
    return _NOT_FINITE.get(text, text)


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _null(value: None) -> str:
    return "null"


_WRITERS: dict[type, Callable[[Any], str]] = {
    str: _text,
    int: repr,
    float: _float,
    bool: _bool,
    type(None): _null,
    dict: _inner,
    **dict.fromkeys((Cause, Peer, Unobserved, ConnectError), _text),
}
