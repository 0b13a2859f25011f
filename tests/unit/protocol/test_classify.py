"""Classification: each rule of the table, what looks alike and is not, and the label sets that start at 0."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from exporter.protocol.causes import CAUSES
from exporter.protocol.classify import RULES, Ending, classify
from exporter.protocol.close_codes import CloseCodeMap
from exporter.protocol.enums import PEERS, Cause, Peer, TcpEndKind
from exporter.protocol.evidence import Circumstances, Confidence
from exporter.protocol.idle_timeouts import KEEPALIVE_TEXTS, KNOWN_CUTOFFS, is_keepalive_text, mentions_keepalive
from exporter.protocol.labels import code_labels, known_label_sets
from exporter.protocol.reason_rules import Reasons, Rule
from exporter.protocol.record import CloseFrame, PeerRecord, SessionRecord

CLIENT, SERVER = Peer.CLIENT, Peer.SERVER
OPENED, END = 1000.0, 1047.0
CODES = CloseCodeMap()
ACCEPTS, REFUSES = Circumstances(app_accepts=True), Circumstances(app_accepts=False)


def peer(**values: Any) -> PeerRecord:
    """One direction; ``said`` is how many seconds before the end its last message passed."""
    said = values.pop("said", None)
    record = PeerRecord(frames=3, payload=90, last_frame_at=OPENED + 20, last_opcode=1, last_message_at=OPENED + 20)
    if said is not None:
        record = replace(record, last_frame_at=END - said, last_message_at=END - said, last_message_size=21)
    return replace(record, **values)


def session(client: PeerRecord | None = None, server: PeerRecord | None = None, **values: Any) -> SessionRecord:
    """A session that ended at END; by default the client spoke 27.0 s and the server 26.9 s before it."""
    client = client or peer()
    server = server or peer(last_message_at=OPENED + 20.1, last_frame_at=OPENED + 20.1)
    return SessionRecord(opened_at=OPENED, closed_at=END, client=client, server=server, **values)


def closed(by: Peer, code: int | None, reason: str = "", answered: bool = True, **values: Any) -> SessionRecord:
    """A session that ``by`` ended with a Close frame."""
    record = session(first_close=by, **values)
    record.peer(by).close = CloseFrame(code, reason, END)
    if answered:
        record.peer(by.other).close = CloseFrame(code, reason, END)
    return record


def dropped(by: Peer, kind: TcpEndKind = TcpEndKind.FIN, **values: Any) -> SessionRecord:
    """A session whose TCP ``by`` ended without a Close frame."""
    return session(tcp_end=by, tcp_end_kind=kind, **values)


def ending(record: SessionRecord, circumstances: Circumstances = ACCEPTS, codes: CloseCodeMap = CODES) -> Ending:
    return classify(record, circumstances, codes)


def outcome(record: SessionRecord, circumstances: Circumstances = ACCEPTS) -> tuple[str, str, Peer]:
    found = ending(record, circumstances)
    return found.code, found.cause.value, found.initiator


@pytest.mark.parametrize(("cause", "code"), [(Cause.DRAIN, 1001), (Cause.DRAIN, 1012), (Cause.LIMIT, 1001)])
def test_by_proxy_close_sent_names_its_code_and_cause(cause: Cause, code: int) -> None:
    """Row 1: a session that the sidecar ends counts as its own, whatever the peers did afterwards."""
    record = closed(CLIENT, code, proxy_cause=cause, proxy_code=code)
    assert outcome(record) == (str(code), cause.value, Peer.PROXY)
    assert ending(record).clean
    assert ending(record).close_code == code


def test_by_proxy_no_close_sent_is_1006() -> None:
    """Row 1: a session cut without a Close is 1006, and no answer is missed."""
    found = ending(dropped(CLIENT, proxy_cause=Cause.DRAIN))
    assert (found.code, found.cause, found.initiator) == ("1006", Cause.DRAIN, Peer.PROXY)
    assert not found.clean
    assert not found.close_unanswered


def test_by_proxy_unanswered_close_is_counted_as_such() -> None:
    """Row 1: a client that does not answer the sidecar's Close leaves the closing handshake incomplete."""
    found = ending(session(tcp_end=CLIENT, proxy_cause=Cause.DRAIN, proxy_code=1001))
    assert not found.clean
    assert found.close_unanswered


