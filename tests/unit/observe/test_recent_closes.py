"""Reports of abnormal closes, and closes by the minute."""

from __future__ import annotations

import json

import pytest

from exporter.observe.recent_closes import (
    MAX_REPORTS,
    MAX_SAMPLE,
    MINUTES,
    REPORTS_PER_SECOND,
    ClosesPerMinute,
    RecentCloses,
    close_fields,
    report,
)
from exporter.protocol.enums import Cause, Peer, TcpEndKind
from exporter.protocol.evidence import Confidence
from exporter.protocol.flight_recorder import BY_SERVER, KEPT, WRITTEN, Ring
from exporter.protocol.record import PeerRecord
from tests.unit.observe.harness import ROUTES, ending, record

LOST = ending("1006", Cause.CONNECTION_LOST, clean=False)


class Clock:
    """Seconds that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def frames() -> bytes:
    """Return the slots of a text from the client and a Close of the server, 0.1234 s before second 1000."""
    ring = Ring()
    ring.add(990.0, 21, 0x81 & KEPT | WRITTEN)
    ring.add(999.8766, 2, 0x88 & KEPT | WRITTEN | BY_SERVER)
    return ring.in_order()


def test_close_fields_of_a_record_are_those_of_the_log() -> None:
    """Every field of the log line comes from the record and its ending."""
    client = PeerRecord(frames=3, payload=100, last_frame_at=998.5)
    fields = close_fields(
        record(client, number=255, trace_id="ab" * 16, forwarded_for="203.0.113.9", relay=1),
        ending("4xxx", Cause.APPLICATION, Peer.CLIENT, reason="bye\n", close_code=4409),
        "/chat/*",
    )
    session_id = fields.pop("session_id")
    assert session_id.endswith("-ff")
    assert fields == {
        "route": "/chat/*", "path": "/chat/1", "code": "4xxx", "close_code": 4409, "cause": "application",
        "initiator": "client", "clean": True, "reason": "bye\\n", "duration_s": 2.5,
        "frames": {"client": 3, "server": 0}, "bytes": {"client": 100, "server": 0},
        "last_frame_age_s": {"client": 1.5, "server": None}, "subprotocol": "chat.v2", "client": "192.0.2.7:40000",
        "forwarded_for": "203.0.113.9", "trace_id": "ab" * 16,
    }  # fmt: skip


def test_session_ids_of_all_sessions_differ() -> None:
    """Sessions of other relays, of a relay that was restarted, and later ones have names of their own."""
    others = [record(), record(number=8), record(relay=1), record(seconds=3.0)]
    assert len({one.session_id for one in others}) == len(others)


def test_report_as_dict_holds_evidence_and_frames() -> None:
    """A report has the circumstances of the end and the last frames, to 0.1 ms, ready for JSON."""
    server = PeerRecord(in_frame=True, fragmented=True, ping_at=990.0, last_frame_at=999.8766)
    close = report(
        record(server=server, frames=frames(), tcp_end=Peer.SERVER, tcp_end_kind=TcpEndKind.RESET), LOST, "x", 1.7e9
    )
    whole = json.loads(json.dumps(close.as_dict()))
    assert {name: whole[name] for name in ("tcp_ended_by", "tcp_ended_how", "ping_unanswered_s", "idle_s")} == {
        "tcp_ended_by": "server", "tcp_ended_how": "reset", "ping_unanswered_s": 10.0, "idle_s": 0.1234,
    }  # fmt: skip
    assert whole["cut_in_frame"] == whole["cut_in_message"] == ["server"]
    assert whole["ended_at"] == 1.7e9
    assert [(frame["sender"], frame["opcode"], frame["age_s"]) for frame in whole["last_frames"]] == [
        ("client", "text", 10.0), ("server", "close", 0.1234),
    ]  # fmt: skip
    assert "last_message" not in whole


def test_report_of_a_classified_close_holds_its_evidence() -> None:
    """The evidence's phrases and its confidence are in the report."""
    seen = ["the app still accepts connections"]
    known = ending("1006", Cause.DROPPED_ON_MESSAGE, confidence=Confidence.LIKELY, evidence=seen)
    fields = report(record(), known, "x", 0.0).fields
    assert (fields["confidence"], fields["evidence"]) == ("likely", seen)


