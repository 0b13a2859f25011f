"""The table of causes."""

from __future__ import annotations

import pytest

from exporter.protocol.causes import (
    CAUSES,
    NOT_ABNORMAL_CAUSES,
    ROUTINE_CAUSES,
    SERVER_FAULTS,
    ColourClass,
    is_abnormal,
    is_server_fault,
)
from exporter.protocol.enums import Cause, Peer, Severity


def test_causes_every_member_has_one_entry() -> None:
    """No cause is without severity, meaning and remedy."""
    assert set(CAUSES) == set(Cause)


@pytest.mark.parametrize("cause", Cause)
def test_causes_entry_texts_are_sentences(cause: Cause) -> None:
    """Meaning and remedy are sentences on one line, and somebody can have the cause."""
    info = CAUSES[cause]
    for text in (info.meaning, info.remedy):
        assert text[0].isupper()
        assert text.endswith(".")
        assert "\n" not in text
    assert info.initiators


def test_causes_abnormal_is_all_but_seven() -> None:
    """The log warns of every close but these."""
    assert set(NOT_ABNORMAL_CAUSES) == {
        Cause.NORMAL, Cause.GOING_AWAY, Cause.NO_STATUS, Cause.DRAIN, Cause.LIMIT, Cause.SHUTDOWN, Cause.SERVICE_RESTART
    }  # fmt: skip
    assert {cause for cause in Cause if not is_abnormal(cause)} == set(NOT_ABNORMAL_CAUSES)


def test_causes_server_faults_are_red_and_faults() -> None:
    """Faults of the server are red everywhere, and nothing routine or normal is."""
    assert SERVER_FAULTS == (
        Cause.INTERNAL_ERROR, Cause.DROPPED_ON_MESSAGE, Cause.WORKER_LOST, Cause.CONNECTION_LOST,
        Cause.CONNECTION_RESET, Cause.APP_DOWN, Cause.APP_RESTARTED, Cause.BAD_GATEWAY,
    )  # fmt: skip
    assert {cause for cause in Cause if CAUSES[cause].colour is ColourClass.RED} == set(SERVER_FAULTS)
    assert {CAUSES[cause].severity for cause in SERVER_FAULTS} == {Severity.FAULT}
    assert {cause for cause in Cause if CAUSES[cause].severity is Severity.NORMAL} == {Cause.NORMAL, Cause.NO_STATUS}


def test_causes_routine_are_expected() -> None:
    """A cause that a rollout or a setting explains is never a fault."""
    assert set(ROUTINE_CAUSES) == {
        Cause.GOING_AWAY, Cause.SERVICE_RESTART, Cause.SHUTDOWN, Cause.DRAIN, Cause.LIMIT, Cause.PROXY_LOST
    }  # fmt: skip
    assert {CAUSES[cause].severity for cause in ROUTINE_CAUSES} == {Severity.EXPECTED}


def test_is_server_fault_of_a_client_is_false() -> None:
    """A connection that a client loses does not count against the server."""
    assert is_server_fault(Cause.CONNECTION_LOST, Peer.SERVER)
    assert not is_server_fault(Cause.CONNECTION_LOST, Peer.CLIENT)
    assert not is_server_fault(Cause.GOING_AWAY, Peer.SERVER)