@pytest.mark.parametrize(
    "record",
    [
        closed(CLIENT, 1002, "Invalid frame", http_text=True),
        dropped(SERVER, http_text=True),
        dropped(CLIENT, TcpEndKind.RESET, http_text=True),
    ],
    ids=["client answers 1002", "server drops", "client drops"],
)
def test_http_text_is_the_servers_internal_error(record: SessionRecord) -> None:
    """Row 2: an HTTP 500 page in the stream is the server's failure, although the client ends the session."""
    assert outcome(record) == ("1006", "internal-error", SERVER)


def test_http_text_absent_client_1002_is_the_clients() -> None:
    """Not row 2: a client's 1002 without HTTP text stays a protocol error by the client."""
    assert outcome(closed(CLIENT, 1002, "Invalid frame")) == ("1002", "protocol-error", CLIENT)


RULED = CloseCodeMap(reasons=Reasons([Rule("(?i)token expired", Cause.UNAUTHORIZED), Rule("ping", Cause.TIMEOUT)]))


@pytest.mark.parametrize(
    ("code", "reason", "label", "cause"),
    [
        (1008, "Token Expired at 12:00", "1008", Cause.UNAUTHORIZED),
        (4999, "token expired", "4xxx", Cause.UNAUTHORIZED),
        (1011, "keepalive ping timeout", "1011", Cause.TIMEOUT),
        (1008, "rate limited", "1008", Cause.POLICY_VIOLATION),
        (1008, "", "1008", Cause.POLICY_VIOLATION),
        (999, "token expired", "invalid", Cause.PROTOCOL_ERROR),
    ],
)
def test_operators_rule_goes_before_texts_and_codes(code: int, reason: str, label: str, cause: Cause) -> None:
    """Row 3: a rule that matches decides the cause; the label stays that of the code, and invalid codes stay so."""
    found = ending(closed(SERVER, code, reason), codes=RULED)
    assert (found.code, found.cause, found.close_code) == (label, cause, code)


@pytest.mark.parametrize("code", [1000, 1001, 1011, 4000])
@pytest.mark.parametrize(
    "text",
    [*sorted(KEEPALIVE_TEXTS), "Keepalive Ping Timeout",
     "peer has not replied to ping/heartbeat request within 3 second(s)"],
)  # fmt: skip
def test_keepalive_text_needs_no_further_evidence(code: int, text: str) -> None:
    """Row 4: a library's own text states it, with all pings answered as far as the wire shows."""
    found = ending(closed(SERVER, code, text))
    assert found.cause is Cause.PING_TIMEOUT
    assert found.code == ("4xxx" if code == 4000 else str(code))


#: Texts that speak of a keepalive and are no library's own.
OTHER_WORDS = [
    "redis: ping timeout", "kafka consumer heartbeat timed out", "upstream keep-alive timeout",
    "No pong handler registered", "missed heartbeat", "sent ping, pong not received",
]  # fmt: skip


@pytest.mark.parametrize("text", OTHER_WORDS)
def test_keepalive_words_with_pings_answered_are_internal_error(text: str) -> None:
    """Not row 4: a 1011 that mentions a ping, with every ping answered, is a failure of the app."""
    assert not is_keepalive_text(text)
    assert outcome(closed(SERVER, 1011, text)) == ("1011", "internal-error", SERVER)


@pytest.mark.parametrize("text", OTHER_WORDS)
def test_keepalive_words_with_an_unanswered_ping_are_ping_timeout(text: str) -> None:
    """Row 4: the same words from a peer whose ping waits for its pong are a keepalive's."""
    assert mentions_keepalive(text)
    record = closed(SERVER, 1011, text, server=peer(ping_at=END - 20))
    assert outcome(record) == ("1011", "ping-timeout", SERVER)
    young = closed(SERVER, 1011, text, server=peer(ping_at=END - 0.4))
    assert outcome(young) == ("1011", "internal-error", SERVER)


