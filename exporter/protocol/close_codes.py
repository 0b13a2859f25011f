"""The registry of close codes: meaning, when each is seen, remedy, whether to reconnect.

This is the one home of these sentences; a code's severity is that of its cause. Labels, log lines, ``explain``, the
landing page, dashboards and runbooks all read them here. Codes and names follow the IANA registry "WebSocket Close Code
Number" (RFC 6455, section 11.7), and which codes may appear in a Close frame follows RFC 6455, section 7.4.

A code that a peer sends becomes a label value only through :class:`CloseCodeMap`, which clamps it to a bounded set: the
registered codes, those that the operator configured, ``3xxx``, ``4xxx`` and ``invalid``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from exporter.protocol.causes import CAUSES
from exporter.protocol.enums import Cause, Severity
from exporter.protocol.idle_timeouts import DEFAULT_CUTOFFS, IdleCutoffs
from exporter.protocol.reason_rules import LIBRARY_TEXTS, Reasons, ReasonText


class Reconnect(StrEnum):
    """Whether a client should come back, in one word that a program can act on."""

    AS_NEEDED = "as-needed"
    BACKOFF = "backoff"
    LATER = "later"
    NO = "no"


@dataclass(frozen=True, slots=True)
class CodeInfo:
    """One registered close code. All texts are sentences for a person on call."""

    code: int
    name: str
    cause: Cause
    meaning: str
    seen: str
    remedy: str
    reconnect: Reconnect
    reconnect_how: str
    on_the_wire: bool = True

    @property
    def severity(self) -> Severity:
        """How much a close with this code matters, unless its reason text shows another cause."""
        return CAUSES[self.cause].severity


_REGISTERED = (
    CodeInfo(
        1000, "Normal Closure", Cause.NORMAL,
        meaning="The session is over and has done its work.",
        seen="Either peer closes on purpose after its work is done.",
        remedy="Nothing.",
        reconnect=Reconnect.AS_NEEDED,
        reconnect_how="Connect again when there is something to say.",
    ),
    CodeInfo(
        1001, "Going Away", Cause.GOING_AWAY,
        meaning="An endpoint is going away: a server is shutting down, or a browser is leaving the page.",
        seen="From the server during a deploy or scale-down; from the client on navigation, reload or a closed tab.",
        remedy="Nothing, if a deploy explains a wave from the server. Otherwise find out who stops the server.",
        reconnect=Reconnect.BACKOFF,
        reconnect_how="Retry with exponential backoff and jitter, so that all clients do not return at once.",
    ),
    CodeInfo(
        1002, "Protocol Error", Cause.PROTOCOL_ERROR,
        meaning="A peer received something that RFC 6455 does not allow.",
        seen="A broken library, a proxy that alters frames, or bytes that are not WebSocket at all.",
        remedy="Compare both peers' library versions; capture the frames just before the end.",
        reconnect=Reconnect.NO,
        reconnect_how="Do not retry unchanged: the same bytes meet the same answer.",
    ),
    CodeInfo(
        1003, "Unsupported Data", Cause.PROTOCOL_ERROR,
        meaning="A peer received a type of data that it cannot accept, such as binary where it expects text.",
        seen="A client and a server that disagree on the message format.",
        remedy="Align the two on text or binary; look for a recent change of serialisation.",
        reconnect=Reconnect.NO,
        reconnect_how="Do not retry unchanged: send a type that the peer accepts.",
    ),
    CodeInfo(
        1004, "Reserved", Cause.PROTOCOL_ERROR,
        meaning="Reserved; no meaning has been defined and it must not be sent.",
        seen="Never from a conforming peer; counted as invalid.",
        remedy="Find the peer that sends it and fix its code number.",
        reconnect=Reconnect.NO,
        reconnect_how="Do not retry unchanged.",
        on_the_wire=False,
    ),
    CodeInfo(
        1005, "No Status Received", Cause.NO_STATUS,
        meaning="A Close frame came without a code. Never sent: receivers report it for an empty Close frame.",
        seen="A browser page calls close() without arguments; some servers close so when a handler fails.",
        remedy="Nothing from clients. From the server, check whether its framework hides failures this way.",
        reconnect=Reconnect.AS_NEEDED,
        reconnect_how="Connect again when there is something to say; with backoff if the server closed.",
        on_the_wire=False,
    ),
    CodeInfo(
        1006, "Abnormal Closure", Cause.CONNECTION_LOST,
        meaning="TCP ended without a Close frame. Never sent: receivers report it when the connection just drops.",
        seen="From the server: an unhandled exception in many frameworks, a killed process, an idle cut-off on the "
        "way. From the client: a lost network or a killed app.",
        remedy="If the server dropped it, look in its log for an exception or a kill at that moment; if many drop at "
        "the same idle time, look for a proxy's timeout and send pings more often.",
        reconnect=Reconnect.BACKOFF,
        reconnect_how="Retry with exponential backoff and jitter.",
        on_the_wire=False,
    ),
    CodeInfo(
        1007, "Invalid Frame Payload Data", Cause.PROTOCOL_ERROR,
        meaning="A message's data does not match its type, such as text that is not UTF-8.",
        seen="Binary data sent as text, or a text cut inside a character.",
        remedy="Fix the sender's encoding.",
        reconnect=Reconnect.NO,
        reconnect_how="Do not retry unchanged.",
    ),
    CodeInfo(
        1008, "Policy Violation", Cause.POLICY_VIOLATION,
        meaning="A peer refused a message that violates its policy; the generic code when no other fits.",
        seen="Failed authentication after the handshake, rate limits, kicked or banned users.",
        remedy="Read the reason text in the log line: it names the policy.",
        reconnect=Reconnect.NO,
        reconnect_how="Do not retry until the cause is settled, such as with fresh credentials.",
    ),
    CodeInfo(
        1009, "Message Too Big", Cause.MESSAGE_TOO_BIG,
        meaning="A message is larger than its receiver accepts.",
        seen="Uploads or state dumps above the library's limit, often 1 MiB or 4 MiB by default.",
        remedy="Send smaller messages, or raise the receiver's limit knowingly.",
        reconnect=Reconnect.NO,
        reconnect_how="Do not send the same message again.",
    ),
    CodeInfo(
        1010, "Mandatory Extension", Cause.PROTOCOL_ERROR,
        meaning="The client needs an extension that the server did not negotiate.",
        seen="A client that insists on an extension, such as compression, behind a proxy that strips it.",
        remedy="Enable the extension at the server, or let it through on the way.",
        reconnect=Reconnect.NO,
        reconnect_how="Do not retry unchanged.",
    ),
    CodeInfo(
        1011, "Internal Error", Cause.INTERNAL_ERROR,
        meaning="The server ends the connection because something unexpected kept it from fulfilling the request; "
        "the WebSocket counterpart of HTTP 500.",
        seen="From the server: an unhandled exception in a message handler. From a client: its own code failed.",
        remedy="Look for the stack trace in the server's log, fix the bug, guard message handling so that one bad "
        "message does not end the connection.",
        reconnect=Reconnect.BACKOFF,
        reconnect_how="Retry with exponential backoff, and stop after a few attempts: the bug may be met again.",
    ),
    CodeInfo(
        1012, "Service Restart", Cause.SERVICE_RESTART,
        meaning="The server is restarting.",
        seen="From the server during a deploy; some servers send it where others send 1001.",
        remedy="Nothing, if a deploy explains it.",
        reconnect=Reconnect.BACKOFF,
        reconnect_how="Retry after a random delay of 5 to 30 seconds.",
    ),
    CodeInfo(
        1013, "Try Again Later", Cause.TRY_AGAIN_LATER,
        meaning="The server is overloaded and sheds this connection.",
        seen="Under more load than the server was sized for.",
        remedy="Add capacity, or find the source of the load.",
        reconnect=Reconnect.LATER,
        reconnect_how="Retry later, to another address if there is one, with a long backoff.",
    ),
    CodeInfo(
        1014, "Bad Gateway", Cause.BAD_GATEWAY,
        meaning="A gateway got an invalid answer from the server behind it; the counterpart of HTTP 502.",
        seen="A WebSocket gateway whose own upstream fails.",
        remedy="Look at the server behind the gateway.",
        reconnect=Reconnect.BACKOFF,
        reconnect_how="Retry with exponential backoff.",
    ),
    CodeInfo(
        1015, "TLS Handshake", Cause.PROTOCOL_ERROR,
        meaning="The TLS handshake failed. Never sent: a client reports it to its own application.",
        seen="An expired or untrusted certificate in front of the server; never in a Close frame.",
        remedy="Check the certificate where TLS ends.",
        reconnect=Reconnect.NO,
        reconnect_how="Do not retry until the certificate is right.",
        on_the_wire=False,
    ),
    CodeInfo(
        3000, "Unauthorized", Cause.UNAUTHORIZED,
        meaning="The endpoint needs authentication; the counterpart of HTTP 401.",
        seen="A missing, expired or revoked token.",
        remedy="Check token lifetimes and the clock; a wave points at the identity provider.",
        reconnect=Reconnect.NO,
        reconnect_how="Retry only with fresh credentials.",
    ),
    CodeInfo(
        3003, "Forbidden", Cause.FORBIDDEN,
        meaning="The client is known but not allowed; the counterpart of HTTP 403.",
        seen="A user without the permission, or a changed permission.",
        remedy="Check the permission if users complain; a wave points at a policy change.",
        reconnect=Reconnect.NO,
        reconnect_how="Do not retry.",
    ),
    CodeInfo(
        3008, "Timeout", Cause.TIMEOUT,
        meaning="An operation took too long; the counterpart of HTTP 408.",
        seen="A client that sends nothing while the server waits for it, or a server that gave up on its own backend.",
        remedy="Find out which side the other waited for: the reason text and the ages of the last frames show it.",
        reconnect=Reconnect.BACKOFF,
        reconnect_how="Retry with exponential backoff.",
    ),
)  # fmt: skip

#: Code number -> its entry; every code of the IANA registry.
REGISTRY: Mapping[int, CodeInfo] = {int(info.code): info for info in _REGISTERED}

#: Label values beside code numbers.
INVALID = "invalid"
UNKNOWN = "unknown"
LIBRARIES = "3xxx"
PRIVATE = "4xxx"
NO_STATUS = "1005"
ABNORMAL = "1006"


def may_be_sent(code: int) -> bool:
    """Return whether ``code`` may appear in a Close frame (RFC 6455, section 7.4.2, and the IANA registry)."""
    info = REGISTRY.get(code)
    return info.on_the_wire if info is not None else 3000 <= code <= 4999


def unregistered(code: int) -> str:
    """One sentence on a code that has no entry in the registry."""
    if 3000 <= code <= 3999:
        return "is for libraries and frameworks, first come, first served at IANA; this one is not registered"
    if 4000 <= code <= 4999:
        return "is for private use between applications; ask the application's authors"
    if 1000 <= code <= 2999:
        return "is reserved for the WebSocket protocol and not assigned; no peer may send it"
    return "is outside the range of close codes (1000 to 4999); no peer may send it"


#: Label values of ``code`` that are no number: a name and a sentence.
LABELS: Mapping[str, tuple[str, str]] = {
    LIBRARIES: ("Libraries", f"A code from 3000 to 3999, which {unregistered(3999)}."),
    PRIVATE: ("Private use", f"A code from 4000 to 4999, which {unregistered(4999)}."),
    INVALID: ("Must not be sent", "A Close frame with a code that no peer may send, or with a body of one byte."),
    UNKNOWN: ("Not parsed", "TCP ended on a session that was forwarded but no longer parsed."),
}


@dataclass(frozen=True, slots=True)
class Classification:
    """A close code in a metric: a bounded label value and a cause."""

    label: str
    cause: Cause


_REFUSED = Classification(INVALID, Cause.PROTOCOL_ERROR)
_NO_STATUS = Classification(NO_STATUS, Cause.NO_STATUS)


class CloseCodeMap:
    """Turns the code of a Close frame into a label value and a cause.

    :param codes: private codes that the operator named; each keeps its number as label value.
    :param ranges: causes of whole ranges of private codes that keep no number of their own.
    :param idle: the idle times at which connections are known to be cut.
    :param reasons: the operator's rules for reason texts.
    :param texts: libraries' reason texts, by code.
    """

    def __init__(
        self,
        codes: Mapping[int, Cause] | None = None,
        ranges: Iterable[tuple[range, Cause]] = (),
        idle: IdleCutoffs = DEFAULT_CUTOFFS,
        reasons: Reasons | None = None,
        texts: Mapping[int, tuple[ReasonText, ...]] = LIBRARY_TEXTS,
    ) -> None:
        self.idle = idle
        self.reasons = reasons or Reasons()
        self.texts = texts
        self._known = {
            code: Classification(str(code), info.cause) for code, info in REGISTRY.items() if info.on_the_wire
        }
        self._known |= {code: Classification(str(code), cause) for code, cause in (codes or {}).items()}
        self._ranges = tuple(ranges)

    def classify_code(self, code: int) -> Classification:
        """Return the label value and cause of ``code`` as read from a Close frame. Never raises."""
        if (known := self._known.get(code)) is not None:
            return known
        if not 3000 <= code <= 4999:
            return _REFUSED
        label = LIBRARIES if code < 4000 else PRIVATE
        for span, cause in self._ranges:
            if code in span:
                return Classification(label, cause)
        return Classification(label, Cause.APPLICATION)

    def classify_frame(self, code: int | None, reason: str) -> Classification:
        """Return label value and cause of a Close frame: None is no code, -1 a body of one byte. Never raises."""
        if code is None:
            return _NO_STATUS
        classification = self.classify_code(code)
        for text in self.texts.get(code, ()):
            if text.pattern.fullmatch(reason):
                return Classification(classification.label, text.cause)
        return classification

    def rows(self) -> list[Classification]:
        """Every classification that a Close frame can get: the bounded set of series to start at zero."""
        shared = [Classification(LIBRARIES, Cause.APPLICATION), Classification(PRIVATE, Cause.APPLICATION), _REFUSED]
        for span, cause in self._ranges:
            shared.append(Classification(LIBRARIES if span.start < 4000 else PRIVATE, cause))
        return list(dict.fromkeys([*self._known.values(), *shared]))
