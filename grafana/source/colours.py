"""One colour per cause, on every panel of every dashboard.

Red is a fault of the app, whichever way its framework ends a failed handler; blue is expected, green is normal, orange
is a connection lost on the client's side, yellow a timeout, purple a protocol or policy matter, pink credentials, grey
the sidecar's own. A client's or the sidecar's share of a cause is paler than the app's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from exporter.protocol.close_codes import ABNORMAL, INVALID, LIBRARIES, NO_STATUS, PRIVATE, REGISTRY, UNKNOWN
from exporter.protocol.enums import Cause, Peer
from grafana.source.config import FAULTS

GREEN, BLUE, RED, ORANGE, YELLOW, GREY = "#73BF69", "#5794F2", "#E02F44", "#FF780A", "#F2CC0C", "#8E8E96"
#: Of a number that is neither good nor bad.
SLATE = "#5A6B7B"

CAUSES: Mapping[str, str] = {
    Cause.NORMAL: GREEN,
    Cause.NO_STATUS: "#A8D8A0",
    Cause.GOING_AWAY: BLUE,
    Cause.SERVICE_RESTART: "#3366CC",
    "shutdown": "#1F4E9C",
    Cause.DRAIN: "#6ED0E0",
    "proxy-lost": "#447EBC",
    Cause.INTERNAL_ERROR: RED,
    "dropped-on-message": "#F2495C",
    "worker-lost": "#C4162A",
    Cause.CONNECTION_LOST: "#B5263A",
    Cause.CONNECTION_RESET: "#96202F",
    Cause.APP_DOWN: "#7A0F1E",
    "app-restarted": "#D6455B",
    Cause.BAD_GATEWAY: "#FF7383",
    Cause.PING_TIMEOUT: YELLOW,
    Cause.IDLE_TIMEOUT: "#D8B400",
    Cause.TIMEOUT: "#FFE27A",
    Cause.TRY_AGAIN_LATER: "#B5A642",
    "slow-client": "#C9A227",
    Cause.PROTOCOL_ERROR: "#8F3BB8",
    Cause.POLICY_VIOLATION: "#B877D9",
    Cause.MESSAGE_TOO_BIG: "#D6A8EA",
    Cause.UNAUTHORIZED: "#E36FA8",
    Cause.FORBIDDEN: "#C2417F",
    Cause.APPLICATION: "#6C8EA4",
    Cause.LIMIT: "#B0B7C3",
    "relay-lost": "#5F5F69",
    Cause.UNOBSERVED: GREY,
    "unclassified": "#737380",
}

#: Causes that are a fault where the app initiated the close, in a colour that is no red for other initiators.
_NOT_THE_APPS: Mapping[str, str] = {Cause.CONNECTION_LOST: ORANGE, Cause.CONNECTION_RESET: "#C4581A"}

#: Labels that are no code numbers, and the cause that each stands for.
_WORDS: Mapping[str, Cause] = {
    ABNORMAL: Cause.CONNECTION_LOST,
    NO_STATUS: Cause.NO_STATUS,
    LIBRARIES: Cause.APPLICATION,
    PRIVATE: Cause.APPLICATION,
    INVALID: Cause.PROTOCOL_ERROR,
    UNKNOWN: Cause.UNOBSERVED,
}

#: Every code label that is known without configuration, and its cause.
_CODES: Mapping[str, str] = {str(code): info.cause for code, info in REGISTRY.items()} | dict(_WORDS)

#: Every code label that is known without configuration, with its cause's colour.
CODES: Mapping[str, str] = {label: CAUSES[cause] for label, cause in _CODES.items()}

#: Peers in panels without causes.
PEERS: Mapping[str, str] = {Peer.CLIENT: "#8AB8FF", Peer.SERVER: "#9673B9", Peer.PROXY: GREY}

#: Share of white in a cause's colour, by initiator.
_PALENESS: Mapping[Peer, float] = {Peer.SERVER: 0.0, Peer.CLIENT: 0.5, Peer.PROXY: 0.25}


def shade(cause: str, initiator: Peer) -> str:
    """Return the colour of a cause with this initiator, as ``#RRGGBB``."""
    colour, pale = CAUSES[cause], _PALENESS[initiator]
    if cause in FAULTS and initiator is not Peer.SERVER:
        colour = _NOT_THE_APPS.get(cause, YELLOW)
    channels = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(channel + (255 - channel) * pale):02X}" for channel in channels)


def of_causes(causes: Iterable[str]) -> dict[str, str]:
    """Return the colours of the legends ``CAUSE by INITIATOR``."""
    return {f"{cause} by {peer}": shade(cause, peer) for cause in causes for peer in Peer}


def cause_patterns() -> dict[str, str]:
    """Return colours by patterns of ``CAUSE by INITIATOR``: every cause, and faults that are not the app's."""
    every = {f"^{cause} by ": colour for cause, colour in CAUSES.items()}
    return every | {f"^{cause} by {Peer.CLIENT}": shade(cause, Peer.CLIENT) for cause in FAULTS}


def code_patterns() -> dict[str, str]:
    """Return colours by patterns of ``CODE by INITIATOR``: every code, and faults that are not the app's."""
    every = {f"^{code} by ": colour for code, colour in CODES.items()}
    faults = {code: cause for code, cause in _CODES.items() if cause in FAULTS}
    return every | {f"^{code} by {Peer.CLIENT}": shade(cause, Peer.CLIENT) for code, cause in faults.items()}
