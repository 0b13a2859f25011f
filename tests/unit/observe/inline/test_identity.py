"""The recorder uses what it is given."""

from __future__ import annotations

from exporter.observe.inline.metrics import Metrics
from exporter.observe.inline.recent_closes import Closes
from exporter.observe.inline.reconnects import Reconnects
from exporter.observe.inline.recorder import Recorder
from exporter.protocol.client_identity import by_cookie
from exporter.protocol.close_codes import CloseCodeMap
from exporter.protocol.routes import Router


def test_parts_that_are_still_empty_are_used():
    """An empty table of returns, or an empty book, is not taken for none: --client-identity counts from the start."""
    router, codes = Router(()), CloseCodeMap()
    reconnects, closes = Reconnects(by_cookie("sid")), Closes()
    recorder = Recorder(Metrics(router.names, codes, "0", "test"), router, codes, reconnects=reconnects, closes=closes)
    assert recorder.reconnects is reconnects
    assert recorder.closes is closes
