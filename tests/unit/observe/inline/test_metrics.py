"""The metrics, as a scraper reads them: golden exposition text, zeros from the start, bounded labels."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from exporter.observe.inline.metrics import HANDSHAKE_STATUSES, status_label
from exporter.protocol.classify import rows
from exporter.protocol.close_codes import CloseCodeMap
from exporter.protocol.enums import PEERS, Cause, ConnectError, Peer, TcpEndKind, Unobserved
from exporter.protocol.http1_parser import Request
from tests.golden import assert_golden
from tests.unit.observe.inline.harness import CODES, ROUTES, Stage, opening
from tests.wire import BINARY, CONTINUATION, KEY, PING, PONG, TEXT, close, frame

GOLDEN = Path(__file__).parent / "golden"
ALL_ROUTES = [*ROUTES, "other"]


def exposition(stage: Stage) -> str:
    """What a scraper reads of ours; the process's own numbers move by themselves."""
    text = generate_latest(stage.metrics.registry).decode()
    text = text.replace(f'python="{platform.python_version()}"', 'python="3.x"')
    ours = [line for line in text.splitlines() if re.match(r"(# (HELP|TYPE) )?websocket_", line)]
    return "\n".join(ours) + "\n"


def after_a_few_endings() -> Stage:
    stage = Stage()
    stage.play(server=close(1011, b"boom") + frame(TEXT), client=close(1011, mask=KEY))
    stage.play(server=frame(TEXT, b"hello"), client=frame(BINARY, bytes(300), mask=KEY), seconds=60.0)
    stage.play(opening("/feed"), client=close(1001, mask=KEY), seconds=0.0625)
    stage.play(opening("/elsewhere"), end=(Peer.SERVER, TcpEndKind.FIN), app_alive=False)
    stage.play(opening("/feed"), client=frame(PING, fin=False), end=(Peer.SERVER, TcpEndKind.RESET))
    stage.recorder.opened(opening("/feed"))
    stage.recorder.refused(Request(target="/chat/1"), 403, 0.02)
    stage.recorder.aborted(Request(target="/chat/1"))
    stage.recorder.unobserved(Unobserved.TLS, "TLS")
    stage.recorder.connect_failed(ConnectError.REFUSED, "refused")
    return stage


def test_a_fresh_start_is_golden() -> None:
    """What a scraper reads before anything happened: every known series, at 0."""
    assert_golden(GOLDEN / "fresh.prom", exposition(Stage()))


def test_a_few_endings_are_golden() -> None:
    """What a scraper reads after a crash, a lost client, a browser that left, a dead app and a refusal."""
    assert_golden(GOLDEN / "endings.prom", exposition(after_a_few_endings()))


def test_every_series_starts_at_zero() -> None:
    """Nothing but build_info has a value before anything happened, so that the first step shows as an increase."""
    for family in Stage().metrics.registry.collect():
        if family.name.startswith("websocket_"):
            for sample in family.samples:
                assert sample.value == (sample.name == "websocket_exporter_build_info"), sample


@pytest.mark.parametrize("route", ALL_ROUTES)
def test_every_row_of_every_route_is_there_from_the_start(route: str) -> None:
    """Every ending that can be told in advance, every handshake status, frame kind and reason is at 0 at once."""
    stage = Stage()
    for code, cause, initiator in rows(CloseCodeMap(CODES)):
        value = stage.value(
            "websocket_connections_closed_total", route=route, code=code, cause=cause, initiator=initiator
        )
        assert value == 0
    for status in ("101", "400", "401", "403", "404", "426", "429", "500", "502", "503", "504", "aborted"):
        assert status in HANDSHAKE_STATUSES
        assert stage.value("websocket_handshakes_total", route=route, status=status) == 0
    for peer in Peer:
        assert stage.value("websocket_connection_duration_seconds_count", route=route, initiator=peer) == 0
        assert stage.value("websocket_close_handshakes_incomplete_total", route=route, initiator=peer) == 0
    for sender in PEERS:
        for opcode in ("text", "binary", "continuation", "close", "ping", "pong", "reserved"):
            assert stage.value("websocket_frames_total", route=route, sender=sender, opcode=opcode) == 0
        assert stage.value("websocket_payload_bytes_total", route=route, sender=sender) == 0
    for reason in Unobserved:
        assert stage.value("websocket_unobserved_connections_total", reason=reason) == 0
    for error in ConnectError:
        assert stage.value("websocket_upstream_connect_errors_total", reason=error) == 0


