"""Idle and keepalive timeouts: times at which proxies cut connections, and reason texts by which peers state one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

#: Seconds -> who cuts there by default. Measured where it could be (nginx, HAProxy), else from the vendors' manuals.
KNOWN_CUTOFFS: Mapping[float, str] = {
    30: "HAProxy's usual client and server timeouts, GCP HTTP load balancer",
    60: "nginx, AWS ALB",
    100: "Cloudflare",
    300: "Envoy's stream idle timeout",
    350: "AWS NLB, NAT gateways",
    600: "GCP backends' keep-alive",
    3600: "a proxy set to one hour, such as the usual advice for nginx",
    7200: "Linux TCP keepalive, firewalls",
}

#: Reason texts by which a library states that its own idle timeout ended the session, whole.
IDLE_TIMEOUT_TEXTS = re.compile(
    r"(?:Connection )?Idle Timeout"  # Jetty: AbstractWebSocketConnection (9), WebSocketConnection (10 and later)
    r"|The WebSocket session \[[^]]*\](?: read| write)?(?: idle)? timeout expired",  # Tomcat: wsSession.timeout
    re.IGNORECASE,
)

#: Reason texts by which a library states that no pong came: whole, lower case.
KEEPALIVE_TEXTS: Final = frozenset({
    "keepalive ping timeout",  # websockets, uvicorn
    "ping timed out",  # tornado
    "websocket ping timeout (peer did not respond with pong in time)",  # autobahn
    "ping timeout",  # Ktor, Engine.IO
    "no response from ping frame.",  # Deno
    "heartbeat timeout",  # Phoenix' client
    "no pong",  # Centrifugo
    "pong reply not received",  # Pusher
    "pong reply not received in time",
})  # fmt: skip
#: The same with a number in it: picows.
_KEEPALIVE_PATTERN: Final = re.compile(r"peer has not replied to ping/heartbeat request within [0-9.]+ second\(s\)")
#: Other words about a keepalive; they count only with an unanswered ping.
_KEEPALIVE_WORDS: Final = re.compile(
    r"\b(?:keep-?alive|ping|heartbeat)\b.*\b(?:time-?out|timed out|missed|lost|expired)\b"
    r"|\bpong\b.*\b(?:time-?out|timed out|missing|missed|not received)\b|\b(?:no|missing|missed) (?:pong|heartbeat)\b"
)

#: Seconds to either side. Timers of proxies run late by up to a second, and bytes take their way.
TOLERANCE = 1.5


@dataclass(frozen=True, slots=True)
class IdleCutoffs:
    """The idle times that count as a known timeout, in seconds."""

    seconds: tuple[float, ...] = field(default=tuple(KNOWN_CUTOFFS))
    tolerance: float = TOLERANCE

    def cutoff(self, idle: float) -> float | None:
        """Return the known cut-off that ``idle`` seconds match, if any; the nearest of several."""
        nearest = min(self.seconds, key=lambda known: abs(known - idle), default=None)
        return nearest if nearest is not None and abs(nearest - idle) <= self.tolerance else None


DEFAULT_CUTOFFS = IdleCutoffs()


def is_keepalive_text(reason: str) -> bool:
    """Return whether a reason text is, as a whole, one by which a library states that no pong came."""
    text = reason.lower()
    return text in KEEPALIVE_TEXTS or _KEEPALIVE_PATTERN.fullmatch(text) is not None


def mentions_keepalive(reason: str) -> bool:
    """Return whether a reason text speaks of a keepalive in any words."""
    return _KEEPALIVE_WORDS.search(reason.lower()) is not None
