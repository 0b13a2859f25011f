"""Routes: from any path to one of a few label values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.protocol.labels import Router

PATTERNS = ["/chat/*", "/chat/vip/*", "/feed", "/v[12]/*", "/a.b"]


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/chat/1", "/chat/*"),
        ("/chat/", "/chat/*"),
        ("/chat/a/b", "/chat/*"),
        ("/chat/vip/1", "/chat/*"),
        ("/chat", "other"),
        ("/feed", "/feed"),
        ("/feed?token=/chat/1", "/feed"),
        ("/feed/", "other"),
        ("/FEED", "other"),
        ("/v1/x", "/v[12]/*"),
        ("/v3/x", "other"),
        ("/a.b", "/a.b"),
        ("/axb", "other"),
        ("x/chat/1", "other"),
        ("", "other"),
        ("*", "other"),
        ("/chat/\n", "/chat/*"),
    ],
)
def test_the_first_pattern_that_matches_is_the_route(path: str, route: str) -> None:
    """Patterns are tried in order against the path alone; a path that none matches is `other`."""
    router = Router(PATTERNS)
    assert router.names[router.index(path)] == route


def test_without_patterns_every_path_is_all() -> None:
    """With nothing configured there is one route, `all`, and never `other`."""
    router = Router()
    assert router.names == ["all"]
    assert router.index("/anything") == 0


def test_the_names_are_the_patterns_and_other() -> None:
    """What can come out is known in advance, in the operator's order."""
    assert Router(PATTERNS).names == [*PATTERNS, "other"]


@given(st.text(max_size=50))
def test_any_path_falls_into_a_known_route(path: str) -> None:
    """Whatever a client asks for, the label is one of the operator's."""
    router = Router(PATTERNS)
    assert 0 <= router.index(path) < len(router.names)