@pytest.mark.parametrize("text", ["timeout", "shipping timeout", "mapping timed out", "pong", "session timed out", "x"])
def test_keepalive_unrelated_words_never_match(text: str) -> None:
    """Not row 4: a text that only contains similar letters leaves the code's own cause, even with a ping waiting."""
    record = closed(SERVER, 1011, text, server=peer(ping_at=END - 20))
    assert outcome(record) == ("1011", "internal-error", SERVER)


@pytest.mark.parametrize("by", PEERS)
@pytest.mark.parametrize(
    ("code", "label"), [(1000, "1000"), (1001, "1001"), (None, "1005"), (1011, "1011"), (0, "1006")]
)
def test_unanswered_ping_without_text_is_ping_timeout(by: Peer, code: int | None, label: str) -> None:
    """Row 4: who ends a session without a reason while its own ping waits gave up on the other."""
    record = dropped(by) if code == 0 else closed(by, code)
    record.peer(by).ping_at = END - 5
    assert outcome(record) == (label, "ping-timeout", by)
    assert f"a ping of the {by} had waited 5.000 s for its pong" in ending(record).evidence


def test_unanswered_ping_of_the_other_peer_explains_nothing() -> None:
    """Not row 4: a server's ping that a leaving browser does not answer any more."""
    record = closed(CLIENT, 1001, server=peer(ping_at=END - 5))
    assert outcome(record) == ("1001", "going-away", CLIENT)


def test_unanswered_ping_younger_than_a_second_explains_nothing() -> None:
    """Not row 4: the pong may be under way."""
    assert outcome(dropped(SERVER, server=peer(ping_at=END - 0.9))) == ("1006", "connection-lost", SERVER)


def test_unanswered_ping_with_a_code_of_its_own_keeps_the_code() -> None:
    """Not row 4: 1008 and 1012 say why themselves."""
    for code, cause in ((1008, "policy-violation"), (1012, "service-restart")):
        assert outcome(closed(SERVER, code, server=peer(ping_at=END - 9))) == (str(code), cause, SERVER)


def test_unanswered_ping_and_a_message_just_before_is_the_message() -> None:
    """Not row 4: a client that never answers pings sends a message, and the handler fails on it."""
    record = dropped(SERVER, client=peer(said=0.003), server=peer(ping_at=END - 9))
    assert outcome(record) == ("1006", "dropped-on-message", SERVER)


def test_unanswered_ping_of_an_unparsed_direction_is_unknown() -> None:
    """Not row 4: pongs that could not be parsed are not missing."""
    record = closed(SERVER, 1011, client=peer(unobserved=True), server=peer(ping_at=END - 9))
    assert outcome(record) == ("1011", "internal-error", SERVER)


@pytest.mark.parametrize(
    "text",
    ["Idle Timeout", "Connection Idle Timeout", "The WebSocket session [3] timeout expired",
     "The WebSocket session [0a-b] idle timeout expired", "The WebSocket session [3] read idle timeout expired"],
)  # fmt: skip
def test_idle_timeout_text_names_the_apps_own_timeout(text: str) -> None:
    """Row 5: Jetty's and Tomcat's 1001 is their idle timeout, no rollout."""
    assert outcome(closed(SERVER, 1001, text)) == ("1001", "idle-timeout", SERVER)


@pytest.mark.parametrize("text", ["idle", "database idle timeout", "going away: idle timeout soon", ""])
def test_idle_timeout_other_text_keeps_the_code(text: str) -> None:
    """Not row 5: only the whole text of a library counts."""
    assert outcome(closed(SERVER, 1001, text)) == ("1001", "going-away", SERVER)


GONE = [(1000, "1000"), (None, "1005"), (1011, "1011"), (0, "1006")]


@pytest.mark.parametrize(("code", "label"), GONE)
@pytest.mark.parametrize(
    ("circumstances", "cause"),
    [
        (REFUSES, "app-down"),
        (Circumstances(False, draining=True), "shutdown"),
        (Circumstances(False, terminating=True), "shutdown"),
    ],
)
def test_app_gone_port_refuses_is_app_down_or_shutdown(
    code: int | None, label: str, circumstances: Circumstances, cause: str
) -> None:
    """Rows 6 and 7: an app that refuses connections after an unspecific end is gone; in a drain it stopped."""
    record = dropped(SERVER) if code == 0 else closed(SERVER, code)
    assert outcome(record, circumstances) == (label, cause, SERVER)


