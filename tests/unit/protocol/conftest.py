"""The three ways in which a wire case arrives, as a fixture."""

from __future__ import annotations

import pytest

from tests.wire import WAYS


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """How the bytes of a case are cut into segments."""
    return str(request.param)