def test_ten_thousand_of_everything_leave_the_series_alone() -> None:
    """Codes, paths, reasons, addresses, statuses that clients choose make no new series: 10,000 different ones of each,
    and the count of series is what it was."""
    stage = Stage()
    for status in range(100, 1000):
        stage.recorder.refused(Request(target="/x"), status, 0.0)
    before = stage.series()
    for number in range(10_000):
        sent = close(number if number < 6000 else number * 6, f"reason {number}".encode())
        opened = opening(f"/chat/{number}" if number % 2 else f"/{number}", forwarded_for=f"10.0.{number}")
        opened.client = f"192.0.2.1:{number}"
        stage.play(opened, client=sent)
        stage.recorder.refused(Request(target=f"/r/{number}"), 100 + number % 900, 0.0)
        stage.recorder.unobserved(Unobserved.FRAME, f"why {number}")
        stage.recorder.connect_failed(ConnectError.OTHER, f"why {number}")
    assert stage.series() == before
    total = sum(stage.metrics.endings().values())
    assert total == 10_000


def closed_series(stage: Stage) -> list[str]:
    return [name for name, _ in stage.series() if name == "websocket_connections_closed_total"]


def test_keepalive_texts_add_few_series() -> None:
    """Any code with a keepalive text may add a pairing; however many there are, no more than one a known label."""
    stage = Stage()
    before = len(closed_series(stage))
    for code in range(65536):
        if code % 7 == 0 or code < 5100:
            stage.play(opening("/feed"), server=close(code, b"ping timeout"))
    labels = {verdict.label for verdict in CloseCodeMap(CODES).rows()}
    assert 0 < len(closed_series(stage)) - before <= len(labels)


@pytest.mark.parametrize(
    ("status", "label"),
    [(101, "101"), (200, "200"), (301, "301"), (403, "403"), (419, "4xx"), (426, "426"), (451, "451"), (499, "4xx"),
     (502, "502"), (509, "5xx"), (599, "5xx"), (999, "9xx")],
)  # fmt: skip
def test_a_status_is_a_bounded_label(status: int, label: str) -> None:
    """Registered statuses keep their number, any other shares its class."""
    assert status_label(status) == label


def test_frames_and_bytes_move_while_a_session_lives() -> None:
    """A scrape in the middle of a session sees what has passed so far, by route, sender and opcode."""
    stage = Stage()
    record = stage.recorder.opened(opening("/feed"))
    sent = [(TEXT, 5, "text"), (BINARY, 300, "binary"), (CONTINUATION, 0, "continuation"), (PING, 4, "ping"),
            (PONG, 125, "pong"), (0x3, 7, "reserved"), (0xF, 1, "reserved")]  # fmt: skip
    payload = 0
    for opcode, size, _ in sent:
        record.session.feed(Peer.SERVER, frame(opcode, bytes(size)), 0.0)
        payload += size
        assert stage.value("websocket_payload_bytes_total", route="/feed", sender="server") == payload
    for name in ("text", "binary", "continuation", "ping", "pong"):
        assert stage.value("websocket_frames_total", route="/feed", sender="server", opcode=name) == 1
    assert stage.value("websocket_frames_total", route="/feed", sender="server", opcode="reserved") == 2
    assert stage.value("websocket_frames_total", route="/feed", sender="server", opcode="close") == 0
    assert stage.value("websocket_frames_total", route="/feed", sender="client", opcode="text") == 0
    assert stage.value("websocket_payload_bytes_total", route="other", sender="server") == 0
    assert stage.value("websocket_connections_active", route="/feed") == 1