@pytest.mark.parametrize(("code", "label"), GONE)
def test_app_gone_unknown_or_accepting_keeps_the_codes_cause(code: int | None, label: str) -> None:
    """Not rows 6 and 7: without a refusal the app is not called down, drain or not."""
    causes = {"1000": "normal", "1005": "no-status", "1011": "internal-error", "1006": "connection-lost"}
    record = dropped(SERVER) if code == 0 else closed(SERVER, code)
    for accepts, draining in product((True, None), (True, False)):
        found = outcome(record, Circumstances(app_accepts=accepts, draining=draining))
        assert found == (label, causes[label], SERVER)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (closed(SERVER, 1001), ("1001", "going-away", SERVER)),
        (closed(SERVER, 1012), ("1012", "service-restart", SERVER)),
        (closed(SERVER, 1011, "boom"), ("1011", "internal-error", SERVER)),
        (closed(SERVER, 1000, "bye"), ("1000", "normal", SERVER)),
        (closed(CLIENT, 1000), ("1000", "normal", CLIENT)),
        (dropped(CLIENT), ("1006", "connection-lost", CLIENT)),
    ],
)
def test_app_gone_specific_closes_and_clients_keep_theirs(
    record: SessionRecord, expected: tuple[str, str, Peer]
) -> None:
    """Not rows 6 and 7: a code or text that says why, or an end by the client, is not the app's going."""
    assert outcome(record, Circumstances(False, draining=True)) == expected


def test_app_restarted_new_listener_is_a_restart() -> None:
    """Row 8: the app has its port back, on another socket."""
    circumstances = Circumstances(True, listener_changed=True)
    assert outcome(dropped(SERVER), circumstances) == ("1006", "app-restarted", SERVER)
    assert outcome(dropped(SERVER, client=peer(said=0.002)), circumstances) == ("1006", "app-restarted", SERVER)


def test_app_restarted_closes_and_clients_keep_theirs() -> None:
    """Not row 8: a Close frame says more than a new socket, and a client's end is the client's."""
    circumstances = Circumstances(True, listener_changed=True)
    assert outcome(closed(SERVER, 1001), circumstances) == ("1001", "going-away", SERVER)
    assert outcome(dropped(CLIENT), circumstances) == ("1006", "connection-lost", CLIENT)


@pytest.mark.parametrize("by", PEERS)
@pytest.mark.parametrize(
    ("code", "label", "cause"),
    [
        (1000, "1000", "normal"), (1001, "1001", "going-away"), (1002, "1002", "protocol-error"),
        (1003, "1003", "protocol-error"), (None, "1005", "no-status"), (1007, "1007", "protocol-error"),
        (1008, "1008", "policy-violation"), (1009, "1009", "message-too-big"), (1010, "1010", "protocol-error"),
        (1011, "1011", "internal-error"), (1012, "1012", "service-restart"), (1013, "1013", "try-again-later"),
        (1014, "1014", "bad-gateway"), (3000, "3000", "unauthorized"), (3003, "3003", "forbidden"),
        (3008, "3008", "timeout"), (3999, "3xxx", "application"), (4409, "4xxx", "application"),
        (-1, "invalid", "protocol-error"), (1006, "invalid", "protocol-error"), (65535, "invalid", "protocol-error"),
    ],
)  # fmt: skip
def test_close_code_names_the_cause(by: Peer, code: int | None, label: str, cause: str) -> None:
    """Row 9: each code by the registry; the real number stays in the ending."""
    record = closed(by, code)
    assert outcome(record) == (label, cause, by)
    assert ending(record).close_code == (None if code in (None, -1) else code)


def test_close_code_1002_of_tomcats_failed_endpoint_is_internal_error() -> None:
    """Row 9: Tomcat sends 1002 with its own text for a failed endpoint; any other 1002 is a protocol error."""
    text = "An unrecoverable IOException occurred so the connection was closed"
    assert outcome(closed(SERVER, 1002, text)) == ("1002", "internal-error", SERVER)
    assert outcome(closed(SERVER, 1002, "The client frame was not masked")) == ("1002", "protocol-error", SERVER)


