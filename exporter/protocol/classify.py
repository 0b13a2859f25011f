"""From a session's record and its circumstances to its ending: the table of evidence, as one pure function.

:func:`classify` tries the rules of :data:`RULES` in their order, from the most certain evidence to the least; the first
one that matches decides. A rule is one small function of a :class:`Case`; docs/diagnosis.md has the same table for
users. A close that the evidence does not explain gets a neutral name: ``connection-lost`` or ``connection-reset``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from mypy_extensions import mypyc_attr

from exporter.protocol.close_codes import ABNORMAL, INVALID, NO_STATUS, UNKNOWN, Classification, CloseCodeMap
from exporter.protocol.enums import PEERS, Cause, Peer, TcpEndKind
from exporter.protocol.evidence import Confidence, Evidence
from exporter.protocol.idle_timeouts import IDLE_TIMEOUT_TEXTS
from exporter.protocol.record import CloseFrame, PeerRecord, SessionRecord

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

#: A ping that is younger than this when the session ends shows nothing: its pong may be under way. Seconds.
MIN_PONG_WAIT: Final = 1.0
#: Seconds from a peer's message to the end of the session within which the message is taken for its occasion.
ON_MESSAGE: Final = 0.1
#: Seconds for which data must have waited for a client that is dropped as too slow.
MIN_STALL: Final = 1.0
#: Sessions that must have lost the server together for a lost worker, and the client side for a lost proxy.
WORKER_GROUP: Final = 3
PROXY_GROUP: Final = 5
#: Payload bytes from which a message may have broken a size limit: the smallest default limit of a known library
#: (uWebSockets), and how many times larger than any before it must be.
MIN_LARGE: Final = 16 * 1024
FAR_LARGER: Final = 8

_DATA: Final = (0, 1, 2)
_RESERVED: Final = (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
#: Codes of a Close that gives no reason for the end of a session by the server.
_UNSPECIFIC: Final = (None, 1000, 1011)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The circumstances in which the session ended; None is not known.

    :ivar app_accepts: whether the app's port accepted connections afterwards.
    :ivar draining: a drain is on.
    :ivar terminating: this pod is being terminated.
    :ivar listener_changed: the app's listening socket is another than before.
    :ivar lost_server: sessions with last frames of different ages that lost the server's TCP within 50 ms, this one
        included.
    :ivar lost_client: the same for the client's TCP, of sessions of one client-side address.
    """

    app_accepts: bool | None = None
    draining: bool = False
    terminating: bool = False
    listener_changed: bool = False
    lost_server: int = 1
    lost_client: int = 1


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class Ending:
    """How one session ended.

    :ivar code: a bounded label value.
    :ivar initiator: the sender of the first Close frame, or the peer whose TCP ended first.
    :ivar clean: both peers sent a Close frame.
    :ivar reason: the Close frame's reason text, for reports and the log only.
    :ivar close_unanswered: a Close frame was sent and TCP ended before its answer.
    :ivar close_code: the real number of the Close frame's code, as sent; None without one.
    :ivar suspect: the server ended it with 1000 or an empty Close right after a message that it had not answered.
    :ivar evidence: the observations that the cause was decided on.
    """

    code: str
    cause: Cause
    initiator: Peer
    clean: bool
    reason: str
    close_unanswered: bool
    close_code: int | None
    suspect: bool
    evidence: Evidence | None

    def __init__(
        self,
        code: str,
        cause: Cause,
        initiator: Peer,
        clean: bool,
        reason: str = "",
        close_unanswered: bool = False,
        close_code: int | None = None,
        suspect: bool = False,
        evidence: Evidence | None = None,
    ) -> None:
        self.code = code
        self.cause = cause
        self.initiator = initiator
        self.clean = clean
        self.reason = reason
        self.close_unanswered = close_unanswered
        self.close_code = close_code
        self.suspect = suspect
        self.evidence = evidence


@dataclass(frozen=True, slots=True)
class Match:
    """A rule's decision. ``code`` and ``initiator`` are None where they are those of the case."""

    cause: Cause
    confidence: Confidence
    evidence: dict[str, object] = field(default_factory=dict)
    code: str | None = None
    initiator: Peer | None = None


