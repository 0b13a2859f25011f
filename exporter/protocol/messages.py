"""Messages between a relay and the observer, one datagram each; the first byte is the kind.

    relay ─► observer    RECORD, OPENED, NOTICE, FLUSHED
    observer ─► relay    FLUSH

Their order on one socket is the order in which they were sent, so FLUSHED says that everything before it has arrived.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct, error
from typing import Final

from mypy_extensions import mypyc_attr

from exporter.protocol import record_format
from exporter.protocol.record import SessionRecord

#: Bytes of a notice's JSON at most; its longest texts are cut to fit.
MAX_NOTICE: Final = 4096
#: Openings in one message at most.
MAX_OPENED: Final = 100
#: Bytes of any message at most: the size of a receive buffer.
MAX_MESSAGE: Final = 1 + 4096

#: Levels that a notice can have.
LEVELS: Final = ("debug", "info", "warning", "error")


class Kind(IntEnum):
    """First byte of a message."""

    RECORD = 1  # a session closed: a packed SessionRecord
    OPENED = 2  # sessions opened: a batch of Opened
    NOTICE = 3  # a line for the log: JSON
    FLUSH = 4  # bring the counters in shared memory up to date, then answer FLUSHED
    FLUSHED = 5  # the counters are up to date


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class Opened:
    """A session that opened, for the count of clients that come back.

    :ivar opened_at: monotonic seconds.
    :ivar route: index into the names of the routes.
    :ivar identity: keyed hash of the client's identity (:mod:`exporter.protocol.client_identity`).
    """

    opened_at: float
    route: int
    identity: int

    # Written out: compiled, it is called without a dict of arguments.
    def __init__(self, opened_at: float, route: int, identity: int) -> None:
        self.opened_at = opened_at
        self.route = route
        self.identity = identity


@dataclass(slots=True)
class Notice:
    """A line for the log.

    :ivar event: the event's name, ``session.unobserved`` for one.
    :ivar level: one of :data:`LEVELS`.
    :ivar fields: texts, numbers, booleans and None by name.
    """

    event: str
    level: str
    fields: dict[str, object]


_OPENED: Final = Struct("@dQH")
_pack_opened: Final = _OPENED.pack

FLUSH: Final = bytes((Kind.FLUSH,))
FLUSHED: Final = bytes((Kind.FLUSHED,))
_RECORD: Final = bytes((Kind.RECORD,))
_NOTICE: Final = bytes((Kind.NOTICE,))
_OPENINGS: Final = bytes((Kind.OPENED,))


def encode_record(closed: SessionRecord) -> bytes:
    """Return the RECORD message of a session that closed."""
    return _RECORD + record_format.pack(closed)


def pack_opening(opened_at: float, route: int, identity: int) -> bytes:
    """Return one session's part of an OPENED message; see :class:`Opened`."""
    return _pack_opened(opened_at, identity, route)


def encode_opened(batch: Sequence[bytes]) -> bytes:
    """Return the OPENED message of at most :data:`MAX_OPENED` packed sessions. Raises ValueError for more."""
    if len(batch) > MAX_OPENED:
        raise ValueError(f"{len(batch)} openings in one message")
    return _OPENINGS + b"".join(batch)


def encode_notice(notice: Notice) -> bytes:
    """Return the NOTICE message, its longest texts cut so that the JSON has at most :data:`MAX_NOTICE` bytes.

    Fields that JSON has no type for are sent as their texts.
    """
    fields = dict(notice.fields)
    encoded = _to_json(notice, fields)
    while len(encoded) > MAX_NOTICE:
        longest = max(fields, key=lambda name: len(str(fields[name])))
        text = str(fields.pop(longest))
        if len(text) > 1:
            fields[longest] = text[: len(text) // 2]
        encoded = _to_json(notice, fields)
    return _NOTICE + encoded


def decode(message: bytes) -> SessionRecord | list[Opened] | Notice | Kind:
    """Return the content of a message: for FLUSH and FLUSHED its kind. Raises ValueError if it is malformed."""
    if not message:
        raise ValueError("an empty message")
    body = message[1:]
    if message.startswith(_RECORD):  # most are records: without making a Kind
        return record_format.unpack(body)
    match Kind(message[0]):
        case Kind.OPENED:
            try:
                return [Opened(at, route, identity) for at, identity, route in _OPENED.iter_unpack(body)]
            except error as reason:
                raise ValueError(f"openings: {reason}") from reason
        case Kind.NOTICE:
            return _notice(body)
        case kind:
            if body:
                raise ValueError(f"{kind.name} with a body")
            return kind


def _notice(body: bytes) -> Notice:
    try:
        fields = json.loads(body)
    except RecursionError as reason:
        raise ValueError("a notice of nested JSON") from reason
    if not isinstance(fields, dict):
        raise ValueError("a notice that is no JSON object")
    event, level = fields.pop("event", None), fields.pop("level", None)
    if not isinstance(event, str) or level not in LEVELS:
        raise ValueError("a notice without event or level")
    return Notice(event, level, fields)


def _to_json(notice: Notice, fields: dict[str, object]) -> bytes:
    line = {**fields, "event": notice.event, "level": notice.level}
    return json.dumps(line, default=str, separators=(",", ":")).encode("ascii")