def test_close_code_1011_of_a_deferred_close_is_the_applications_own() -> None:
    """Row 9: nhooyr's documented defer sends 1011 on every return of a handler, so it shows no failure."""
    assert outcome(closed(SERVER, 1011, "the sky is falling")) == ("1011", "application", SERVER)
    assert outcome(closed(SERVER, 1011, "db: no rows")) == ("1011", "internal-error", SERVER)


def test_close_code_3000_application_error_is_internal_error() -> None:
    """Row 9: em-websocket sends 3000 with its own text for a failed handler; any other 3000 is unauthorized."""
    assert outcome(closed(SERVER, 3000, "Application error")) == ("3000", "internal-error", SERVER)
    assert outcome(closed(SERVER, 3000, "Application error: no token")) == ("3000", "unauthorized", SERVER)


@pytest.mark.parametrize("by", PEERS)
def test_unobserved_direction_tcp_end_is_unknown(by: Peer) -> None:
    """Row 10: nothing is concluded about a session that could not be parsed."""
    for unparsed in PEERS:
        record = dropped(by, client=peer(said=0.001))
        record.peer(unparsed).unobserved = True
        assert outcome(record, Circumstances(False, listener_changed=True)) == ("unknown", "unobserved", by)


def test_unobserved_direction_close_of_the_other_still_counts() -> None:
    """Not row 10: the server's 1002 answers the frame that could not be parsed."""
    record = closed(SERVER, 1002, client=peer(unobserved=True), answered=False)
    assert outcome(record) == ("1002", "protocol-error", SERVER)
    assert not ending(record).close_unanswered


def test_slow_client_data_waited_and_server_drops() -> None:
    """Row 11: a server that drops a client which does not read."""
    record = dropped(SERVER, TcpEndKind.RESET, client=peer(waiting_since=END - 4))
    assert outcome(record) == ("1006", "slow-client", SERVER)


def test_slow_client_short_wait_or_clients_end_is_none() -> None:
    """Not row 11: a short burst above the mark, or a client that leaves while data waits."""
    assert outcome(dropped(SERVER, client=peer(waiting_since=END - 0.5))) == ("1006", "connection-lost", SERVER)
    assert outcome(dropped(CLIENT, client=peer(waiting_since=END - 4))) == ("1006", "connection-lost", CLIENT)


@pytest.mark.parametrize(
    ("client", "cause"),
    [
        (peer(said=0.004, last_opcode=3), "protocol-error"),
        (peer(said=0.004, last_opcode=0xB), "protocol-error"),
        (peer(said=0.02, last_message_size=2_000_000, largest_before=400), "message-too-big"),
        (peer(said=0.02, last_message_size=1_100_000, largest_before=900_000, in_frame=True), "message-too-big"),
        (peer(said=0.02, last_message_size=65_536), "message-too-big"),
    ],
    ids=["opcode 3", "opcode 11", "far larger", "incomplete", "first and large"],
)
def test_limit_broken_by_the_last_frame(client: PeerRecord, cause: str) -> None:
    """Row 12: the server drops right after a frame that breaks the protocol or a size limit."""
    assert outcome(dropped(SERVER, TcpEndKind.RESET, client=client)) == ("1006", cause, SERVER)


@pytest.mark.parametrize(
    ("client", "cause"),
    [
        (peer(said=0.004, last_message_size=21), "dropped-on-message"),
        (peer(said=0.004, last_message_size=9_000, largest_before=100), "dropped-on-message"),
        (peer(said=0.02, last_message_size=100_000, largest_before=90_000), "dropped-on-message"),
        (peer(said=3.0, last_message_size=2_000_000), "connection-lost"),
        (peer(said=3.0, last_opcode=3), "connection-lost"),
    ],
    ids=["small", "larger but small", "as large as before", "long ago", "opcode long ago"],
)
def test_limit_broken_looks_alike_and_is_not(client: PeerRecord, cause: str) -> None:
    """Not row 12: a message of an ordinary size, or one that passed long before the end."""
    assert outcome(dropped(SERVER, client=client)) == ("1006", cause, SERVER)


