"""From a session's record and its circumstances to its ending: the table of evidence, as one pure function.

:func:`classify` tries the rules of :data:`RULES` in their order, from the most certain evidence to the least; the first
one that matches decides. A rule is one small function of a :class:`Case`; docs/diagnosis.md has the same table for
users. A close that the evidence does not explain gets a neutral name: ``connection-lost`` or ``connection-reset``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from mypy_extensions import mypyc_attr

from exporter.protocol.causes import is_abnormal
from exporter.protocol.close_codes import ABNORMAL, UNKNOWN, CloseCodeMap
from exporter.protocol.enums import Cause, Peer, TcpEndKind
from exporter.protocol.evidence import DATA, ON_MESSAGE, Case, Circumstances, Confidence, Match, seconds
from exporter.protocol.idle_timeouts import IDLE_TIMEOUT_TEXTS, is_keepalive_text, mentions_keepalive
from exporter.protocol.record import SessionRecord

#: Seconds for which data must have waited for a client that is dropped as too slow.
MIN_STALL: Final = 1.0
#: Sessions that must have lost the server together for a lost worker, and the client side for a lost proxy.
WORKER_GROUP: Final = 3
PROXY_GROUP: Final = 5
#: Payload bytes from which a message may have broken a size limit: the smallest default limit of a known library
#: (uWebSockets), and how many times larger than any before it must be.
MIN_LARGE: Final = 16 * 1024
FAR_LARGER: Final = 8

_RESERVED: Final = (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
#: Codes of a Close that gives no reason for the end of a session by the server.
_UNSPECIFIC: Final = (None, 1000, 1011)
_UNSPECIFIC_FOR_PINGS: Final = (None, 1000, 1001, 1011)

_TEXT: Final = "a library states it in the Close frame's reason text"

_CLIENT: Final = Peer.CLIENT
_SERVER: Final = Peer.SERVER
_PROXY: Final = Peer.PROXY


@mypyc_attr(acyclic=True)
class Ending:
    """How one session ended.

    :ivar code: a bounded label value.
    :ivar initiator: the sender of the first Close frame, or the peer whose TCP ended first.
    :ivar clean: both peers sent a Close frame.
    :ivar reason: the Close frame's reason text, for reports and the log only.
    :ivar close_unanswered: a Close frame was sent and TCP ended before its answer.
    :ivar close_code: the real number of the Close frame's code, as sent; None without one.
    :ivar suspect: the server ended it with 1000 or an empty Close right after a message that it had not answered.
    :ivar confidence: how much the evidence shows; None for a close that has no report.
    :ivar evidence: the observations that the cause was decided on, as phrases.
    """

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
        confidence: Confidence | None = None,
        evidence: Sequence[str] = (),
    ) -> None:
        self.code = code
        self.cause = cause
        self.initiator = initiator
        self.clean = clean
        self.reason = reason
        self.close_unanswered = close_unanswered
        self.close_code = close_code
        self.suspect = suspect
        self.confidence = confidence
        self.evidence = evidence


Rule = Callable[[Case], Match | None]


def by_proxy(case: Case) -> Match | None:
    """The sidecar ended it."""
    record = case.record
    if record.proxy_cause is None:
        return None
    code = str(record.proxy_code) if record.proxy_code else ABNORMAL
    return Match(record.proxy_cause, Confidence.STATED, code=code, initiator=_PROXY)


def http_text(case: Case) -> Match | None:
    """The server wrote an HTTP response where a frame should begin."""
    if not case.record.http_text:
        return None
    first = "the server wrote an HTTP response into the WebSocket stream"
    return Match(Cause.INTERNAL_ERROR, Confidence.SHOWN, first=first, code=ABNORMAL, initiator=_SERVER)


def operators_rule(case: Case) -> Match | None:
    """A ``--reason`` rule matches the reason text."""
    cause = case.codes.reasons(case.reason) if case.reason else None
    return None if cause is None else Match(cause, Confidence.STATED)


def ping_timeout(case: Case) -> Match | None:
    """A keepalive gave up: by its own text, by other words and an unanswered ping, or by an unanswered ping alone."""
    waited = ""
    if case.ping_unanswered is not None:
        waited = f"a ping of the {case.ender} had waited {seconds(case.ping_unanswered)} for its pong"
    if case.reason and is_keepalive_text(case.reason):
        return Match(Cause.PING_TIMEOUT, Confidence.STATED, waited, first=_TEXT)
    if not waited:
        return None
    if case.reason:
        found = mentions_keepalive(case.reason)
    else:
        found = (case.close is None or case.close.code in _UNSPECIFIC_FOR_PINGS) and not case.on_message
    return Match(Cause.PING_TIMEOUT, Confidence.SHOWN, waited) if found else None


def idle_timeout_text(case: Case) -> Match | None:
    """The reason text is a library's own about an idle timeout."""
    if case.reason and IDLE_TIMEOUT_TEXTS.fullmatch(case.reason):
        return Match(Cause.IDLE_TIMEOUT, Confidence.STATED, first=_TEXT)
    return None


