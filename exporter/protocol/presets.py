"""Close codes and reason texts of well-known protocols and frameworks, mapped to causes.

A preset's codes keep their number as label value, so that graphql-ws' 4500 shows and alerts beside 1011. Codes that a
protocol only defines as a range get a cause and share the label ``3xxx`` or ``4xxx``: a label has to stay bounded.
With ``--preset auto`` each session is read by the preset that its subprotocol or path identifies, where that is
unambiguous. SignalR, Action Cable and Socket.IO have no preset, because they give their reasons in messages and close
with registered codes: 1000 or 1011, 1000, 1000 or 1005 (aspnetcore, WebSocketsServerTransport.cs; rails,
action_cable/connection/base.rb; Engine.IO protocol, packet 1). Engine.IO's heartbeats are followed in every session.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from exporter.protocol.close_codes import CloseCodeMap
from exporter.protocol.enums import Cause
from exporter.protocol.idle_timeouts import DEFAULT_CUTOFFS, IdleCutoffs
from exporter.protocol.reason_rules import LIBRARY_TEXTS, Reasons, ReasonText, reason_text
from exporter.protocol.record import SessionRecord

#: The name that stands for all presets that a session's handshake identifies.
AUTO: Final = "auto"


@dataclass(frozen=True, slots=True)
class Preset:
    """The close codes of one protocol or framework.

    :ivar source: where they are defined.
    :ivar codes: causes of single codes.
    :ivar ranges: causes of ranges of private codes, where only a range is defined.
    :ivar texts: causes of reason texts, by code; they match as a whole.
    :ivar subprotocols: subprotocols that only this protocol uses.
    :ivar paths: ends of paths that only this framework uses.
    """

    source: str
    codes: Mapping[int, Cause] = field(default_factory=dict)
    ranges: tuple[tuple[range, Cause], ...] = ()
    texts: Mapping[int, tuple[ReasonText, ...]] = field(default_factory=dict)
    subprotocols: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


PRESETS: Mapping[str, Preset] = {
    "graphql-ws": Preset(
        "https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md and its enum CloseCode",
        {
            4004: Cause.PROTOCOL_ERROR,  # bad response
            4005: Cause.INTERNAL_ERROR,  # internal client error
            4400: Cause.PROTOCOL_ERROR,  # bad request
            4401: Cause.UNAUTHORIZED,
            4403: Cause.FORBIDDEN,
            4406: Cause.PROTOCOL_ERROR,  # subprotocol not acceptable
            4408: Cause.TIMEOUT,  # connection initialisation timeout
            4409: Cause.POLICY_VIOLATION,  # subscriber already exists
            4429: Cause.POLICY_VIOLATION,  # too many initialisation requests
            4500: Cause.INTERNAL_ERROR,  # internal server error
            4504: Cause.TIMEOUT,  # connection acknowledgement timeout
        },
        subprotocols=("graphql-transport-ws",),
    ),
    "litestar": Preset(
        "https://docs.litestar.dev/latest/usage/websockets.html; WebSocketException, ExceptionHandlerMiddleware",
        {4500: Cause.INTERNAL_ERROR},  # any exception of a handler
    ),
    # 4000-4099: do not reconnect; 4100-4199: back off; 4200-4299: reconnect at once.
    "pusher": Preset(
        "https://pusher.com/docs/channels/library_auth_reference/pusher-websockets-protocol/#error-codes",
        {
            4001: Cause.UNAUTHORIZED,  # application does not exist
            4003: Cause.FORBIDDEN,  # application disabled
            4004: Cause.POLICY_VIOLATION,  # over connection quota
            4009: Cause.UNAUTHORIZED,  # not authorised within the timeout
            4100: Cause.TRY_AGAIN_LATER,  # over capacity
            4200: Cause.SERVICE_RESTART,  # reconnect at once
            4201: Cause.PING_TIMEOUT,  # no pong
            4202: Cause.TIMEOUT,  # closed after inactivity
        },
        (
            (range(4000, 4100), Cause.POLICY_VIOLATION),
            (range(4100, 4200), Cause.TRY_AGAIN_LATER),
            (range(4200, 4300), Cause.SERVICE_RESTART),
        ),
    ),
    # 3500-3999 and 4500-4999: terminal, do not reconnect.
    "centrifugo": Preset(
        "https://centrifugal.dev/docs/server/codes",
        {
            3000: Cause.NORMAL,  # connection closed
            3001: Cause.GOING_AWAY,  # shutdown
            3004: Cause.INTERNAL_ERROR,  # internal server error
            3005: Cause.APPLICATION,  # connection expired
            3006: Cause.APPLICATION,  # subscription expired
            3008: Cause.SLOW_CLIENT,  # slow
            3009: Cause.INTERNAL_ERROR,  # write error
            3010: Cause.APPLICATION,  # insufficient state
            3011: Cause.SERVICE_RESTART,  # force reconnect
            3012: Cause.PING_TIMEOUT,  # no pong
            3013: Cause.POLICY_VIOLATION,  # too many requests
            3500: Cause.UNAUTHORIZED,  # invalid token
            3501: Cause.PROTOCOL_ERROR,  # bad request
            3502: Cause.TIMEOUT,  # not authenticated in time
            3506: Cause.PROTOCOL_ERROR,  # binary data for a JSON client
            3507: Cause.FORBIDDEN,  # permission denied
        },
        (
            (range(3500, 4000), Cause.POLICY_VIOLATION),
            (range(4500, 5000), Cause.POLICY_VIOLATION),
        ),
    ),
    # 4004 and 4010-4014: do not reconnect.
    "discord": Preset(
        "https://discord.com/developers/docs/topics/opcodes-and-status-codes#gateway-gateway-close-event-codes",
        {
            4000: Cause.INTERNAL_ERROR,  # unknown error: "we're not sure what went wrong"
            4001: Cause.PROTOCOL_ERROR,  # unknown opcode
            4002: Cause.PROTOCOL_ERROR,  # decode error
            4003: Cause.UNAUTHORIZED,  # not authenticated
            4004: Cause.UNAUTHORIZED,  # authentication failed
            4005: Cause.PROTOCOL_ERROR,  # already authenticated
            4007: Cause.PROTOCOL_ERROR,  # invalid sequence
            4008: Cause.POLICY_VIOLATION,  # rate limited
            4009: Cause.TIMEOUT,  # session timed out
            4010: Cause.POLICY_VIOLATION,  # invalid shard
            4011: Cause.POLICY_VIOLATION,  # sharding required
            4012: Cause.PROTOCOL_ERROR,  # invalid API version
            4013: Cause.PROTOCOL_ERROR,  # invalid intents
            4014: Cause.FORBIDDEN,  # disallowed intents
        },
    ),
    "twitch-eventsub": Preset(
        "https://dev.twitch.tv/docs/eventsub/handling-websocket-events/#close-message",
        {
            4000: Cause.INTERNAL_ERROR,  # internal server error
            4001: Cause.PROTOCOL_ERROR,  # client sent inbound traffic
            4002: Cause.PING_TIMEOUT,  # client failed ping-pong
            4003: Cause.POLICY_VIOLATION,  # connection unused
            4004: Cause.TIMEOUT,  # reconnect grace time expired
            4005: Cause.TIMEOUT,  # network timeout
            4006: Cause.CONNECTION_LOST,  # network error
            4007: Cause.PROTOCOL_ERROR,  # invalid reconnect URL
        },
    ),
    # 4500 is CloseStatus.SESSION_NOT_RELIABLE: a message could not be sent in time, too much waits to be sent, or no
    # first message came within a minute. Older versions send no text.
    "stomp": Preset(
        "Spring's CloseStatus, ConcurrentWebSocketSessionDecorator and SubProtocolWebSocketHandler",
        {4500: Cause.TIMEOUT},
        texts={4500: (reason_text("Failed to send message within the configured send limit", Cause.SLOW_CLIENT),)},
        subprotocols=("v10.stomp", "v11.stomp", "v12.stomp"),
    ),
    "mqtt": Preset(
        "https://github.com/rabbitmq/rabbitmq-server, deps/rabbitmq_web_mqtt/src/rabbit_web_mqtt_handler.erl",
        texts={1000: (reason_text("MQTT keepalive timeout", Cause.PING_TIMEOUT),)},
        subprotocols=("mqtt", "mqttv3.1"),
    ),
    # Bandit sends a bare 1002 to a client whose heartbeats have stopped for a minute.
    "phoenix": Preset(
        "https://github.com/mtrudel/bandit, lib/bandit/websocket/connection.ex: handle_timeout",
        texts={1002: (reason_text("", Cause.IDLE_TIMEOUT),)},
        paths=("/live/websocket",),
    ),
}


class CodeMaps:
    """Chooses the map of close codes by which a session is read.

    :param names: the presets of every session; :data:`AUTO` adds those that a session's handshake identifies.
    :param codes: causes of codes that the operator named; they go before those of presets.
    """

    def __init__(
        self,
        names: Collection[str] = (),
        codes: Mapping[int, Cause] | None = None,
        idle: IdleCutoffs = DEFAULT_CUTOFFS,
        reasons: Reasons | None = None,
    ) -> None:
        chosen = [PRESETS[name] for name in names if name != AUTO]

        def combined(presets: Iterable[Preset]) -> CloseCodeMap:
            known: dict[int, Cause] = {}
            ranges: list[tuple[range, Cause]] = []
            texts: dict[int, tuple[ReasonText, ...]] = dict(LIBRARY_TEXTS)
            for preset in presets:
                known |= preset.codes
                ranges += preset.ranges
                for code, more in preset.texts.items():
                    texts[code] = (*texts.get(code, ()), *more)
            return CloseCodeMap(known | dict(codes or {}), ranges, idle, reasons, texts)

        found = [preset for preset in PRESETS.values() if preset.subprotocols or preset.paths] if AUTO in names else []
        maps = [(preset, combined([*chosen, preset])) for preset in found]
        self.default = combined(chosen)
        self.maps = (self.default, *(own for _, own in maps))
        self._by_subprotocol = {name.lower(): own for preset, own in maps for name in preset.subprotocols}
        self._by_path = [(path, own) for preset, own in maps for path in preset.paths]

    def choose(self, record: SessionRecord) -> CloseCodeMap:
        """Return the map for a session."""
        if len(self.maps) == 1:
            return self.default
        if (codes := self._by_subprotocol.get(record.subprotocol.lower())) is not None:
            return codes
        path = record.path.partition("?")[0]
        return next((codes for end, codes in self._by_path if path.endswith(end)), self.default)