def test_worker_lost_three_sessions_together() -> None:
    """Row 13: sessions that were idle for different times lose the server at once."""
    circumstances = Circumstances(True, lost_server=3)
    assert outcome(dropped(SERVER), circumstances) == ("1006", "worker-lost", SERVER)
    assert "at least 3 sessions ended within 50 ms" in ending(dropped(SERVER), circumstances).evidence


def test_worker_lost_looks_alike_and_is_not() -> None:
    """Not row 13: two sessions; tabs that a client closes; an app that is down; sessions that close with a code."""
    assert outcome(dropped(SERVER), Circumstances(True, lost_server=2)) == ("1006", "connection-lost", SERVER)
    assert outcome(dropped(CLIENT), Circumstances(True, lost_server=3)) == ("1006", "connection-lost", CLIENT)
    assert outcome(closed(CLIENT, 1001), Circumstances(True, lost_server=3)) == ("1001", "going-away", CLIENT)
    assert outcome(dropped(SERVER), Circumstances(False, lost_server=3)) == ("1006", "app-down", SERVER)
    assert outcome(closed(SERVER, 1011), Circumstances(True, lost_server=3)) == ("1011", "internal-error", SERVER)


def test_proxy_lost_five_sessions_of_one_address() -> None:
    """Row 14: a proxy in front that is reloaded or killed takes its sessions with it."""
    assert outcome(dropped(CLIENT), Circumstances(True, lost_client=5)) == ("1006", "proxy-lost", CLIENT)


def test_proxy_lost_looks_alike_and_is_not() -> None:
    """Not row 14: four sessions, an end by the server, or Close frames."""
    assert outcome(dropped(CLIENT), Circumstances(True, lost_client=4)) == ("1006", "connection-lost", CLIENT)
    assert outcome(dropped(SERVER), Circumstances(True, lost_client=5)) == ("1006", "connection-lost", SERVER)
    assert outcome(closed(CLIENT, 1001), Circumstances(True, lost_client=5)) == ("1001", "going-away", CLIENT)


@pytest.mark.parametrize("kind", TcpEndKind)
def test_dropped_on_message_unanswered_and_at_once(kind: TcpEndKind) -> None:
    """Row 15: the shape of an unhandled exception in most frameworks."""
    record = dropped(SERVER, kind, client=peer(said=0.003))
    assert outcome(record) == ("1006", "dropped-on-message", SERVER)
    evidence = ending(record).evidence
    assert evidence[0] == "0.003 s after a 21-byte message of the client, not answered"
    assert "the app still accepts connections" in evidence


def test_dropped_on_message_looks_alike_and_is_not() -> None:
    """Not row 15: an answered message, an old one, only a ping, or an end by the client."""
    answered = dropped(SERVER, client=peer(said=0.050), server=peer(said=0.040))
    ping = peer(last_frame_at=END - 0.003, last_opcode=9)
    for record in (answered, dropped(SERVER, client=peer(said=0.2)), dropped(SERVER, client=ping)):
        assert outcome(record) == ("1006", "connection-lost", SERVER)
    assert outcome(dropped(CLIENT, server=peer(said=0.003))) == ("1006", "connection-lost", CLIENT)


@pytest.mark.parametrize("cutoff", KNOWN_CUTOFFS)
@pytest.mark.parametrize("by", PEERS)
def test_idle_cutoff_near_a_known_one(cutoff: float, by: Peer) -> None:
    """Row 16: an end after just as long a silence as a known proxy allows; 2 s beside it is none."""
    for off, cause in ((0.0, "idle-timeout"), (1.4, "idle-timeout"), (-1.4, "idle-timeout"),
                       (2.0, "connection-lost"), (-2.0, "connection-lost")):  # fmt: skip
        record = SessionRecord(opened_at=OPENED, closed_at=OPENED + cutoff + off, tcp_end=by)
        assert outcome(record) == ("1006", cause, by)


def test_idle_cutoff_traffic_in_between_is_none() -> None:
    """Not row 16: a session of 60 s with traffic was not idle; a Close after 60 idle seconds keeps its code."""
    record = SessionRecord(opened_at=END - 60, closed_at=END, tcp_end=SERVER, server=peer(last_frame_at=END - 5))
    assert outcome(record) == ("1006", "connection-lost", SERVER)
    quiet = SessionRecord(opened_at=END - 60, closed_at=END, first_close=SERVER)
    quiet.server.close = CloseFrame(1001, "", END)
    assert outcome(quiet) == ("1001", "going-away", SERVER)