class Case:
    """One session as the rules see it: its ender, the Close frame, and the traffic just before.

    :ivar close: the first Close frame; None if TCP ended without one.
    :ivar ender: its sender, or the peer whose TCP ended first; the proxy if nothing shows it.
    :ivar verdict: label value and cause of the Close frame's code.
    :ivar after_message: seconds from the other peer's last data message, which the ender has not answered, to the end;
        None if there is none or it was answered.
    :ivar ping_unanswered: seconds for which a ping of the ender had waited, at least :data:`MIN_PONG_WAIT`; else None.
    """

    def __init__(self, record: SessionRecord, circumstances: Circumstances, codes: CloseCodeMap) -> None:
        self.record = record
        self.circumstances = circumstances
        self.codes = codes
        self.close: CloseFrame | None = None
        self.ender: Peer = record.tcp_end or Peer.PROXY
        if record.first_close is not None:
            self.ender = record.first_close
            self.close = record.peer(record.first_close).close
        self.ended_at = record.closed_at if self.close is None else self.close.at
        self.verdict: Classification | None = None
        if self.close is not None:
            self.verdict = codes.verdict_of(self.close.code, self.close.reason)
        self.after_message = self._after_message()
        self.ping_unanswered = self._ping_unanswered()

    @property
    def label(self) -> str:
        """The label value of the code, if no rule gives another."""
        return ABNORMAL if self.verdict is None else self.verdict.label

    @property
    def reason(self) -> str:
        """The Close frame's reason text."""
        return "" if self.close is None else self.close.reason

    @property
    def other(self) -> PeerRecord:
        """The direction of the peer that did not end the session."""
        return self.record.peer(self.ender.other)

    @property
    def dropped_by_server(self) -> bool:
        """Whether the server ended TCP without a Close frame."""
        return self.close is None and self.ender is Peer.SERVER

    @property
    def on_message(self) -> bool:
        """Whether the end came right after a message of the other peer that the ender had not answered."""
        return self.after_message is not None and self.after_message <= ON_MESSAGE

    @property
    def unobserved(self) -> bool:
        """Whether parsing had stopped in a direction."""
        return self.record.client.unobserved or self.record.server.unobserved

    @property
    def idle(self) -> float:
        """Seconds for which nothing had passed either way."""
        record = self.record
        passed = (record.opened_at, record.client.last_frame_at, record.server.last_frame_at)
        return record.closed_at - max(at for at in passed if at is not None)

    def _after_message(self) -> float | None:
        if self.ender is Peer.PROXY:
            return None
        other, mine = self.other, self.record.peer(self.ender)
        if other.last_message_at is None:
            return None
        if mine.last_message_at is not None and mine.last_message_at >= other.last_message_at:
            return None
        at = other.last_message_at
        if other.last_opcode in _DATA and other.last_frame_at is not None:
            at = max(at, other.last_frame_at)
        age = self.ended_at - at
        return age if age >= 0 else None

    def _ping_unanswered(self) -> float | None:
        if self.ender is Peer.PROXY or self.other.unobserved:
            return None
        ping_at = self.record.peer(self.ender).ping_at
        if ping_at is None or (waited := self.ended_at - ping_at) < MIN_PONG_WAIT:
            return None
        return waited


Rule = Callable[[Case], Match | None]


def by_proxy(case: Case) -> Match | None:
    """The sidecar ended it."""
    record = case.record
    if record.proxy_cause is None:
        return None
    code = str(record.proxy_code) if record.proxy_code else ABNORMAL
    return Match(record.proxy_cause, Confidence.STATED, code=code, initiator=Peer.PROXY)


def http_text(case: Case) -> Match | None:
    """The server wrote an HTTP response where a frame should begin."""
    if not case.record.http_text:
        return None
    evidence: dict[str, object] = {"http_text": True}
    return Match(Cause.INTERNAL_ERROR, Confidence.SHOWN, evidence, code=ABNORMAL, initiator=Peer.SERVER)


def operators_rule(case: Case) -> Match | None:
    """A ``--reason`` rule matches the reason text."""
    if not case.reason or case.label == INVALID:
        return None
    cause = case.codes.reasons(case.reason)
    return None if cause is None else Match(cause, Confidence.STATED)


def ping_timeout(case: Case) -> Match | None:
    """A keepalive gave up: by its own text, by other words and an unanswered ping, or by an unanswered ping alone."""
    if case.label == INVALID:
        return None
    if case.reason and is_keepalive_text(case.reason):
        return Match(Cause.PING_TIMEOUT, Confidence.STATED, {"text": True, "ping_unanswered": case.ping_unanswered})
    if case.ping_unanswered is None:
        return None
    if case.reason:
        found = mentions_keepalive(case.reason)
    else:
        unspecific = case.close is None or case.close.code in (*_UNSPECIFIC, 1001)
        found = unspecific and not case.on_message
    return Match(Cause.PING_TIMEOUT, Confidence.SHOWN, {"ping_unanswered": case.ping_unanswered}) if found else None


