"""Presets: private codes of known protocols."""

from __future__ import annotations

import pytest

from exporter.config import CODE_CAUSES
from exporter.protocol.classify import classify
from exporter.protocol.close_codes import Classification, CloseCodeMap
from exporter.protocol.enums import Cause, Peer
from exporter.protocol.evidence import Circumstances
from exporter.protocol.presets import AUTO, PRESETS, CodeMaps
from exporter.protocol.record import CloseFrame, SessionRecord


def book(name: str) -> CloseCodeMap:
    return CodeMaps([name]).default


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_private_codes_only(name: str) -> None:
    """Codes and ranges lie in 3000 to 4999, and each cause is one that a code can be given."""
    preset = PRESETS[name]
    assert preset.source
    assert preset.codes or preset.texts
    for code, cause in preset.codes.items():
        assert 3000 <= code <= 4999
        assert cause in {*CODE_CAUSES, Cause.CONNECTION_LOST}
    for span, cause in preset.ranges:
        assert 3000 <= span.start < span.stop <= 5000
        assert (span.start < 4000) == (span.stop <= 4000), "a range shares one label"
        assert cause in CODE_CAUSES


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_codes_keep_their_numbers_and_its_ranges_do_not(name: str) -> None:
    """Named codes get a series each; the rest of a range shares 3xxx or 4xxx, so labels stay bounded."""
    preset, codes = PRESETS[name], book(name)
    for code, cause in preset.codes.items():
        assert codes.classify_code(code) == Classification(str(code), cause)
    for span, cause in preset.ranges:
        for code in span:
            if code not in preset.codes and code not in (3000, 3003, 3008):
                assert codes.classify_code(code) == Classification("3xxx" if code < 4000 else "4xxx", cause)
    assert {codes.classify_code(code) for code in range(65536)} <= set(codes.rows())


@pytest.mark.parametrize(
    ("name", "code", "label", "cause"),
    [
        ("graphql-ws", 4400, "4400", Cause.PROTOCOL_ERROR),
        ("graphql-ws", 4401, "4401", Cause.UNAUTHORIZED),
        ("graphql-ws", 4403, "4403", Cause.FORBIDDEN),
        ("graphql-ws", 4408, "4408", Cause.TIMEOUT),
        ("graphql-ws", 4500, "4500", Cause.INTERNAL_ERROR),
        ("graphql-ws", 4600, "4xxx", Cause.APPLICATION),
        ("pusher", 4201, "4201", Cause.PING_TIMEOUT),
        ("pusher", 4042, "4xxx", Cause.POLICY_VIOLATION),
        ("pusher", 4142, "4xxx", Cause.TRY_AGAIN_LATER),
        ("pusher", 4242, "4xxx", Cause.SERVICE_RESTART),
        ("pusher", 4300, "4xxx", Cause.APPLICATION),
        ("centrifugo", 3500, "3500", Cause.UNAUTHORIZED),
        ("centrifugo", 3506, "3506", Cause.PROTOCOL_ERROR),
        ("centrifugo", 3507, "3507", Cause.FORBIDDEN),
        ("centrifugo", 3509, "3xxx", Cause.POLICY_VIOLATION),
        ("centrifugo", 3001, "3001", Cause.GOING_AWAY),
        ("centrifugo", 3012, "3012", Cause.PING_TIMEOUT),
        ("centrifugo", 3700, "3xxx", Cause.POLICY_VIOLATION),
        ("centrifugo", 4500, "4xxx", Cause.POLICY_VIOLATION),
        ("discord", 4004, "4004", Cause.UNAUTHORIZED),
        ("discord", 4008, "4008", Cause.POLICY_VIOLATION),
        ("twitch-eventsub", 4002, "4002", Cause.PING_TIMEOUT),
    ],
)
def test_a_presets_codes_mean_what_the_protocol_says(name: str, code: int, label: str, cause: Cause) -> None:
    """Codes mean what each protocol's documents say."""
    assert book(name).classify_code(code) == Classification(label, cause)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_leaves_the_registered_protocol_codes_alone(name: str) -> None:
    """1000 to 1015 mean the same under every preset."""
    plain, codes = CloseCodeMap(), book(name)
    for code in range(1000, 3000):
        assert codes.classify_code(code) == plain.classify_code(code)


