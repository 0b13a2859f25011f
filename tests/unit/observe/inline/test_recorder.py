"""The recorder: each thing that the relay tells, once, in the right number and the right line."""

from __future__ import annotations

import pytest

from exporter.observe.inline.recorder import LogEndings
from exporter.protocol.enums import Cause, ConnectError, Peer, TcpEndKind, Unobserved
from exporter.protocol.http1_parser import Request
from tests.compiled import plain_only
from tests.unit.observe.inline.harness import Stage, opening
from tests.wire import BINARY, KEY, PING, TEXT, close, frame


def test_an_opening_is_a_handshake_and_an_open_connection() -> None:
    """A 101 counts as a handshake with its duration; the connection is active until its ending, which is logged if it
    is abnormal."""
    stage = Stage()
    record = stage.recorder.opened(opening("/feed"))
    assert stage.value("websocket_handshakes_total", route="/feed", status="101") == 1
    assert stage.value("websocket_handshake_duration_seconds_sum", route="/feed") == 0.003
    assert stage.value("websocket_connections_active", route="/feed") == 1
    assert stage.value("websocket_connections_active", route="other") == 0
    record.session.eof(Peer.SERVER, TcpEndKind.FIN)
    record.closed(record.session.end(), stage.now + 61)
    assert stage.value("websocket_connections_active", route="/feed") == 0
    assert stage.value("websocket_connection_duration_seconds_sum", route="/feed", initiator="server") == 61
    assert [event for _, event, _ in stage.lines.lines] == ["session.closed"]


def test_refusals_aborts_and_failures_are_counted() -> None:
    """A refusal by its status and route, an abort without one, what is not understood and connect errors by reason."""
    stage = Stage()
    stage.recorder.refused(Request(target="/feed?x=/chat/1"), 401, 0.5)
    stage.recorder.aborted(Request(target="/chat/9"))
    stage.recorder.unobserved(Unobserved.HTTP2, "HTTP/2")
    stage.recorder.connect_failed(ConnectError.DNS, "no such name\n")
    assert stage.value("websocket_handshakes_total", route="/feed", status="401") == 1
    assert stage.value("websocket_handshake_duration_seconds_sum", route="/feed") == 0.5
    assert stage.value("websocket_handshakes_total", route="/chat/*", status="aborted") == 1
    assert stage.value("websocket_handshake_duration_seconds_count", route="/chat/*") == 0
    assert stage.value("websocket_unobserved_connections_total", reason="http2") == 1
    assert stage.value("websocket_upstream_connect_errors_total", reason="dns") == 1
    assert stage.metrics.endings() == {}
    assert stage.lines.lines == [
        ("warning", "session.unobserved", {"reason": "http2", "why": "HTTP/2"}),
        ("warning", "upstream.connect_failed", {"reason": "dns", "why": "no such name\\n", "times": 1}),
    ]


def test_an_app_that_is_down_does_not_flood_the_log() -> None:
    """Of a thousand clients that find no app each is counted, and a line every ten seconds says how many there were."""
    stage = Stage()
    for _ in range(1000):
        stage.recorder.connect_failed(ConnectError.REFUSED, "Connection refused")
        stage.now += 0.025
    assert stage.value("websocket_upstream_connect_errors_total", reason="refused") == 1000
    assert [(event, fields["times"]) for _, event, fields in stage.lines.lines] == [
        ("upstream.connect_failed", times) for times in (1, 400, 400)
    ]


def test_a_session_that_goes_unobserved_is_told_with_its_id() -> None:
    """The line about a session that is no longer understood carries the id of the line about its end."""
    stage = Stage()
    record = stage.recorder.opened(opening())
    record.unobserved(Unobserved.FRAME, "a control frame without FIN")
    assert stage.value("websocket_unobserved_connections_total", reason="frame") == 1
    ((level, event, fields),) = stage.lines.lines
    assert (level, event) == ("warning", "session.unobserved")
    assert fields["session_id"] == record.id
    assert fields["reason"] == "frame"
    assert fields["why"] == "a control frame without FIN"