def idle_timeout_text(case: Case) -> Match | None:
    """The reason text is a library's own about an idle timeout."""
    if case.reason and case.label != INVALID and IDLE_TIMEOUT_TEXTS.fullmatch(case.reason):
        return Match(Cause.IDLE_TIMEOUT, Confidence.STATED, {"text": True})
    return None


def app_gone(case: Case) -> Match | None:
    """The server ended it without giving a reason, and refuses connections: shutdown in a drain, else app-down."""
    here = case.circumstances
    if case.ender is not Peer.SERVER or here.app_accepts is not False or case.unobserved:
        return None
    if case.close is not None and (case.reason or case.close.code not in _UNSPECIFIC):
        return None
    leaving = here.draining or here.terminating
    return Match(Cause.SHUTDOWN if leaving else Cause.APP_DOWN, Confidence.SHOWN)


def app_restarted(case: Case) -> Match | None:
    """The server ended TCP, and its listening socket is a new one."""
    if not (case.dropped_by_server and case.circumstances.listener_changed) or case.unobserved:
        return None
    return Match(Cause.APP_RESTARTED, Confidence.SHOWN)


def close_code(case: Case) -> Match | None:
    """A Close frame with any other content."""
    return None if case.verdict is None else Match(case.verdict.cause, Confidence.STATED)


def unobserved(case: Case) -> Match | None:
    """Parsing had stopped before TCP ended."""
    return Match(Cause.UNOBSERVED, Confidence.UNDECIDED, code=UNKNOWN) if case.unobserved else None


def slow_client(case: Case) -> Match | None:
    """The server dropped a client for which data had waited."""
    since = case.record.client.waiting_since
    if not case.dropped_by_server or since is None or (waited := case.record.closed_at - since) < MIN_STALL:
        return None
    return Match(Cause.SLOW_CLIENT, Confidence.LIKELY, {"waiting": waited})


def limit_broken(case: Case) -> Match | None:
    """The server ended TCP right after a frame of the client's that breaks the protocol or a size limit."""
    client, ended_at = case.record.client, case.ended_at
    if not case.dropped_by_server or client.last_frame_at is None or ended_at - client.last_frame_at > ON_MESSAGE:
        return None
    if client.last_opcode in _RESERVED:
        return Match(Cause.PROTOCOL_ERROR, Confidence.LIKELY, {"reserved_opcode": client.last_opcode})
    if client.last_opcode not in _DATA or client.last_message_size < MIN_LARGE or case.after_message is None:
        return None
    far_larger = client.last_message_size >= FAR_LARGER * client.largest_before
    began = client.last_message_at
    just_begun = client.in_frame and began is not None and ended_at - began <= ON_MESSAGE
    if not (far_larger or just_begun):
        return None
    return Match(Cause.MESSAGE_TOO_BIG, Confidence.LIKELY, {"larger_than": client.largest_before})


def worker_lost(case: Case) -> Match | None:
    """Sessions of different ages lost the server together, and the app still accepts."""
    here = case.circumstances
    if not case.dropped_by_server or here.lost_server < WORKER_GROUP or here.app_accepts is False:
        return None
    return Match(Cause.WORKER_LOST, Confidence.LIKELY, {"together": here.lost_server})


def proxy_lost(case: Case) -> Match | None:
    """Many sessions of one client-side address lost their client side together."""
    here = case.circumstances
    if case.close is not None or case.ender is not Peer.CLIENT or here.lost_client < PROXY_GROUP:
        return None
    return Match(Cause.PROXY_LOST, Confidence.LIKELY, {"together": here.lost_client})


def dropped_on_message(case: Case) -> Match | None:
    """The server ended TCP right after a message of the client's that it had not answered."""
    return Match(Cause.DROPPED_ON_MESSAGE, Confidence.LIKELY) if case.dropped_by_server and case.on_message else None


def idle_cutoff(case: Case) -> Match | None:
    """Nothing had passed either way for a known idle timeout."""
    if case.close is not None or case.ender is Peer.PROXY:
        return None
    idle = case.idle
    cutoff = case.codes.idle.cutoff(idle)
    if cutoff is None:
        return None
    return Match(Cause.IDLE_TIMEOUT, Confidence.LIKELY, {"idle": idle, "cutoff": cutoff})


def tcp_end(case: Case) -> Match | None:
    """TCP ended, and nothing shows why."""
    reset = case.record.tcp_end_kind is TcpEndKind.RESET
    cause = Cause.CONNECTION_RESET if reset else Cause.CONNECTION_LOST
    return Match(cause, Confidence.UNDECIDED, {"idle": case.idle})


