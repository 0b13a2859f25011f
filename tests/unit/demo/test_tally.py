"""The tally says what /metrics says."""

from __future__ import annotations

from collections import Counter

import pytest

from exporter.demo.tally import Ending, FrameCounts, news, read, table

PAGE = """\
# HELP websocket_connections_active WebSocket connections that are open now.
# TYPE websocket_connections_active gauge
websocket_connections_active{route="all"} 20.0
websocket_connections_active{route="other"} 8.0
# HELP websocket_connections_closed_total WebSocket connections that ended.
# TYPE websocket_connections_closed_total counter
websocket_connections_closed_total{route="all",code="1001",cause="going-away",initiator="server"} 29.0
websocket_connections_closed_total{route="other",code="1001",cause="going-away",initiator="server"} 1.0
websocket_connections_closed_total{route="all",code="1011",cause="internal-error",initiator="server"} 2.0
websocket_connections_closed_total{route="all",code="1000",cause="normal",initiator="client"} 0.0
# HELP websocket_handshakes_total Opening handshakes.
# TYPE websocket_handshakes_total counter
websocket_handshakes_total{route="all",status="101"} 60.0
websocket_handshakes_total{route="all",status="502"} 4.0
websocket_handshakes_total{route="all",status="aborted"} 1.0
"""

GOING = Ending("1001", "going-away", "server")
ERROR = Ending("1011", "internal-error", "server")
NORMAL = Ending("1000", "normal", "client")


def test_a_page_is_summed_over_routes() -> None:
    """Open sessions, endings and handshakes that failed are read, routes added up."""
    tally = read(PAGE)
    assert tally.active == 28
    assert tally.closed == Counter({GOING: 30, ERROR: 2})
    assert tally.refused == Counter({"502": 4, "aborted": 1})


def test_what_is_no_page_is_refused() -> None:
    """A text that is not Prometheus' raises ValueError."""
    with pytest.raises(ValueError):
        read("<html>{")


def test_news_is_what_changed() -> None:
    """The line has what has ended since the last look, most frequent first, and nothing that stood still."""
    before = FrameCounts(30, Counter({GOING: 10, ERROR: 2}), Counter({"502": 4}))
    now = FrameCounts(28, Counter({GOING: 39, ERROR: 2, NORMAL: 2}), Counter({"502": 4}))
    assert news(before, now) == "28 open; server closed 29 x 1001 going-away; client closed 2 x 1000 normal"
    assert news(now, now) == "28 open"
    assert news(FrameCounts(), FrameCounts(0, Counter(), Counter({"502": 7}))) == " 0 open; turned away 7 x HTTP 502"


def test_the_table_has_a_row_for_each_kind() -> None:
    """The summary lists every kind of ending that happened, most frequent first, and no kind that did not."""
    assert table(read(PAGE)) == (
        "  code     cause              by       count\n"
        "  1001     going-away         server      30\n"
        "  1011     internal-error     server       2\n"
        "  -        HTTP 502           -            4\n"
        "  -        aborted            -            1"
    )