def test_a_defect_of_ours_is_told_with_its_traceback() -> None:
    """A defect counts as unobserved, internal, and its line carries the exception."""
    stage = Stage()
    error = ValueError("ours")
    stage.recorder.defect(error)
    assert stage.value("websocket_unobserved_connections_total", reason="internal") == 1
    ((level, event, fields),) = stage.lines.lines
    assert (level, event, fields["exc_info"]) == ("error", "session.unobserved", error)


ENDINGS = {
    Cause.NORMAL: 1000, Cause.GOING_AWAY: 1001, Cause.NO_STATUS: None, Cause.INTERNAL_ERROR: 1011,
    Cause.POLICY_VIOLATION: 1008, Cause.SERVICE_RESTART: 1012,
}  # fmt: skip


@pytest.mark.parametrize("log_endings", ["all", "abnormal", "none"])
@pytest.mark.parametrize("cause", ENDINGS)
def test_which_endings_are_logged_and_at_which_level(cause: Cause, log_endings: LogEndings) -> None:
    """Closes that are not abnormal are info and only logged under `all`; all others are warnings, silent under
    `none`. All are counted."""
    stage = Stage(log_endings)
    stage.play(server=close(ENDINGS[cause]))
    calm = cause in (Cause.NORMAL, Cause.GOING_AWAY, Cause.NO_STATUS, Cause.SERVICE_RESTART)
    wanted = log_endings == "all" or (log_endings == "abnormal" and not calm)
    assert [(level, event) for level, event, _ in stage.lines.lines] == (
        [("info" if calm else "warning", "session.closed")] if wanted else []
    )
    assert sum(stage.metrics.endings().values()) == 1


def test_the_line_tells_all_that_is_known() -> None:
    """Free text goes into the line, cut and escaped, with counts and ages a sender; the query string does not."""
    stage = Stage()
    opened = opening(
        "/chat/room%201\x1b[31m?token=secret",
        forwarded_for="198.51.100.1, 10.0.0.1\r\nFake: line",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    record = stage.play(
        opened,
        client=frame(TEXT, b"hi", mask=KEY) + frame(BINARY, bytes(500), mask=KEY),
        server=frame(PING) + close(1011, "Zeile\n\u202eeins".encode()),
        seconds=2.5,
    )
    ((level, event, fields),) = stage.lines.lines
    assert (level, event) == ("warning", "session.closed")
    expected = {
        "session_id": record.id,
        "route": "/chat/*",
        "path": "/chat/room%201\\x1b[31m",
        "code": "1011",
        "cause": "internal-error",
        "initiator": "server",
        "clean": False,
        "reason": "Zeile\\n\\u202eeins",
        "duration_s": 2.5,
        "frames": {"client": 2, "server": 2},
        "bytes": {"client": 502, "server": 2 + len("Zeile\n\u202eeins".encode())},
        "last_frame_age_s": {"client": 1.5, "server": 2.5},
        "subprotocol": "chat.v2",
        "client": "192.0.2.7:40000",
        "forwarded_for": "198.51.100.1, 10.0.0.1\\r\\nFake: line",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    }
    assert {name: fields[name] for name in expected} == expected
    assert "secret" not in str(fields)


def test_a_session_without_a_frame_has_no_age() -> None:
    """Where nothing ever came there is no age to tell."""
    stage = Stage()
    record = stage.recorder.opened(opening())
    record.session.eof(Peer.CLIENT, TcpEndKind.FIN)
    line = record.line(record.session.end(), stage.now)
    assert line["last_frame_age_s"] == {"client": None, "server": None}
    assert line["trace_id"] == ""


def test_ids_are_unique() -> None:
    """No two sessions, of one process or of two, share an id."""
    ids = {stage.recorder.opened(opening()).id for stage in (Stage(), Stage()) for _ in range(1000)}
    assert len(ids) == 2000


@plain_only
def test_the_connection_leaves_the_gauge_even_if_counting_fails() -> None:
    """A defect while an ending is counted must not leave a connection open in the gauge for ever."""
    stage = Stage()
    record = stage.recorder.opened(opening())

    def fail(*args: object) -> None:
        raise RuntimeError

    stage.metrics.ended = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        record.closed(record.session.end(), stage.now)
    assert stage.value("websocket_connections_active", route="/chat/*") == 0
