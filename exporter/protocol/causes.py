"""The table of causes: severity, meaning, remedy and who can have each. Everything else reads it from here.

To add a cause: a member of :class:`~exporter.protocol.enums.Cause`, an entry here, and the evidence for it in
:mod:`exporter.protocol.classify`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from exporter.protocol.enums import PEERS, Cause, Peer, Severity


class ColourClass(StrEnum):
    """The colour family in which dashboards draw a cause."""

    RED = "red"  # faults of the server
    ORANGE = "orange"  # connections lost elsewhere
    YELLOW = "yellow"  # timeouts and overload
    PURPLE = "purple"  # protocol and policy
    PINK = "pink"  # credentials
    BLUE = "blue"  # rollouts, restarts, drains, leaving browsers
    GREEN = "green"  # normal
    GREY = "grey"  # the sidecar's own, and the application's own


@dataclass(frozen=True, slots=True)
class CauseInfo:
    """One cause. ``meaning`` and ``remedy`` are sentences for a person on call.

    :ivar initiators: the initiators with which it can come.
    :ivar abnormal: logged as a warning and kept as a report.
    :ivar server_fault: a fault of the server if the server is the initiator; counts against its objective.
    :ivar routine: explained by a rollout, a scale-down, a leaving browser or a setting of the sidecar.
    """

    cause: Cause
    severity: Severity
    colour: ColourClass
    meaning: str
    remedy: str
    initiators: tuple[Peer, ...] = PEERS
    abnormal: bool = True
    server_fault: bool = False
    routine: bool = False


_SERVER, _PROXY = (Peer.SERVER,), (Peer.PROXY,)
_FAULT, _EXPECTED, _NORMAL = Severity.FAULT, Severity.EXPECTED, Severity.NORMAL

_TABLE = (
    CauseInfo(
        Cause.INTERNAL_ERROR, _FAULT, ColourClass.RED, server_fault=True,
        meaning="An unhandled error ended the session: the WebSocket counterpart of HTTP 500.",
        remedy="Look for the stack trace in the server's log at that moment.",
    ),
    CauseInfo(
        Cause.DROPPED_ON_MESSAGE, _FAULT, ColourClass.RED, server_fault=True, initiators=_SERVER,
        meaning="The server dropped the connection right after a client's message that it did not answer: in most "
        "frameworks an unhandled exception.",
        remedy="Look for an exception in the server's log at that moment; the report shows the message's size.",
    ),
    CauseInfo(
        Cause.WORKER_LOST, _FAULT, ColourClass.RED, server_fault=True, initiators=_SERVER,
        meaning="Several sessions lost the server at the same moment while it still accepts connections: one of its "
        "worker processes died or was replaced.",
        remedy="Look for a killed, crashed or recycled worker in the server's log, and for an out-of-memory kill.",
    ),
    CauseInfo(
        Cause.CONNECTION_LOST, _FAULT, ColourClass.RED, server_fault=True,
        meaning="TCP ended without a Close frame, and nothing else shows why.",
        remedy="By the server: look in its log for an exception or a kill at that moment. By the client: a lost "
        "network or a closed app; compare its share of all closes with last week.",
    ),
    CauseInfo(
        Cause.CONNECTION_RESET, _FAULT, ColourClass.RED, server_fault=True,
        meaning="TCP was reset without a Close frame: a crash, a kill, or a device on the way.",
        remedy="By the server: look for a crash or a kill at that moment. By the client: compare the addresses in the "
        "reports; one network points at a firewall or proxy there.",
    ),
    CauseInfo(
        Cause.APP_DOWN, _FAULT, ColourClass.RED, server_fault=True, initiators=_SERVER,
        meaning="The server ended the session and refuses new connections: its process has ended.",
        remedy="Look at the app container's exit code, restarts and out-of-memory kills.",
    ),
    CauseInfo(
        Cause.APP_RESTARTED, _FAULT, ColourClass.RED, server_fault=True, initiators=_SERVER,
        meaning="The server dropped the connection and has a new listening socket: its process was restarted.",
        remedy="Look in the log of the server's supervisor for a crash or a restart at that moment.",
    ),
    CauseInfo(
        Cause.BAD_GATEWAY, _FAULT, ColourClass.RED, server_fault=True,
        meaning="A gateway got an invalid answer from the server behind it: the counterpart of HTTP 502.",
        remedy="Look at the server behind the gateway.",
    ),
    CauseInfo(
        Cause.GOING_AWAY, _EXPECTED, ColourClass.BLUE, abnormal=False, routine=True,
        meaning="A server is shutting down, or a browser is leaving the page.",
        remedy="Nothing, if a rollout explains a wave by the server. Otherwise find out who stops the server.",
    ),
    CauseInfo(
        Cause.SERVICE_RESTART, _EXPECTED, ColourClass.BLUE, abnormal=False, routine=True,
        meaning="The server is restarting.",
        remedy="Nothing, if a rollout explains it.",
    ),
    CauseInfo(
        Cause.SHUTDOWN, _EXPECTED, ColourClass.BLUE, initiators=_SERVER, abnormal=False, routine=True,
        meaning="The server ended the session while the pod was draining or stopping, without a code that says so.",
        remedy="Nothing. Clients reconnect sooner if the app sends Close 1001 when it stops.",
    ),
    CauseInfo(
        Cause.DRAIN, _EXPECTED, ColourClass.BLUE, initiators=_PROXY, abnormal=False, routine=True,
        meaning="The sidecar ended the session in a drain, so that the pod could stop.",
        remedy="Nothing.",
    ),
    CauseInfo(
        Cause.LIMIT, _EXPECTED, ColourClass.GREY, initiators=_PROXY, abnormal=False, routine=True,
        meaning="The sidecar ended the session at a configured limit.",
        remedy="Nothing; --max-session-age sets the limit.",
    ),
    CauseInfo(
        Cause.PROXY_LOST, _EXPECTED, ColourClass.BLUE, routine=True, initiators=(Peer.CLIENT,),
        meaning="Many sessions of one client-side address ended at the same moment: a proxy or load balancer in front "
        "was reloaded or stopped.",
        remedy="Compare the time with reloads and rollouts of the proxy at that address; let it finish open "
        "connections when it reloads.",
    ),
    CauseInfo(
        Cause.IDLE_TIMEOUT, _FAULT, ColourClass.YELLOW,
        meaning="The session ended after an idle time at which a proxy, a load balancer or the server gives up.",
        remedy="Send pings more often than that, or raise the timeout that the report names.",
    ),
    CauseInfo(
        Cause.PING_TIMEOUT, _EXPECTED, ColourClass.YELLOW,
        meaning="A ping got no pong in time: the peer or the network to it was gone or stuck.",
        remedy="Nothing for single clients. A wave points at a network, or at a peer that is too busy to answer pings.",
    ),
    CauseInfo(
        Cause.SLOW_CLIENT, _FAULT, ColourClass.YELLOW,
        meaning="The server dropped a client that did not read its data fast enough.",
        remedy="Send less or smaller data to slow clients, or let the server skip messages for them.",
    ),
    CauseInfo(
        Cause.TIMEOUT, _FAULT, ColourClass.YELLOW,
        meaning="An operation took too long: the counterpart of HTTP 408.",
        remedy="Find out for which side the other waited: the reason text and the ages of the last frames show it.",
    ),
    CauseInfo(
        Cause.TRY_AGAIN_LATER, _EXPECTED, ColourClass.YELLOW,
        meaning="The server is overloaded and sheds sessions.",
        remedy="Add capacity, or find the source of the load.",
    ),
    CauseInfo(
        Cause.PROTOCOL_ERROR, _FAULT, ColourClass.PURPLE,
        meaning="A peer sent data that RFC 6455 or the other peer does not allow.",
        remedy="Compare both peers' library versions and message formats; the report shows the last frames.",
    ),
    CauseInfo(
        Cause.MESSAGE_TOO_BIG, _FAULT, ColourClass.PURPLE,
        meaning="A message is larger than its receiver accepts.",
        remedy="Send smaller messages, or raise the receiver's limit; websocket_largest_message_bytes shows to which "
        "size.",
    ),
    CauseInfo(
        Cause.POLICY_VIOLATION, _FAULT, ColourClass.PURPLE,
        meaning="A peer refused a message or a session that violates its policy.",
        remedy="Read the reason text in the report: it names the policy.",
    ),
    CauseInfo(
        Cause.UNAUTHORIZED, _FAULT, ColourClass.PINK,
        meaning="The endpoint needs authentication: the counterpart of HTTP 401.",
        remedy="Check token lifetimes and clocks; a wave points at the identity provider.",
    ),
    CauseInfo(
        Cause.FORBIDDEN, _FAULT, ColourClass.PINK,
        meaning="The client is known but not allowed: the counterpart of HTTP 403.",
        remedy="Check the permission if users complain; a wave points at a policy change.",
    ),
    CauseInfo(
        Cause.APPLICATION, _EXPECTED, ColourClass.GREY,
        meaning="A close code of the application's own; its authors know the meaning.",
        remedy="Name the code with --code or --preset, so that its cause is counted.",
    ),
    CauseInfo(
        Cause.NORMAL, _NORMAL, ColourClass.GREEN, abnormal=False,
        meaning="The session was over and had done its work.",
        remedy="Nothing.",
    ),
    CauseInfo(
        Cause.NO_STATUS, _NORMAL, ColourClass.GREEN, abnormal=False,
        meaning="A Close frame came without a code, as from close() without arguments in a browser.",
        remedy="Nothing for clients. By the server, check whether its framework ends failed handlers like this.",
    ),
    CauseInfo(
        Cause.RELAY_LOST, _FAULT, ColourClass.GREY, initiators=_PROXY,
        meaning="A relay process of the sidecar died and its sessions with it.",
        remedy="Look in the sidecar's log and at its memory limit; report the traceback.",
    ),
    CauseInfo(
        Cause.UNOBSERVED, _FAULT, ColourClass.GREY,
        meaning="The session was forwarded but no longer parsed, so the reason for its end is unknown.",
        remedy="Look at websocket_unobserved_connections_total for the reason.",
    ),
    CauseInfo(
        Cause.UNCLASSIFIED, _FAULT, ColourClass.GREY, initiators=tuple(Peer),
        meaning="The sidecar could not process the session's record: too many sessions ended at once.",
        remedy="Give the sidecar more CPU if this repeats.",
    ),
)  # fmt: skip

#: Every cause, in the order in which pages and legends show them: faults of the server first.
CAUSES: Mapping[Cause, CauseInfo] = {info.cause: info for info in _TABLE}

#: The causes that are not logged as warnings and have no report.
NOT_ABNORMAL_CAUSES = tuple(info.cause for info in _TABLE if not info.abnormal)
#: Causes that are faults of the server if it is the initiator.
SERVER_FAULTS = tuple(info.cause for info in _TABLE if info.server_fault)
#: Causes that a rollout, a scale-down, a leaving browser or a setting of the sidecar explains.
ROUTINE_CAUSES = tuple(info.cause for info in _TABLE if info.routine)
#: Causes that an operator can give a close code or a reason text; the others are decided from circumstances.
ASSIGNABLE_CAUSES = tuple(
    cause
    for cause in Cause
    if cause
    not in {
        Cause.CONNECTION_LOST, Cause.CONNECTION_RESET, Cause.IDLE_TIMEOUT, Cause.APP_DOWN, Cause.APP_RESTARTED,
        Cause.SHUTDOWN, Cause.WORKER_LOST, Cause.PROXY_LOST, Cause.DROPPED_ON_MESSAGE, Cause.DRAIN, Cause.LIMIT,
        Cause.NO_STATUS, Cause.UNOBSERVED, Cause.RELAY_LOST, Cause.UNCLASSIFIED,
    }
)  # fmt: skip


def is_abnormal(cause: Cause) -> bool:
    """Return whether closes with this cause are warnings in the log and have a report."""
    return CAUSES[cause].abnormal


def is_server_fault(cause: Cause, initiator: Peer) -> bool:
    """Return whether such a close counts against the server's objective."""
    return initiator is Peer.SERVER and CAUSES[cause].server_fault
