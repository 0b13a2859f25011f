"""Private close codes of well-known protocols, mapped to causes.

A preset's codes keep their number as label value, so that graphql-ws' 4500 shows and alerts beside 1011. Codes that a
protocol only defines as a range get a cause and share the label ``3xxx`` or ``4xxx``: a label has to stay bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.protocol.enums import Cause


@dataclass(frozen=True, slots=True)
class Preset:
    """One protocol's private codes: single codes and, where only a range is defined, ranges."""

    codes: Mapping[int, Cause]
    ranges: tuple[tuple[range, Cause], ...] = field(default=())


PRESETS: Mapping[str, Preset] = {
    # The graphql-ws sub-protocol "graphql-transport-ws".
    "graphql-ws": Preset(
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
        }
    ),
    # 4000-4099: do not reconnect; 4100-4199: back off; 4200-4299: reconnect at once.
    "pusher": Preset(
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
        {
            3000: Cause.NORMAL,  # connection closed
            3001: Cause.GOING_AWAY,  # shutdown
            3004: Cause.INTERNAL_ERROR,  # internal server error
            3005: Cause.APPLICATION,  # connection expired
            3006: Cause.APPLICATION,  # subscription expired
            3008: Cause.POLICY_VIOLATION,  # slow
            3009: Cause.INTERNAL_ERROR,  # write error
            3010: Cause.APPLICATION,  # insufficient state
            3011: Cause.SERVICE_RESTART,  # force reconnect
            3012: Cause.PING_TIMEOUT,  # no pong
            3013: Cause.POLICY_VIOLATION,  # too many requests
            3014: Cause.APPLICATION,  # too many errors
        },
        (
            (range(3500, 4000), Cause.POLICY_VIOLATION),
            (range(4500, 5000), Cause.POLICY_VIOLATION),
        ),
    ),
    # 4004 and 4010-4014: do not reconnect.
    "discord": Preset(
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
        }
    ),
    "twitch-eventsub": Preset(
        {
            4000: Cause.INTERNAL_ERROR,  # internal server error
            4001: Cause.PROTOCOL_ERROR,  # client sent inbound traffic
            4002: Cause.PING_TIMEOUT,  # client failed ping-pong
            4003: Cause.POLICY_VIOLATION,  # connection unused
            4004: Cause.TIMEOUT,  # reconnect grace time expired
            4005: Cause.TIMEOUT,  # network timeout
            4006: Cause.CONNECTION_LOST,  # network error
            4007: Cause.PROTOCOL_ERROR,  # invalid reconnect URL
        }
    ),
}