def app_gone(case: Case) -> Match | None:
    """The server ended it without giving a reason, and refuses connections: shutdown in a drain, else app-down."""
    here = case.circumstances
    if case.ender is not _SERVER or here.app_accepts is not False or case.unobserved:
        return None
    if case.close is not None and (case.reason or case.close.code not in _UNSPECIFIC):
        return None
    return Match(Cause.SHUTDOWN if here.leaving else Cause.APP_DOWN, Confidence.SHOWN)


def app_restarted(case: Case) -> Match | None:
    """The server ended TCP, and its listening socket is a new one."""
    if not (case.dropped_by_server and case.circumstances.listener_changed) or case.unobserved:
        return None
    return Match(Cause.APP_RESTARTED, Confidence.SHOWN)


def close_code(case: Case) -> Match | None:
    """A Close frame with any other content."""
    if case.close is None or case.classification is None:
        return None
    cause, spoke_at = case.classification.cause, case.other.last_frame_at
    if cause is Cause.IDLE_TIMEOUT and spoke_at is not None and case.ended_at - spoke_at <= ON_MESSAGE:
        # Bandit refuses an invalid frame with the same bytes.
        cause = case.codes.classify_code(case.close.code or 0).cause
    return Match(cause, Confidence.STATED)


def unobserved(case: Case) -> Match | None:
    """Parsing had stopped before TCP ended."""
    return Match(Cause.UNOBSERVED, Confidence.UNDECIDED, code=UNKNOWN) if case.unobserved else None


def slow_client(case: Case) -> Match | None:
    """The server dropped a client for which data had waited."""
    since = case.record.client.waiting_since
    if not case.dropped_by_server or since is None or (waited := case.record.closed_at - since) < MIN_STALL:
        return None
    phrase = f"data had waited {seconds(waited)} for the client to read it"
    return Match(Cause.SLOW_CLIENT, Confidence.LIKELY, phrase)


def limit_broken(case: Case) -> Match | None:
    """The server ended TCP right after a frame of the client's that breaks the protocol or a size limit."""
    client, ended_at = case.record.client, case.ended_at
    if not case.dropped_by_server or client.last_frame_at is None or ended_at - client.last_frame_at > ON_MESSAGE:
        return None
    if client.last_opcode in _RESERVED:
        first = f"the last frame of the client had the reserved opcode {client.last_opcode}"
        return Match(Cause.PROTOCOL_ERROR, Confidence.LIKELY, first=first)
    if client.last_opcode not in DATA or client.last_message_size < MIN_LARGE or case.after_message is None:
        return None
    far_larger = client.last_message_size >= FAR_LARGER * client.largest_before
    began = client.last_message_at
    just_begun = client.in_frame and began is not None and ended_at - began <= ON_MESSAGE
    if not (far_larger or just_begun):
        return None
    return Match(Cause.MESSAGE_TOO_BIG, Confidence.LIKELY, larger_than=client.largest_before)