def test_frames_are_read_as_their_samples_are_taken() -> None:
    """With many routes a scrape pauses among them: what passes on the second meanwhile is in what follows."""
    metrics = Stage().metrics
    family = next(family for family in metrics.registry.collect() if family.name == "websocket_frames")
    samples = iter(family.samples)
    next(samples)
    for route in ROUTES:
        metrics.tallies[route, Peer.CLIENT][TEXT] += 7
    on_timeout = {sample.labels["route"] for sample in samples if sample.value == 7}
    assert ROUTES[1] in on_timeout


def test_there_are_no_created_series() -> None:
    """No _created series in either format: they double the series and say nothing here."""
    stage = after_a_few_endings()
    for accept in ("", "application/openmetrics-text; version=1.0.0"):
        encode, _ = choose_encoder(accept)
        assert b"_created" not in encode(stage.metrics.registry)


def test_openmetrics_on_request_says_the_same() -> None:
    """A scraper that asks for OpenMetrics gets it, well-formed, with the values of the classic format."""
    stage = after_a_few_endings()
    encode, content_type = choose_encoder("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert content_type.startswith("application/openmetrics-text")
    text = encode(stage.metrics.registry).decode()
    assert text.endswith("# EOF\n")

    def values(families: object) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families  # type: ignore[attr-defined]
            for sample in family.samples
            if sample.name.startswith("websocket_")
        }

    classic = values(text_string_to_metric_families(generate_latest(stage.metrics.registry).decode()))
    assert values(parse_openmetrics(text)) == classic
    assert classic


def test_endings_are_summed_for_the_landing_page() -> None:
    """Only what happened, by route, code, cause and initiator."""
    assert Stage().metrics.endings() == {}
    assert after_a_few_endings().metrics.endings() == {
        ("/chat/*", "1011", Cause.INTERNAL_ERROR, Peer.SERVER): 1,
        ("/chat/*", "1006", Cause.CONNECTION_LOST, Peer.CLIENT): 1,
        ("/feed", "1001", Cause.GOING_AWAY, Peer.CLIENT): 1,
        ("other", "1006", Cause.APP_DOWN, Peer.SERVER): 1,
        ("/feed", "unknown", Cause.UNOBSERVED, Peer.SERVER): 1,
    }


def test_the_drains_gauges_are_read_at_every_scrape() -> None:
    """Draining, sessions and seconds left are what the drain says at that moment."""
    stage = Stage()
    state = {"on": False, "sessions": 0, "seconds": 0.0}
    stage.metrics.watch_drain(lambda: bool(state["on"]), lambda: int(state["sessions"]), lambda: state["seconds"])
    names = ("websocket_exporter_draining", "websocket_exporter_drain_sessions_remaining",
             "websocket_exporter_drain_seconds_remaining")  # fmt: skip
    assert [stage.value(name) for name in names] == [0, 0, 0]
    state.update(on=True, sessions=7, seconds=12.5)
    assert [stage.value(name) for name in names] == [1, 7, 12.5]
    state.update(on=True, sessions=0, seconds=0.0)
    assert [stage.value(name) for name in names] == [1, 0, 0]


def test_the_incomplete_close_handshakes() -> None:
    """A Close without its answer counts once for its sender; an answered one, and none at all, do not."""
    stage = Stage()
    name = "websocket_close_handshakes_incomplete_total"
    stage.play(server=close(1011))
    stage.play(server=close(1011), client=close(1011, mask=KEY))
    stage.play()
    assert stage.value(name, route="/chat/*", initiator="server") == 1
    assert stage.value(name, route="/chat/*", initiator="client") == 0
    record = stage.recorder.opened(opening())
    record.session.end_by_proxy(Cause.DRAIN, 1001)
    record.closed(record.session.end(), stage.now)
    assert stage.value(name, route="/chat/*", initiator="proxy") == 1