def test_report_samples_are_escaped_and_cut() -> None:
    """A sample of a message shows no control characters and has a bound."""
    client = PeerRecord(sample=b"\x1b[2J" + b"x" * 9000)
    samples = report(record(client), LOST, "x", 0.0).fields["last_message"]
    assert samples["client"].startswith("\\x1b[2Jxx")
    assert len(samples["client"]) <= MAX_SAMPLE + 3
    assert samples["server"] == ""


def test_recent_closes_keep_abnormal_and_suspect_closes() -> None:
    """Reports are kept of abnormal and suspect closes, not of others; the time of day is that of the close."""
    clock = Clock()
    closes = RecentCloses(ROUTES, clock=clock)
    closes.session_closed(record(), ending("1001", Cause.GOING_AWAY))
    closes.session_closed(record(number=1), LOST)
    closes.session_closed(record(number=2), ending("1000", Cause.NORMAL, suspect=True))
    kept = [(number, close.fields["cause"]) for number, close in closes.walk()]
    assert kept == [(1, "normal"), (0, "connection-lost")]
    assert closes.total == len(closes) == 2
    found = closes.find(record(number=1).session_id)
    assert found is not None
    assert (found[0], found[1].fields["route"]) == (0, "/chat/*")


def test_recent_closes_are_bounded_and_numbered_since_the_start() -> None:
    """The oldest report goes; numbers do not move; walking on from a number goes to older ones."""
    clock = Clock()
    closes = RecentCloses(ROUTES, clock=clock)
    for number in range(MAX_REPORTS + 2):
        clock.now += 1
        closes.session_closed(record(number=number), LOST)
    assert [number for number, _ in closes.walk()] == [*range(MAX_REPORTS + 1, 1, -1)]
    assert [number for number, _ in closes.walk(3)] == [2]
    assert closes.find(record(number=0).session_id) is None


def test_recent_closes_over_the_ceiling_are_suppressed_and_counted() -> None:
    """A flood of closes keeps a bounded number of reports a second; in the next second there are new ones."""
    suppressed: list[int] = []
    clock = Clock()
    closes = RecentCloses(ROUTES, suppressed.append, clock=clock)
    for number in range(REPORTS_PER_SECOND + 50):
        closes.session_closed(record(number=number), LOST)
    assert (closes.total, sum(suppressed)) == (REPORTS_PER_SECOND, 50)
    clock.now += 1
    closes.session_closed(record(), LOST)
    assert closes.total == REPORTS_PER_SECOND + 1


def test_closes_per_minute_are_the_last_hour() -> None:
    """Each minute has its closes by code, cause and initiator; after an hour they are gone."""
    clock = Clock()
    history = ClosesPerMinute(clock)
    history.session_closed(record(), LOST)
    clock.now += 60
    history.session_closed(record(), LOST)
    history.session_closed(record(), LOST)
    kind = ("1006", "connection-lost", "server")
    minutes = history.minutes()
    assert len(minutes) == MINUTES
    assert [minute[kind] for minute in minutes[-3:]] == [0, 1, 2]
    clock.now += 60 * (MINUTES - 1)
    assert sum(minute[kind] for minute in history.minutes()) == 2
    clock.now += 60
    assert not any(history.minutes())
    assert history.total == 3


@pytest.mark.parametrize("text", ["\x1b[31m", "\u202e", "a\nb"])
def test_close_fields_of_hostile_texts_are_printable(text: str) -> None:
    """Nothing that a peer chose acts on a terminal or breaks a line."""
    fields = close_fields(
        record(path=text, subprotocol=text, forwarded_for=text, peer_address=text), ending(reason=text), "all"
    )
    for name in ("path", "subprotocol", "forwarded_for", "client", "reason"):
        assert fields[name].isprintable()
