"""One colour for each cause, on every panel of every dashboard, so that red means the same thing everywhere.

Blue is weather (somebody goes away), green is a conversation that was over, red is a fault of the server, orange a
connection that was dropped without a word, yellow a silence, purple a quarrel between the peers, pink a matter of
credentials, grey our own doing. The server's share of a cause has the full colour, the client's and ours a paler one.
"""

from __future__ import annotations

from collections.abc import Mapping

from exporter.protocol.close_codes import ABNORMAL, INVALID, LIBRARIES, NO_STATUS, PRIVATE, REGISTRY, UNKNOWN
from exporter.protocol.enums import Cause, Peer

GREEN, BLUE, RED, ORANGE, YELLOW, GREY = "#73BF69", "#5794F2", "#E02F44", "#FF780A", "#F2CC0C", "#8E8E96"
#: Of a number that is neither good nor bad.
SLATE = "#5A6B7B"

CAUSES: Mapping[str, str] = {
    Cause.NORMAL: GREEN,
    Cause.NO_STATUS: "#A8D8A0",
    Cause.GOING_AWAY: BLUE,
    Cause.SERVICE_RESTART: "#3366CC",
    Cause.DRAIN: "#6ED0E0",
    Cause.INTERNAL_ERROR: RED,
    Cause.APP_DOWN: "#A3152A",
    Cause.CONNECTION_LOST: ORANGE,
    Cause.CONNECTION_RESET: "#C4581A",
    Cause.PING_TIMEOUT: YELLOW,
    Cause.IDLE_TIMEOUT: "#D8B400",
    Cause.TIMEOUT: "#FFE27A",
    Cause.TRY_AGAIN_LATER: "#B5A642",
    Cause.BAD_GATEWAY: "#FF7383",
    Cause.PROTOCOL_ERROR: "#8F3BB8",
    Cause.POLICY_VIOLATION: "#B877D9",
    Cause.MESSAGE_TOO_BIG: "#D6A8EA",
    Cause.UNAUTHORIZED: "#E36FA8",
    Cause.FORBIDDEN: "#C2417F",
    Cause.APPLICATION: "#6C8EA4",
    Cause.LIMIT: "#B0B7C3",
    Cause.UNOBSERVED: GREY,
}

#: Labels that are no code numbers, and the cause that they stand for.
_WORDS: Mapping[str, Cause] = {
    ABNORMAL: Cause.CONNECTION_LOST,
    NO_STATUS: Cause.NO_STATUS,
    LIBRARIES: Cause.APPLICATION,
    PRIVATE: Cause.APPLICATION,
    INVALID: Cause.PROTOCOL_ERROR,
    UNKNOWN: Cause.UNOBSERVED,
}

#: Every code label that is known without configuration, with its cause's colour.
CODES: Mapping[str, str] = {
    label: CAUSES[cause]
    for label, cause in ({str(code): info.cause for code, info in REGISTRY.items()} | dict(_WORDS)).items()
}

#: Peers where no cause is told. A client's share is not calmer than a server's, only less ours to mend.
PEERS: Mapping[str, str] = {Peer.CLIENT: "#8AB8FF", Peer.SERVER: "#9673B9", Peer.PROXY: GREY}

#: How much white is mixed into a cause's colour for whoever began the ending.
_PALENESS: Mapping[Peer, float] = {Peer.SERVER: 0.0, Peer.CLIENT: 0.5, Peer.PROXY: 0.25}


def shade(cause: Cause, initiator: Peer) -> str:
    """The colour of a cause's share that ``initiator`` began, as ``#RRGGBB``."""
    pale = _PALENESS[initiator]
    channels = (int(CAUSES[cause][i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(channel + (255 - channel) * pale):02X}" for channel in channels)