def depends_on_app(record: SessionRecord) -> bool:
    """Return whether the cause may depend on the app's port: the server ended the session without giving a reason."""
    if record.proxy_cause is not None or record.http_text:
        return False
    if record.first_close is not None:
        close = record.server.close if record.first_close is Peer.SERVER else None
        return close is not None and not close.reason and close.code in _UNSPECIFIC
    return record.tcp_end is Peer.SERVER and not (record.client.unobserved or record.server.unobserved)


def is_drop(record: SessionRecord) -> bool:
    """Return whether a peer ended TCP without a Close frame: the cause may depend on sessions that ended with it."""
    return record.proxy_cause is None and record.first_close is None and record.tcp_end is not None


#: The table, in its order: the first rule that matches decides.
RULES: tuple[Rule, ...] = (
    by_proxy,
    http_text,
    operators_rule,
    ping_timeout,
    idle_timeout_text,
    app_gone,
    app_restarted,
    close_code,
    unobserved,
    slow_client,
    limit_broken,
    worker_lost,
    proxy_lost,
    dropped_on_message,
    idle_cutoff,
    tcp_end,
)


def classify(record: SessionRecord, circumstances: Circumstances, codes: CloseCodeMap) -> Ending:
    """Return how the session ended. Pure: the same arguments give the same ending."""
    case = Case(record, circumstances, codes)
    rule, match = next((rule, match) for rule in RULES if (match := rule(case)) is not None)
    code = match.code or case.label
    initiator = match.initiator or case.ender
    clean, unanswered = _closing_handshake(case, initiator, code)
    suspect = (
        rule is close_code
        and initiator is Peer.SERVER
        and match.cause in (Cause.NORMAL, Cause.NO_STATUS)
        and case.close is not None
        and case.close.code in (None, 1000)
        and case.on_message
    )
    number = None if case.close is None or case.close.code == -1 else case.close.code
    if initiator is Peer.PROXY:
        number = record.proxy_code or None
    return Ending(
        code, match.cause, initiator, clean, case.reason if initiator is not Peer.PROXY else "", unanswered,
        number, suspect, _evidence(case, match, initiator),
    )  # fmt: skip


def _closing_handshake(case: Case, initiator: Peer, code: str) -> tuple[bool, bool]:
    """Return whether both peers sent a Close frame, and whether one stayed without an answer that was awaited."""
    client, server = case.record.client, case.record.server
    if initiator is Peer.PROXY:
        sent, answered = code != ABNORMAL, client.close is not None
        return sent and answered, sent and not answered and not client.unobserved
    if case.close is None:
        return False, False
    clean = client.close is not None and server.close is not None
    return clean, not clean and not case.other.unobserved


def _evidence(case: Case, match: Match, initiator: Peer) -> Evidence:
    evidence = Evidence(match.confidence, initiator)
    here, found = case.circumstances, dict(match.evidence)
    if initiator is not Peer.PROXY:
        if case.close is None:
            found["tcp_end_kind"] = case.record.tcp_end_kind
        if case.after_message is not None and case.after_message < 10 * ON_MESSAGE and initiator is case.ender:
            found |= {
                "after_message": case.after_message,
                "message_size": case.other.last_message_size,
                "in_frame": case.other.in_frame,
            }
        if initiator is Peer.SERVER:
            found |= {"app_accepts": here.app_accepts, "listener_changed": here.listener_changed}
        found["draining"] = here.draining or here.terminating
    return replace(evidence, **found)  # type: ignore[arg-type]


def is_keepalive_text(reason: str) -> bool:
    """Return whether a reason text is, as a whole, one by which a library states that no pong came."""
    text = reason.lower()
    return text in KEEPALIVE_TEXTS or _KEEPALIVE_PATTERN.fullmatch(text) is not None


def mentions_keepalive(reason: str) -> bool:
    """Return whether a reason text speaks of a keepalive in any words."""
    return _KEEPALIVE_WORDS.search(reason.lower()) is not None


#: The Close codes that the sidecar may send (RFC 6455: 1001 going away; IANA: 1012 service restart).
OWN_CODES = (1001, 1012)
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
        for verdict in codes.rows():
            add((verdict.label,), (verdict.cause, *sorted(codes.reasons.causes)), PEERS)
        for code, texts in codes.texts.items():
            add((codes.verdict(code).label,), (text.cause for text in texts), server)
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


#: Causes of an end that the sidecar begins.
OWN_CAUSES = (Cause.DRAIN, Cause.LIMIT)