@pytest.mark.parametrize("by", PEERS)
@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        (TcpEndKind.FIN, "connection-lost"),
        (TcpEndKind.SILENCE, "connection-lost"),
        (TcpEndKind.RESET, "connection-reset"),
    ],
)
def test_tcp_end_without_evidence_is_neutral(by: Peer, kind: TcpEndKind, cause: str) -> None:
    """Row 17: FIN or reset, and no more is claimed."""
    found = ending(dropped(by, kind))
    assert (found.code, found.cause, found.initiator) == ("1006", cause, by)
    assert found.confidence is Confidence.UNDECIDED


@pytest.mark.parametrize(("code", "label"), [(1000, "1000"), (None, "1005")])
def test_suspect_close_right_after_an_unanswered_message(code: int | None, label: str) -> None:
    """A server's polite end on a message that it did not answer keeps its cause and is marked."""
    found = ending(closed(SERVER, code, client=peer(said=0.005)))
    assert found.suspect
    assert (found.code, found.cause) == (label, Cause.NORMAL if code else Cause.NO_STATUS)


def test_suspect_close_looks_alike_and_is_not() -> None:
    """Not suspect: an answered message, an old one, another code, an end by the client, an app that is gone."""
    fresh = peer(said=0.005)
    for record in (
        closed(SERVER, 1000, client=peer(said=0.05), server=peer(said=0.04)),
        closed(SERVER, 1000, client=peer(said=0.5)),
        closed(SERVER, 1001, client=fresh),
        closed(SERVER, 1011, client=fresh),
        closed(CLIENT, 1000, server=fresh),
    ):
        assert not ending(record).suspect
    assert not ending(closed(SERVER, 1000, client=peer(said=0.005)), REFUSES).suspect


def test_suspect_close_after_logout_is_normal() -> None:
    """A server that closes 1000 after "logout" ended a session that was over."""
    record = closed(SERVER, 1000, client=peer(said=0.005, sample=b"logout"))
    assert outcome(record) == ("1000", "normal", SERVER)


def test_close_unanswered_first_close_and_tcp_end() -> None:
    """A Close that TCP's end leaves unanswered is not clean; one of an unparsed peer may have been answered."""
    record = closed(SERVER, 1001, answered=False, tcp_end=SERVER)
    assert ending(record).close_unanswered
    assert not ending(record).clean
    assert ending(closed(SERVER, 1001)).clean


def records() -> list[SessionRecord]:
    """Sessions of every kind: ender, Close, TCP end, last message, ping, parsing."""
    found = []
    for by, code, kind in product(PEERS, (0, None, -1, 1000, 1001, 1009, 1011, 3000, 4000, 999), TcpEndKind):
        for client, server, http in product(
            (peer(), peer(said=0.003), peer(said=0.003, last_message_size=10**6), peer(unobserved=True),
             peer(waiting_since=END - 9), peer(said=0.01, last_opcode=5), peer(ping_at=END - 8)),
            (peer(), peer(ping_at=END - 9)),
            (False, True),
        ):  # fmt: skip
            values = {"client": replace(client), "server": replace(server), "http_text": http, "tcp_end_kind": kind}
            found.append(dropped(by, **(values | {"kind": values.pop("tcp_end_kind")})) if code == 0
                         else closed(by, code, **values))  # fmt: skip
    return found


def test_endings_of_any_record_are_among_the_known_label_sets() -> None:
    """No series can appear that was not at 0 from the start, unless a keepalive text comes with an unusual code."""
    known = set(known_label_sets(CODES))
    circumstances = [
        Circumstances(accepts, draining, False, changed, lost, lost)
        for accepts, draining, changed, lost in product((True, False, None), (True, False), (True, False), (1, 5))
    ]
    for record in records():
        for here in circumstances:
            found = classify(record, here, CODES)
            assert (found.code, found.cause, found.initiator) in known
            assert found.initiator in CAUSES[found.cause].initiators
            again = classify(record, here, CODES)
            assert (again.code, again.cause, again.initiator) == (found.code, found.cause, found.initiator)
            assert (again.confidence, again.evidence) == (found.confidence, found.evidence)


