"""Tests that change a class for their time, which a compiled one does not let them (``make test-compiled``)."""

from __future__ import annotations

import pytest

from exporter.protocol.frame_runs import COMPILED

#: Of a test that builds a defect into a class.
plain_only = pytest.mark.skipif(COMPILED, reason="no test can alter a compiled class or constant")
