"""The registry of close codes, and the clamp that turns any number into a bounded label."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from websockets.frames import CloseCode

from exporter.protocol.close_codes import (
    REGISTRY,
    Classification,
    CloseCodeMap,
    Reconnect,
    may_be_sent,
    unregistered,
)
from exporter.protocol.enums import Cause, Severity

#: The IANA registry "WebSocket Close Code Number", ranges left out.
IANA = {*range(1000, 1016), 3000, 3003, 3008}
NEVER_SENT = {1004, 1005, 1006, 1015}


def test_every_registered_code_has_an_entry() -> None:
    """The registry holds IANA's codes, all of them and no others, and knows what the field's library knows."""
    assert set(REGISTRY) == IANA
    assert {int(code) for code in CloseCode} <= set(REGISTRY)


@pytest.mark.parametrize("code", sorted(IANA))
def test_every_entry_speaks_in_sentences(code: int) -> None:
    """Name, meaning, when it is seen, what to do and how to come back are said for each code."""
    info = REGISTRY[code]
    assert info.code == code
    assert info.name
    assert "\n" not in info.name
    for text in (info.meaning, info.seen, info.remedy, info.reconnect_how):
        assert text[0].isupper()
        assert text.endswith(".")
    assert info.on_the_wire == (code not in NEVER_SENT) == may_be_sent(code)


@pytest.mark.parametrize(
    ("code", "severity", "reconnect", "words"),
    [
        (1000, Severity.NORMAL, Reconnect.AS_NEEDED, ("over",)),
        (1001, Severity.EXPECTED, Reconnect.BACKOFF, ("exponential backoff", "shutting down", "browser")),
        (1011, Severity.FAULT, Reconnect.BACKOFF, ("stack trace", "fix the bug", "guard message handling")),
        (1006, Severity.FAULT, Reconnect.BACKOFF, ("exception", "backoff")),
        (1012, Severity.EXPECTED, Reconnect.BACKOFF, ("restart",)),
        (1013, Severity.EXPECTED, Reconnect.LATER, ("overloaded",)),
        (1008, Severity.FAULT, Reconnect.NO, ("policy",)),
    ],
)
def test_an_entry_says_what_the_on_call_engineer_needs(
    code: int, severity: Severity, reconnect: Reconnect, words: tuple[str, ...]
) -> None:
    """1001 is expected, to retry with backoff, 1011 a bug to look up and fix; each entry says so."""
    info = REGISTRY[code]
    assert (info.severity, info.reconnect) == (severity, reconnect)
    text = " ".join((info.meaning, info.seen, info.remedy, info.reconnect_how))
    for word in words:
        assert word in text


def test_codes_that_stand_for_http_statuses_say_so() -> None:
    """The registered codes that mirror an HTTP status name that status."""
    for code, status in ((1011, HTTPStatus.INTERNAL_SERVER_ERROR), (3000, HTTPStatus.UNAUTHORIZED),
                         (3003, HTTPStatus.FORBIDDEN), (3008, HTTPStatus.REQUEST_TIMEOUT)):  # fmt: skip
        assert f"HTTP {status.value}" in REGISTRY[code].meaning


@pytest.mark.parametrize(
    ("code", "allowed"),
    [(-1, False), (0, False), (999, False), (1000, True), (1004, False), (1016, False), (2999, False), (3000, True),
     (3001, True), (4000, True), (4999, True), (5000, False), (65535, False)],
)  # fmt: skip
def test_which_codes_a_peer_may_send(code: int, allowed: bool) -> None:
    """RFC 6455, section 7.4.2: assigned ones, libraries' and applications' own; no others."""
    assert may_be_sent(code) is allowed


@pytest.mark.parametrize(
    ("code", "words"),
    [(1016, "reserved for the WebSocket protocol"), (2500, "reserved for the WebSocket protocol"),
     (3456, "libraries and frameworks"), (4321, "private use"), (999, "outside the range"), (5000, "outside the range"),
     (-7, "outside the range")],
)  # fmt: skip
def test_an_unregistered_code_gets_a_clear_line(code: int, words: str) -> None:
    """Whatever number somebody asks about, one line says whose it is."""
    line = unregistered(code)
    assert words in line
    assert "\n" not in line


def test_all_65536_codes_fall_into_the_rows_that_start_at_zero() -> None:
    """Every number that two bytes can hold gets a classification known in advance: few labels, none missing."""
    book = CloseCodeMap({4401: Cause.UNAUTHORIZED}, [(range(4100, 4200), Cause.TRY_AGAIN_LATER)])
    classifications = {book.classify_code(code) for code in range(65536)} | {book.classify_code(-1)}
    assert classifications == set(book.rows())
    assert {classification.label for classification in classifications} == {
        *(str(code) for code in IANA - NEVER_SENT), "4401", "3xxx", "4xxx", "invalid"
    }  # fmt: skip
    assert len(book.rows()) == len(set(book.rows()))


def test_what_is_only_synthesised_is_never_taken_from_the_wire() -> None:
    """1005 and 1006 in a Close frame are invalid: these labels only ever mean what the RFC means by them."""
    for code in NEVER_SENT:
        assert CloseCodeMap().classify_code(code) == Classification("invalid", Cause.PROTOCOL_ERROR)


def test_configured_codes_keep_their_number_and_go_before_ranges() -> None:
    """A named code has its own label even inside a named range; its neighbours share the range's cause."""
    book = CloseCodeMap({4150: Cause.FORBIDDEN, 3000: Cause.NORMAL}, [(range(4100, 4200), Cause.TRY_AGAIN_LATER)])
    assert book.classify_code(4150) == Classification("4150", Cause.FORBIDDEN)
    assert book.classify_code(4151) == Classification("4xxx", Cause.TRY_AGAIN_LATER)
    assert book.classify_code(4200) == Classification("4xxx", Cause.APPLICATION)
    assert book.classify_code(3000) == Classification("3000", Cause.NORMAL)
    assert CloseCodeMap().classify_code(4150) == Classification("4xxx", Cause.APPLICATION)
