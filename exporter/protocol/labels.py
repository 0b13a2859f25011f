"""Label values that are known in advance: routes, and the sets of code, cause and initiator of closes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate

from exporter.protocol.close_codes import ABNORMAL, NO_STATUS, UNKNOWN, CloseCodeMap
from exporter.protocol.enums import PEERS, Cause, Peer

ALL = "all"
OTHER = "other"


class Router:
    """Find the first pattern that matches a path.

    :param patterns: shell-style patterns such as ``/chat/*``; a pattern's own text is its label value.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._patterns = [(pattern, _prefix(pattern), re.compile(translate(pattern)).match) for pattern in patterns]

    @property
    def names(self) -> list[str]:
        """Every value that :meth:`route` can return."""
        return [*(pattern for pattern, _, _ in self._patterns), OTHER] if self._patterns else [ALL]

    def index(self, path: str) -> int:
        """Return the position in :attr:`names` of the first pattern that matches ``path`` without its query."""
        if not self._patterns:
            return 0
        if "?" in path:
            path = path.partition("?")[0]
        for index, (_, prefix, matches) in enumerate(self._patterns):
            if path.startswith(prefix) if prefix else matches(path):
                return index
        return len(self._patterns)


def _prefix(pattern: str) -> str:
    """Return the prefix of all matching paths if nothing else matters: it is a fifth of the pattern's cost to test."""
    prefix = pattern.removesuffix("*")
    return "" if prefix == pattern or set(prefix) & set("*?[") else prefix


#: The Close codes that the sidecar may send (RFC 6455: 1001 going away; IANA: 1012 service restart).
OWN_CODES = (1001, 1012)
#: Causes of an end that the sidecar begins.
OWN_CAUSES = (Cause.DRAIN, Cause.LIMIT)
#: Codes without a reason that an unanswered ping, a refusing port or an idle timeout may explain.
_PING_CODES = ("1000", "1001", NO_STATUS, "1011", ABNORMAL)
_GONE_CODES = ("1000", NO_STATUS, "1011", ABNORMAL)


def known_label_sets(*maps: CloseCodeMap) -> list[tuple[str, Cause, Peer]]:
    """Return every (code, cause, initiator) that is known in advance, without repeats: the series to start at 0."""
    sets: dict[tuple[str, Cause, Peer], None] = {}

    def add(codes: Iterable[str], causes: Iterable[Cause], peers: Iterable[Peer]) -> None:
        causes, peers = tuple(causes), tuple(peers)
        sets.update({(code, cause, peer): None for code in codes for cause in causes for peer in peers})

    server, client = (Peer.SERVER,), (Peer.CLIENT,)
    for codes in maps:
        for classification in codes.rows():
            add((classification.label,), (classification.cause, *sorted(codes.reasons.causes)), PEERS)
        for code, texts in codes.texts.items():
            add((codes.classify_code(code).label,), (text.cause for text in texts), server)
    add((NO_STATUS,), (Cause.NO_STATUS,), PEERS)
    add(_PING_CODES, (Cause.PING_TIMEOUT,), PEERS)
    add(("1001", ABNORMAL), (Cause.IDLE_TIMEOUT,), PEERS)
    add(_GONE_CODES, (Cause.SHUTDOWN, Cause.APP_DOWN), server)
    add((ABNORMAL,), (Cause.CONNECTION_LOST, Cause.CONNECTION_RESET), PEERS)
    add((ABNORMAL,), (Cause.INTERNAL_ERROR, Cause.APP_RESTARTED, Cause.SLOW_CLIENT, Cause.PROTOCOL_ERROR,
                      Cause.MESSAGE_TOO_BIG, Cause.WORKER_LOST, Cause.DROPPED_ON_MESSAGE), server)  # fmt: skip
    add((ABNORMAL,), (Cause.PROXY_LOST,), client)
    add((UNKNOWN,), (Cause.UNOBSERVED,), PEERS)
    add((*map(str, OWN_CODES), ABNORMAL), OWN_CAUSES, (Peer.PROXY,))
    add((ABNORMAL,), (Cause.RELAY_LOST,), (Peer.PROXY,))
    add((UNKNOWN,), (Cause.UNCLASSIFIED,), Peer)
    return list(sets)


def code_labels(*maps: CloseCodeMap) -> tuple[str, ...]:
    """Return every value that the label ``code`` can have."""
    return tuple(dict.fromkeys(code for code, _, _ in known_label_sets(*maps)))
