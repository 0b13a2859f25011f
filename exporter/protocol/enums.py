"""Enumerations that the whole project shares: each is a small closed set of label values or log fields."""

from __future__ import annotations

from enum import StrEnum


class Peer(StrEnum):
    """Who sends on a connection, and who can end one. ``PROXY`` is the sidecar itself."""

    CLIENT = "client"
    SERVER = "server"
    PROXY = "proxy"

    @property
    def other(self) -> Peer:
        """The opposite peer. The proxy has none and answers itself."""
        return _OTHER[self]


_OTHER = {Peer.CLIENT: Peer.SERVER, Peer.SERVER: Peer.CLIENT, Peer.PROXY: Peer.PROXY}

#: The two peers of RFC 6455; the proxy only overhears them.
PEERS = (Peer.CLIENT, Peer.SERVER)


class TcpEndKind(StrEnum):
    """How one peer's TCP connection ended."""

    FIN = "fin"
    RESET = "reset"
    SILENCE = "silence"  # no acknowledgement, no answer to a TCP keepalive


class Severity(StrEnum):
    """How much a close matters to a person on call."""

    FAULT = "fault"  # somebody has something to fix
    EXPECTED = "expected"  # occurs in operation; its rate matters
    NORMAL = "normal"  # the session was over


class Cause(StrEnum):
    """The classified reason for a close; :mod:`exporter.protocol.causes` has the meaning of each."""

    NORMAL = "normal"
    GOING_AWAY = "going-away"
    PROTOCOL_ERROR = "protocol-error"
    NO_STATUS = "no-status"
    POLICY_VIOLATION = "policy-violation"
    MESSAGE_TOO_BIG = "message-too-big"
    INTERNAL_ERROR = "internal-error"
    PING_TIMEOUT = "ping-timeout"
    SERVICE_RESTART = "service-restart"
    TRY_AGAIN_LATER = "try-again-later"
    BAD_GATEWAY = "bad-gateway"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    TIMEOUT = "timeout"
    APPLICATION = "application"
    CONNECTION_LOST = "connection-lost"
    CONNECTION_RESET = "connection-reset"
    IDLE_TIMEOUT = "idle-timeout"
    APP_DOWN = "app-down"
    DRAIN = "drain"
    LIMIT = "limit"
    UNOBSERVED = "unobserved"
    SHUTDOWN = "shutdown"
    APP_RESTARTED = "app-restarted"
    SLOW_CLIENT = "slow-client"
    WORKER_LOST = "worker-lost"
    PROXY_LOST = "proxy-lost"
    DROPPED_ON_MESSAGE = "dropped-on-message"
    RELAY_LOST = "relay-lost"
    UNCLASSIFIED = "unclassified"


class Unobserved(StrEnum):
    """Why a connection that is still forwarded is no longer understood."""

    TLS = "tls"  # the first byte is a TLS handshake record (RFC 8446, section 5.1)
    HTTP2 = "http2"  # the connection preface of RFC 9113, section 3.4
    HTTP1 = "http1"  # neither: not HTTP/1.1, or HTTP/1.1 that cannot be followed
    HEAD_TOO_LARGE = "head-too-large"  # a request or response head above the configured size
    UPGRADE = "upgrade"  # switched to a protocol that is not WebSocket
    FRAME = "frame"  # a frame that cannot be followed (RFC 6455, sections 5.2 and 5.5)
    OVERLOAD = "overload"  # sends more frames than the relay has time to parse, as many others do
    INTERNAL = "internal"  # a defect of ours: the traffic goes on, we stop listening


class ConnectError(StrEnum):
    """Why the app could not be connected to."""

    REFUSED = "refused"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    DNS = "dns"
    RESOURCES = "resources"  # ours: out of file descriptors, memory or ports
    OTHER = "other"


class DrainPhase(StrEnum):
    """Phase of a drain; a relay's shared cell holds its index."""

    NONE = "none"
    SERVING = "serving"  # not ready any more; new clients are still served
    WAITING = "waiting"  # sessions may end by themselves
    CLOSING = "closing"  # no new clients; sessions get their Close frames
    DONE = "done"
