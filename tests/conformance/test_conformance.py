"""The 247 fast cases, in both roles; ``make conformance`` plays all 517."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance.clients import CLIENTS
from tests.conformance.suite import FAST_CASES, SLOW, Comparison, compare_client, compare_server


def check(comparison: Comparison) -> None:
    """No case may differ, and none may be missing."""
    print(comparison)
    assert len(comparison.direct) == FAST_CASES
    assert comparison.different == {}
    assert {verdict.behavior for verdict in comparison.direct.values()} >= {"OK"}, "the suite did judge"


@pytest.mark.parametrize("stack", ["aiohttp", "websockets"])
def test_a_server_gets_the_same_verdicts_behind_the_sidecar(stack: str) -> None:
    """Case by case, a server behind the sidecar is judged as it is without it."""
    check(asyncio.run(compare_server(stack, SLOW)))


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_gets_the_same_verdicts_before_the_sidecar(client: str) -> None:
    """Case by case, a client that connects through the sidecar is judged as it is without it."""
    check(asyncio.run(compare_client(client, SLOW)))


def test_a_proxy_that_meddles_would_be_found() -> None:
    """The comparison can fail: two different servers do not get the same verdicts."""
    exclude = [*SLOW, "1.*", "2.*", "3.*", "4.*", "5.*", "6.*"]
    verdicts = [asyncio.run(compare_server(stack, exclude)).direct for stack in ("aiohttp", "tornado")]
    assert verdicts[0].keys() == verdicts[1].keys()
    assert verdicts[0] != verdicts[1]
