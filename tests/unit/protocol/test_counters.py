"""The layout of the cells that relays and observer share."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import pytest

from exporter.protocol.counters import (
    NANOSECONDS,
    OPCODES,
    SPARE_ROUTES,
    STATUSES,
    TURN_BUCKETS,
    HistogramCells,
    ObserverLayout,
    RelayLayout,
    RouteCells,
)
from exporter.protocol.enums import PEERS, Cause, Peer


def cells_of(part: object) -> Iterator[int]:
    """Every cell of a layout, found by its public attributes; arrays are expanded by the sizes they document."""
    arrays = {"dropped": len(Peer), "handshakes": len(STATUSES)}
    for name in (name for name in dir(part) if not name.startswith("_")):
        match value := getattr(part, name):
            case HistogramCells():
                yield from range(value.start, value.start + value.size)
            case int() if name != "size":
                yield from range(value, value + arrays.get(name, 1))
            case dict():
                for item in value.values():
                    width = len(OPCODES) if name == "frames" else 1
                    yield from (
                        range(item.start, item.start + item.size)
                        if isinstance(item, HistogramCells)
                        else range(item, item + width)
                    )
            case list():
                for item in value:
                    assert isinstance(item, RouteCells)
                    yield from cells_of(item)
            case _:
                assert name == "size", f"{name}: {value}"


@pytest.mark.parametrize("routes", [1, 7])
def test_relay_layout_gives_each_cell_to_one_counter(routes):
    """No two counters share a cell, none is left over, and there is room for routes that a reload adds."""
    layout = RelayLayout(routes)
    assert sorted(cells_of(layout)) == list(range(layout.size))
    assert len(layout.routes) == routes + SPARE_ROUTES


def test_relay_layout_is_the_same_in_every_process():
    """Relay and observer make it from the number of routes alone."""
    assert list(cells_of(RelayLayout(3))) == list(cells_of(RelayLayout(3)))


def test_observer_layout_gives_each_label_set_its_own_cell():
    """Every close has one cell, and every histogram cells of its own, inside the block."""
    codes = ["1000", "1006", "4xxx"]
    layout = ObserverLayout(2, codes)
    found = [
        layout.closed(route, code, cause, peer)
        for route in range(2 + SPARE_ROUTES)
        for code in codes
        for cause in Cause
        for peer in Peer
    ]
    histograms = [cell for route in layout.routes for cell in cells_of(route)]
    assert sorted([*found, layout.relay_restarts, *histograms]) == list(range(layout.size))


def test_histogram_cells_of_bytes_count_whole_ones():
    """A sum of sizes is in bytes: billions of large messages fit into its cell."""
    histogram = HistogramCells(0, (64.0, 256.0), 1)
    block = memoryview(bytearray(8 * histogram.size)).cast("q")
    assert [histogram.observe(block, size) for size in (64, 65, 2**24)] == [0, 1, 2]
    assert block.tolist() == [1, 1, 1, 64 + 65 + 2**24]


def test_observer_layout_of_an_unknown_code_raises():
    """A code that is no label value has no cell."""
    with pytest.raises(KeyError):
        ObserverLayout(1, ["1000"]).closed(0, "1001", Cause.NORMAL, Peer.CLIENT)


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.0001, 0), (0.00010001, 1), (1.0, len(TURN_BUCKETS) - 1), (1.0001, len(TURN_BUCKETS))],
)
def test_histogram_observation_counts_in_the_bucket_of_its_upper_bound(seconds, bucket):
    """A bound belongs to its bucket (Prometheus' ``le``), and the sum is in nanoseconds."""
    histogram = HistogramCells(3, TURN_BUCKETS)
    with mmap.mmap(-1, 8 * 64) as memory, memoryview(memory).cast("q") as cells:
        histogram.observe(cells, seconds)
        histogram.observe(cells, seconds)
        counted = cells[histogram.start : histogram.start + histogram.size].tolist()
        assert counted[bucket] == 2
        assert sum(counted[:-1]) == 2
        assert counted[-1] == 2 * round(seconds * NANOSECONDS)
        assert sum(cells) == sum(counted)


def test_relay_layout_has_a_frame_counter_for_each_opcode_and_peer():
    """Opcodes stand in the order of their labels, reserved last."""
    route = RelayLayout(1).routes[0]
    assert set(route.frames) == set(route.payload) == set(route.ping_rtt) == set(PEERS)
    assert OPCODES[-1] == "reserved"
