"""The settings: what each accepts, what it says about anything else, and how they fit together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.address import Address, parse_listen, parse_upstream
from exporter.config import (
    CODE_CAUSES,
    Settings,
    options,
    parse_code,
    parse_count,
    parse_duration,
    parse_route,
    parse_size,
)
from exporter.protocol.close_codes import Classification
from exporter.protocol.enums import Cause

UPSTREAM = Address("127.0.0.1", 8080)


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_duration, "5", 5.0),
        (parse_duration, "0.5", 0.5),
        (parse_duration, "500ms", 0.5),
        (parse_duration, "5s", 5.0),
        (parse_duration, "1.5m", 90.0),
        (parse_duration, "1h", 3600.0),
        (parse_duration, " 0 ", 0.0),
        (parse_size, "65536", 65536),
        (parse_size, "64KiB", 65536),
        (parse_size, "1MiB", 1048576),
        (parse_size, "10B", 10),
        (parse_count, "0", 0),
        (parse_count, "1000", 1000),
        (parse_listen, ":10010", Address("", 10010)),
        (parse_listen, "127.0.0.1:0", Address("127.0.0.1", 0)),
        (parse_listen, "[::1]:10010", Address("::1", 10010)),
        (parse_listen, "[::]:65535", Address("::", 65535)),
        (parse_upstream, "127.0.0.1:8080", UPSTREAM),
        (parse_upstream, "app.default.svc:80", Address("app.default.svc", 80)),
        (parse_upstream, "[::1]:80", Address("::1", 80)),
        (parse_upstream, "unix:/run/app.sock", Address(path="/run/app.sock")),
        (parse_route, "/chat/*", "/chat/*"),
        (parse_code, "4401", (4401, Cause.APPLICATION)),
        (parse_code, "4401=unauthorized", (4401, Cause.UNAUTHORIZED)),
        (parse_code, "3999=normal", (3999, Cause.NORMAL)),
    ],
)
def test_what_is_accepted(parse: Callable[[str], object], text: str, value: object) -> None:
    """What a person writes becomes the value that they mean."""
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "texts", "accepted"),
    [
        (parse_duration, ["", "-1", "5 s", "5d", "1e3", "s", "nan", "inf", "1,5", "5sec"], "500ms, 5s, 1m30s, 2h"),
        (parse_size, ["", "-1", "64kb", "1.5MiB", "64 KiB", "KiB"], "64KiB, 1MiB"),
        (parse_count, ["", "-1", "1.5", "many"], "whole number"),
        (parse_listen, ["", "10010", ":", ":x", ":65536", ":-1", "::1:80", "a b:80", "http://x:80", "x@y:80",
                        "[::1:80"],
         "[HOST]:PORT"),
        (parse_upstream, ["", "8080", ":8080", "app", "app:0", "app:65536", "unix:", "unix:app.sock", "http://app:80",
                          "::1:80", f"{'x' * 64}:80"], "HOST:PORT or unix:/path"),
        (parse_route, ["", "chat", "*", "/a\nb"], "begins with a slash"),
        (parse_code, ["", "x", "999", "1011", "2999", "5000", "4401=nonsense", "4401=drain", "4401=app-down",
                      "=normal"], "from 3000 to 4999"),
    ],
)  # fmt: skip
def test_what_is_not_accepted(parse: Callable[[str], object], texts: list[str], accepted: str) -> None:
    """Anything else raises ValueError, in one line that says what would have been accepted."""
    for text in texts:
        with pytest.raises(ValueError) as error:
            parse(text)
        assert accepted in str(error.value), text
        assert "\n" not in str(error.value)


@given(st.text(max_size=30), st.sampled_from([option.name for option in options() if not option.switch]))
def test_any_text_is_a_value_or_a_value_error(text: str, name: str) -> None:
    """No parser raises anything but ValueError, and none of its messages is more than a line."""
    (option,) = [option for option in options() if option.name == name]
    complaint = ""
    try:
        option.parse(text)
    except ValueError as error:
        complaint = str(error)
    assert len(complaint.splitlines()) <= 1


def test_the_defaults() -> None:
    """What holds if nobody says otherwise: the ports, limits and times that the documents name."""
    settings = Settings(upstream=UPSTREAM)
    assert (settings.listen, settings.admin) == (Address("", 10010), Address("", 10011))
    assert (settings.drain_timeout, settings.close_timeout, settings.connect_timeout) == (30.0, 5.0, 5.0)
    assert (settings.max_head, settings.max_connections, settings.max_session_age) == (65536, 0, 0.0)
    assert settings.handshake_timeout == 10.0
    assert (settings.log_endings, settings.log_format, settings.log_level) == ("abnormal", "auto", "info")
    assert (settings.route, settings.code, settings.preset) == ((), (), ())
    assert settings.drain_code == "1001"
    assert settings.drain_from_anywhere is False


def test_settings_cannot_be_changed_and_have_no_others() -> None:
    """One frozen object; an unknown name is an error."""
    settings = Settings(upstream=UPSTREAM)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.drain_timeout = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        Settings(upstream=UPSTREAM, drain_timout=1.0)  # type: ignore[call-arg]


def test_a_grace_longer_than_the_drain_is_refused() -> None:
    """Times that cannot all be kept are named together in one line."""
    with pytest.raises(ValueError, match=r"--drain-grace: .*--drain-timeout"):
        Settings(upstream=UPSTREAM, drain_timeout=10.0, drain_grace=11.0, drain_spread=0.0)


def test_an_options_names_are_made_from_the_settings() -> None:
    """Flag and environment variable of every setting follow from its name; exactly one has no default."""
    found = {option.field: option for option in options()}
    assert set(found) == {field.name for field in dataclasses.fields(Settings)}
    assert found["drain_timeout"].flag == "--drain-timeout"
    assert found["drain_timeout"].variable == "WEBSOCKET_EXPORTER_DRAIN_TIMEOUT"
    assert [option.field for option in found.values() if option.required] == ["upstream"]


@pytest.mark.parametrize("option", options(), ids=lambda option: option.flag)
def test_every_option_explains_itself(option: object) -> None:
    """Each has a help text and, if it takes a value, what kind; its default is one that it accepts."""
    assert option.help  # type: ignore[attr-defined]
    assert bool(option.metavar) != option.switch  # type: ignore[attr-defined]
    if option.default is not None:  # type: ignore[attr-defined]
        option.parse(option.default)  # type: ignore[attr-defined]


def test_the_code_book_follows_the_settings() -> None:
    """--code goes before --preset, presets add up, and causes that only circumstances can have are not offered."""
    settings = Settings(
        upstream=UPSTREAM, preset=("graphql-ws", "pusher"), code=((4401, Cause.FORBIDDEN), (4999, Cause.NORMAL))
    )
    book = settings.code_maps().default
    assert book.classify_code(4401) == Classification("4401", Cause.FORBIDDEN)
    assert book.classify_code(4999) == Classification("4999", Cause.NORMAL)
    assert book.classify_code(4500) == Classification("4500", Cause.INTERNAL_ERROR)
    assert book.classify_code(4201) == Classification("4201", Cause.PING_TIMEOUT)
    assert book.classify_code(4250) == Classification("4xxx", Cause.SERVICE_RESTART)
    assert Settings(upstream=UPSTREAM).code_maps().default.classify_code(4401) == Classification(
        "4xxx", Cause.APPLICATION
    )
    assert not {"connection-lost", "app-down", "drain", "limit", "unobserved"} & set(CODE_CAUSES)