def test_known_label_sets_are_unique_and_possible() -> None:
    """Each set once, with an initiator that can have the cause, and every cause in at least one."""
    sets = known_label_sets(CODES)
    assert len(sets) == len(set(sets))
    for _, cause, initiator in sets:
        assert initiator in CAUSES[cause].initiators
    assert {cause for _, cause, _ in sets} == set(Cause)


def test_known_label_sets_of_rules_and_several_maps_add_up() -> None:
    """Causes of an operator's rules and codes of every map that a session may be read by start at 0."""
    private = CloseCodeMap({4401: Cause.UNAUTHORIZED})
    sets = known_label_sets(RULED, private)
    assert ("1011", Cause.TIMEOUT, SERVER) in sets
    assert ("4401", Cause.UNAUTHORIZED, CLIENT) in sets
    assert set(known_label_sets(CODES)) <= set(sets)
    assert "4401" in code_labels(RULED, private)


def test_rules_have_one_name_each() -> None:
    """The table has no rule twice."""
    assert len(set(RULES)) == len(RULES)


MESSAGE = "0.003 s after a 21-byte message of the client, not answered"
FIN = "the server ended TCP with FIN and no Close frame"
WAITED = "a ping of the server had waited 20.0 s for its pong"
ACCEPTING, REFUSING = "the app still accepts connections", "the app refuses connections"
STATED = "a library states it in the Close frame's reason text"


@pytest.mark.parametrize(
    ("record", "circumstances", "phrases"),
    [
        (dropped(SERVER, http_text=True, client=peer(said=0.003)), ACCEPTS,
         ["the server wrote an HTTP response into the WebSocket stream", MESSAGE, FIN, ACCEPTING]),
        (closed(SERVER, 1011, "ping timeout", client=peer(said=0.3), server=peer(ping_at=END - 20)), ACCEPTS,
         [STATED, "0.300 s after a 21-byte message of the client, not answered", WAITED, ACCEPTING]),
        (closed(SERVER, 1001, "Idle Timeout"), Circumstances(), [STATED]),
        (dropped(SERVER, client=peer(said=0.003, last_opcode=3)), ACCEPTS,
         ["the last frame of the client had the reserved opcode 3", MESSAGE, FIN, ACCEPTING]),
        (dropped(SERVER, TcpEndKind.RESET, client=peer(said=0.0032, last_message_size=2_000_000, largest_before=400,
                                                       in_frame=True)), ACCEPTS,
         ["0.003 s after a 2,000,000-byte message of the client (the largest before had 400), incomplete",
          "the server ended TCP with a reset and no Close frame", ACCEPTING]),
        (dropped(SERVER, client=peer(waiting_since=END - 4)), ACCEPTS,
         ["data had waited 4.000 s for the client to read it", FIN, ACCEPTING]),
        (dropped(SERVER), Circumstances(True, lost_server=3),
         ["at least 3 sessions ended within 50 ms", FIN, ACCEPTING]),
        (SessionRecord(opened_at=END - 60.2, closed_at=END, tcp_end=CLIENT, tcp_end_kind=TcpEndKind.SILENCE), ACCEPTS,
         ["nothing had passed either way for 60.2 s, a known timeout is 60 s",
          "the client ended TCP with no more acknowledgements and no Close frame"]),
        (dropped(SERVER), Circumstances(True, listener_changed=True),
         [FIN, "the app listens on a new socket", ACCEPTING]),
        (dropped(SERVER), REFUSES, [FIN, REFUSING]),
        (closed(CLIENT, 1002), Circumstances(terminating=True), ["the pod was draining or stopping"]),
        (closed(CLIENT, 1000), ACCEPTS, []),
        (dropped(SERVER, client=peer(said=0.0001)), Circumstances(),
         ["less than 1 ms after a 21-byte message of the client, not answered", FIN]),
    ],
)  # fmt: skip
def test_evidence_is_phrases_in_order(record: SessionRecord, circumstances: Circumstances, phrases: list[str]) -> None:
    """Every observation has a phrase: what is certain goes first, circumstances go last."""
    assert list(ending(record, circumstances).evidence) == phrases