def by_server(code: int, reason: str, subprotocol: str = "") -> SessionRecord:
    record = SessionRecord(closed_at=9.0, first_close=Peer.SERVER, subprotocol=subprotocol)
    record.server.close = CloseFrame(code, reason, 9.0)
    return record


@pytest.mark.parametrize(
    ("name", "code", "reason", "cause"),
    [
        ("mqtt", 1000, "MQTT keepalive timeout", Cause.PING_TIMEOUT),
        ("mqtt", 1000, "MQTT died", Cause.NORMAL),
        ("stomp", 4500, "Failed to send message within the configured send limit", Cause.SLOW_CLIENT),
        ("stomp", 4500, "", Cause.TIMEOUT),
        ("litestar", 4500, "no such room", Cause.INTERNAL_ERROR),
        ("phoenix", 1002, "", Cause.IDLE_TIMEOUT),
        ("phoenix", 1002, "invalid frame", Cause.PROTOCOL_ERROR),
    ],
)
def test_preset_text_names_the_cause(name: str, code: int, reason: str, cause: Cause) -> None:
    """A preset's text counts as a whole, with its code only."""
    ending = classify(by_server(code, reason), Circumstances(app_accepts=True), book(name))
    assert (ending.cause, ending.close_code) == (cause, code)


def test_preset_idle_timeout_right_after_a_frame_is_none() -> None:
    """Bandit sends the same bare 1002 for an invalid frame and for a minute of silence."""
    record = by_server(1002, "")
    for spoke_at, cause in ((8.95, Cause.PROTOCOL_ERROR), (8.5, Cause.IDLE_TIMEOUT)):
        record.client.last_frame_at = spoke_at
        assert classify(record, Circumstances(app_accepts=True), book("phoenix")).cause is cause


def test_code_maps_auto_reads_a_session_by_its_subprotocol() -> None:
    """4500 is graphql-ws' internal error, Spring's timeout, and of unknown meaning without a subprotocol."""
    maps = CodeMaps([AUTO], {4401: Cause.UNAUTHORIZED})
    for subprotocol, label, cause in (
        ("graphql-transport-ws", "4500", Cause.INTERNAL_ERROR),
        ("V12.STOMP", "4500", Cause.TIMEOUT),
        ("", "4xxx", Cause.APPLICATION),
        ("chat", "4xxx", Cause.APPLICATION),
    ):
        record = by_server(4500, "", subprotocol)
        ending = classify(record, Circumstances(app_accepts=True), maps.choose(record))
        assert (ending.code, ending.cause) == (label, cause)
    for codes in maps.maps:
        assert codes.classify_code(4401) == Classification("4401", Cause.UNAUTHORIZED)


def test_code_maps_auto_reads_a_session_by_its_path() -> None:
    """LiveView's path is Phoenix'; a bare 1002 elsewhere stays a protocol error."""
    maps = CodeMaps([AUTO])
    for path, cause in (
        ("/live/websocket?vsn=2.0.0", Cause.IDLE_TIMEOUT),
        ("/app/live/websocket", Cause.IDLE_TIMEOUT),
        ("/chat/websocket", Cause.PROTOCOL_ERROR),
        ("/live/websocket/room", Cause.PROTOCOL_ERROR),
    ):
        record = by_server(1002, "")
        record.path = path
        assert classify(record, Circumstances(app_accepts=True), maps.choose(record)).cause is cause


def test_code_maps_without_auto_is_one_map() -> None:
    """Named presets hold for every session."""
    maps = CodeMaps(["graphql-ws", "pusher"])
    assert maps.maps == (maps.default,)
    assert maps.choose(by_server(4500, "", "v12.stomp")) is maps.default
    assert maps.default.classify_code(4201).cause is Cause.PING_TIMEOUT


def test_presets_identify_by_subprotocols_of_their_own() -> None:
    """No two presets claim one subprotocol."""
    claimed = [name for preset in PRESETS.values() for name in preset.subprotocols]
    assert len(claimed) == len(set(claimed))