def worker_lost(case: Case) -> Match | None:
    """Sessions of different ages lost the server together, and the app still accepts."""
    here = case.circumstances
    if not case.dropped_by_server or here.lost_server < WORKER_GROUP or here.app_accepts is False:
        return None
    return Match(Cause.WORKER_LOST, Confidence.LIKELY, _together(here.lost_server))


def proxy_lost(case: Case) -> Match | None:
    """Many sessions of one client-side address lost their client side together."""
    here = case.circumstances
    if case.close is not None or case.ender is not _CLIENT or here.lost_client < PROXY_GROUP:
        return None
    return Match(Cause.PROXY_LOST, Confidence.LIKELY, _together(here.lost_client))


def _together(sessions: int) -> str:
    return f"at least {sessions} sessions ended within 50 ms"


def dropped_on_message(case: Case) -> Match | None:
    """The server ended TCP right after a message of the client's that it had not answered."""
    return Match(Cause.DROPPED_ON_MESSAGE, Confidence.LIKELY) if case.dropped_by_server and case.on_message else None


def idle_cutoff(case: Case) -> Match | None:
    """Nothing had passed either way for a known idle timeout."""
    if case.close is not None or case.ender is _PROXY:
        return None
    idle = case.idle
    cutoff = case.codes.idle.cutoff(idle)
    if cutoff is None:
        return None
    return Match(Cause.IDLE_TIMEOUT, Confidence.LIKELY, f"{_idle(idle)}, a known timeout is {cutoff:g} s")


def tcp_end(case: Case) -> Match | None:
    """TCP ended, and nothing shows why."""
    reset = case.record.tcp_end_kind is TcpEndKind.RESET
    cause = Cause.CONNECTION_RESET if reset else Cause.CONNECTION_LOST
    return Match(cause, Confidence.UNDECIDED, _idle(case.idle))


def _idle(idle: float) -> str:
    return f"nothing had passed either way for {seconds(idle)}"


def depends_on_app(record: SessionRecord) -> bool:
    """Return whether the cause may depend on the app's port: the server ended the session without giving a reason."""
    if record.proxy_cause is not None or record.http_text:
        return False
    if record.first_close is not None:
        close = record.server.close if record.first_close is _SERVER else None
        return close is not None and not close.reason and close.code in _UNSPECIFIC
    return record.tcp_end is _SERVER and not (record.client.unobserved or record.server.unobserved)


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
    for rule in RULES:
        match = rule(case)
        if match is not None:
            break
    assert match is not None  # the last rule always matches
    code = match.code or case.label
    initiator = match.initiator or case.ender
    clean, unanswered = _closing_handshake(case, initiator, code)
    suspect = (
        initiator is _SERVER
        and rule is close_code
        and match.cause in (Cause.NORMAL, Cause.NO_STATUS)
        and case.close is not None
        and case.close.code in (None, 1000)
        and case.on_message
    )
    number = None if case.close is None or case.close.code == -1 else case.close.code
    reason = "" if case.close is None else case.close.reason
    if initiator is _PROXY:
        number, reason = record.proxy_code or None, ""
    ending = Ending(code, match.cause, initiator, clean, reason, unanswered, number, suspect)
    if suspect or is_abnormal(match.cause):
        ending.confidence, ending.evidence = match.confidence, case.evidence(match)
    return ending


def _closing_handshake(case: Case, initiator: Peer, code: str) -> tuple[bool, bool]:
    """Return whether both peers sent a Close frame, and whether one stayed without an answer that was awaited."""
    client, server = case.record.client, case.record.server
    if initiator is _PROXY:
        sent, answered = code != ABNORMAL, client.close is not None
        return sent and answered, sent and not answered and not client.unobserved
    if case.close is None:
        return False, False
    clean = client.close is not None and server.close is not None
    return clean, not clean and not case.other.unobserved
