"""What all tests share: property tests that choose the same examples on every machine and never race a clock, and the
order of the files: who takes longest begins first, so that no worker is left alone with it at the end.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "steady",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("quick", settings.get_profile("steady"), max_examples=40)  # of `make check`
settings.load_profile("steady")


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio's event loop; what nobody waits for fails them."""
    return "asyncio"


#: Files of half a minute and more, longest first. pytest-xdist keeps this order with --no-loadscope-reorder.
LONGEST = (
    "tests/grafana/test_end_to_end.py",
    "tests/grafana/test_alerts.py",
    "tests/grafana/test_texts.py",
    "tests/benchmarks/test_gate.py",
    "tests/image/test_image.py",
    "tests/e2e/test_page.py",
    "tests/fuzz/test_fuzz.py",
    "tests/unit/kubernetes/test_yaml_edit.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the longest to the front; the others stay as they are."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.nodeid.partition("::")[0], len(LONGEST)))
