"""Tables say what the samples say: medians, ratios within a round, and reasons where there is no number."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.report import added, markdown, middle, ratio, samples


def sample(number: int, case: str, peer: str, cpu: float, **others: float) -> dict[str, Any]:
    """A sample with round numbers."""
    plain = {"units": 100.0, "seconds": 1.0, "per_second": 100.0, "errors": 0, "busy": 1.0}
    counted = {"instructions": 0.0, "relay_instructions": 0.0}
    delays = {"p50_us": 10.0, "p99_us": 20.0, "p999_us": 30.0}
    memory = {"pss_kb": 2048, "pss_kb_per_unit": 2.0}
    where = {"round": number, "case": case, "peer": peer, "cpu_us": cpu, "relay_cpu_us": cpu}
    return {**where, **plain, **counted, **delays, **memory, **others}


@pytest.fixture
def results() -> dict[str, Any]:
    """Three rounds of one case; round 2 was disturbed for everybody."""
    found = []
    for number, factor in enumerate((1.0, 5.0, 1.0)):
        found.append(sample(number, "pp64", "direct", 0.0, per_second=900.0, p50_us=10.0 * factor))
        found.append(sample(number, "pp64", "sidecar", 20.0 * factor, per_second=300.0, p50_us=30.0 * factor))
        found[-1]["relay_cpu_us"] = 15.0 * factor
        found.append(sample(number, "pp64", "nginx", 10.0 * factor, per_second=450.0, busy=0.5))
    return {
        "when": "2026-01-01 00:00 UTC",
        "machine": {
            "cpu": "C",
            "cores": 2,
            "kernel": "K",
            "python": "P",
            "uvloop": "U",
            "load_before": 1.0,
            "load_after": 2.0,
        },
        "settings": {"rounds": 3, "seconds": 1.0, "counter_missing": "no counter here"},
        "peers": {
            "direct": {"title": "direct", "absent": ""},
            "sidecar": {"title": "the sidecar", "absent": ""},
            "nginx": {"title": "nginx 1", "absent": ""},
            "haproxy": {"title": "haproxy", "absent": "haproxy is not installed"},
        },
        "starts": [{"round": 0, "peer": "sidecar", "seconds": 0.4, "pss_kb": 46080}],
        "samples": found,
        "failures": [],
    }


def test_ratios_are_taken_within_a_round(results: dict[str, Any]) -> None:
    """A disturbance that hits a whole round leaves the ratio as it is."""
    assert ratio(results, "pp64", "nginx", "cpu_us") == 2.0
    assert middle(samples(results, "pp64", "nginx"), "cpu_us") == 10.0


def test_a_ratio_to_nothing_is_no_number(results: dict[str, Any]) -> None:
    """The direct connection has no CPU time, and a peer that was not measured has no sample: no ratio, no zero."""
    assert ratio(results, "pp64", "direct", "cpu_us") is None
    assert ratio(results, "pp64", "haproxy", "cpu_us") is None


def test_added_latency_is_the_difference_in_a_round(results: dict[str, Any]) -> None:
    """The direct connection's latency of the same round is taken off."""
    assert added(results, "pp64", "sidecar", "p50_us") == 20.0


def test_tables(results: dict[str, Any]) -> None:
    """The case's table, whole."""
    shown = markdown(results)
    expected = """\
## Ping-pong, 64 connections, 128 bytes (`pp64`)

|  | CPU µs a round trip, relay | all | sidecar ÷ this | a second \
| added p50 µs | added p99 µs | added p99.9 µs | PSS MB |
|---|---|---|---|---|---|---|---|---|
| direct | - | - | - | 900 | (10) | (20) | (30) | - |
| the sidecar | 15.00 | 20.00 | 1.00 | 300 | 20 | 0 | 0 | 2.0 |
| nginx 1 | 10.00 | 10.00 | 2.00 | >= 450 | 0 | 0 | 0 | 2.0 |
| haproxy | skipped: haproxy is not installed |  |  |  |  |  |  |  |

Load generator and server alone reach 2.0 times the fastest proxy (nginx 1), 3.0 times the sidecar; \
direct latencies are in brackets.
"""
    assert expected in shown
    assert "no counter here" in shown
    assert "Could not be measured" not in shown


def test_what_failed_is_told(results: dict[str, Any]) -> None:
    """A case that could not be measured shows with its reason instead of silently missing."""
    results["failures"] = [{"round": 1, "case": "b1m", "peer": "nginx", "why": "nothing came back (3 errors)"}]
    assert "| 2 | b1m | nginx 1 | nothing came back (3 errors) |" in markdown(results)
