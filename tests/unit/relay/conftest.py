"""The engines that the relay's tests run on: another one is put into this list and has to pass the same suite."""

from __future__ import annotations

import pytest

from exporter.relay.tunnel import Engine, PythonEngine

ENGINES = [PythonEngine]


@pytest.fixture(params=ENGINES, ids=lambda made: made().name)
def engine(request: pytest.FixtureRequest) -> Engine:
    """What moves the bytes."""
    made: Engine = request.param()
    return made
