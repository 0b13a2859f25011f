"""Idle times at which proxies and load balancers are known to cut connections, and who does so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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

#: Seconds to either side. Timers of proxies run late by up to a second, and bytes take their way.
TOLERANCE = 1.5


@dataclass(frozen=True, slots=True)
class IdleCutoffs:
    """Which idle times are judged as somebody's timeout. Seconds."""

    seconds: tuple[float, ...] = field(default=tuple(KNOWN_CUTOFFS))
    tolerance: float = TOLERANCE

    def cutoff(self, idle: float) -> float | None:
        """The known cut-off that ``idle`` seconds match, if any; the nearest of several."""
        nearest = min(self.seconds, key=lambda known: abs(known - idle), default=None)
        return nearest if nearest is not None and abs(nearest - idle) <= self.tolerance else None


DEFAULT_CUTOFFS = IdleCutoffs()
