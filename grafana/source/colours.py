"""One colour per cause, on every panel of every dashboard.

Red is a fault of the app, whichever way its framework ends a failed handler; blue is expected, green is normal, orange
is a connection lost on the client's side, yellow a timeout, purple a protocol or policy matter, pink credentials, grey
the sidecar's own. A client's or the sidecar's share of a cause is paler than the app's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from exporter.protocol.causes import CAUSES as TABLE
from exporter.protocol.causes import SERVER_FAULTS, ColourClass
from exporter.protocol.close_codes import ABNORMAL, INVALID, LIBRARIES, NO_STATUS, PRIVATE, REGISTRY, UNKNOWN
from exporter.protocol.enums import Cause, Peer

GREEN, BLUE, RED, ORANGE, YELLOW, GREY = "#73BF69", "#5794F2", "#E02F44", "#FF780A", "#F2CC0C", "#8E8E96"
#: Of a number that is neither good nor bad.
SLATE = "#5A6B7B"

#: Colours of each family, for its causes in the order of their table.
_FAMILIES: Mapping[ColourClass, tuple[str, ...]] = {
    ColourClass.RED: (RED, "#F2495C", "#C4162A", "#B5263A", "#96202F", "#7A0F1E", "#D6455B", "#FF7383"),
    ColourClass.BLUE: (BLUE, "#3366CC", "#1F4E9C", "#6ED0E0", "#447EBC"),
    ColourClass.GREEN: (GREEN, "#A8D8A0"),
    ColourClass.ORANGE: (ORANGE, "#C4581A"),
    ColourClass.YELLOW: (YELLOW, "#D8B400", "#FFE27A", "#B5A642", "#C9A227"),
    ColourClass.PURPLE: ("#8F3BB8", "#B877D9", "#D6A8EA"),
    ColourClass.PINK: ("#E36FA8", "#C2417F"),
    ColourClass.GREY: ("#B0B7C3", "#6C8EA4", "#5F5F69", GREY, "#737380"),
}


def _colours() -> dict[Cause, str]:
    left = {family: iter(colours) for family, colours in _FAMILIES.items()}
    return {cause: next(left[info.colour]) for cause, info in TABLE.items()}


CAUSES: Mapping[Cause, str] = _colours()

#: Connections lost elsewhere than at the app.
_LOST: Mapping[Cause, str] = dict(
    zip((Cause.CONNECTION_LOST, Cause.CONNECTION_RESET), _FAMILIES[ColourClass.ORANGE], strict=True)
)

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
_CODES: Mapping[str, Cause] = {str(code): info.cause for code, info in REGISTRY.items()} | dict(_WORDS)

#: Every code label that is known without configuration, with its cause's colour.
CODES: Mapping[str, str] = {label: CAUSES[cause] for label, cause in _CODES.items()}

#: Peers in panels without causes.
PEERS: Mapping[str, str] = {Peer.CLIENT: "#8AB8FF", Peer.SERVER: "#9673B9", Peer.PROXY: GREY}

#: Share of white in a cause's colour, by initiator.
_PALENESS: Mapping[Peer, float] = {Peer.SERVER: 0.0, Peer.CLIENT: 0.5, Peer.PROXY: 0.25}


def shade(cause: Cause, initiator: Peer) -> str:
    """Return the colour of a cause with this initiator, as ``#RRGGBB``."""
    colour, pale = CAUSES[cause], _PALENESS[initiator]
    if TABLE[cause].server_fault and initiator is not Peer.SERVER:
        colour = _LOST.get(cause, YELLOW)
    channels = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(channel + (255 - channel) * pale):02X}" for channel in channels)


def of_causes(causes: Iterable[Cause]) -> dict[str, str]:
    """Return the colours of the legends ``CAUSE by INITIATOR``."""
    return {f"{cause} by {peer}": shade(cause, peer) for cause in causes for peer in TABLE[cause].initiators}


def cause_patterns() -> dict[str, str]:
    """Return colours by patterns of ``CAUSE by INITIATOR``: every cause, and faults that are not the app's."""
    every = {f"^{cause} by ": colour for cause, colour in CAUSES.items()}
    return every | {
        f"^{cause} by {Peer.CLIENT}": shade(cause, Peer.CLIENT)
        for cause in SERVER_FAULTS
        if Peer.CLIENT in TABLE[cause].initiators
    }


def code_patterns() -> dict[str, str]:
    """Return colours by patterns of ``CODE by INITIATOR``: every code, and faults that are not the app's."""
    every = {f"^{code} by ": colour for code, colour in CODES.items()}
    faults = {code: cause for code, cause in _CODES.items() if TABLE[cause].server_fault}
    return every | {f"^{code} by {Peer.CLIENT}": shade(cause, Peer.CLIENT) for code, cause in faults.items()}
