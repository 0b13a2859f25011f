"""The operator's own judgement of reason texts."""

import pytest

from exporter.protocol.classify import classify
from exporter.protocol.close_codes import CloseCodeMap
from exporter.protocol.enums import Cause, Peer
from exporter.protocol.evidence import Circumstances
from exporter.protocol.labels import known_label_sets
from exporter.protocol.reason_rules import MAX_PATTERN, MAX_RULES, Reasons, Rule
from exporter.protocol.record import CloseFrame, PeerRecord, SessionRecord

BOOK = CloseCodeMap(
    reasons=Reasons(
        [Rule("(?i)token expired", Cause.UNAUTHORIZED), Rule("token", Cause.FORBIDDEN), Rule("ping", Cause.TIMEOUT)]
    )
)


@pytest.mark.parametrize(
    ("code", "reason", "label", "cause"),
    [
        (1008, "Token Expired at 12:00", "1008", Cause.UNAUTHORIZED),
        (1008, "bad token", "1008", Cause.FORBIDDEN),
        (1008, "rate limited", "1008", Cause.POLICY_VIOLATION),
        (1008, "", "1008", Cause.POLICY_VIOLATION),
        (1011, "keepalive ping timeout", "1011", Cause.TIMEOUT),
        (4999, "token", "4xxx", Cause.FORBIDDEN),
        (999, "token", "invalid", Cause.PROTOCOL_ERROR),
    ],
)
def test_the_first_rule_that_matches_names_the_cause(code, reason, label, cause):
    """A rule goes before the code's own cause and before known keepalive texts; the label stays the code's."""
    close = CloseFrame(code, reason, 1.0)
    record = SessionRecord(closed_at=1.0, client=PeerRecord(close=close), first_close=Peer.CLIENT)
    ending = classify(record, Circumstances(), BOOK)
    assert (ending.code, ending.cause) == (label, cause)


@pytest.mark.parametrize("pattern", ["(a", r"(a)\1", "(?=a)b", "", "x" * (MAX_PATTERN + 1)])
def test_a_pattern_that_cannot_run_in_linear_time_is_refused(pattern):
    """Back-references and look-around would need backtracking; broken, empty and overlong patterns are refused too."""
    with pytest.raises(ValueError, match=r".+"):
        Rule(pattern, Cause.NORMAL)


def test_a_pattern_known_to_explode_elsewhere_runs_at_once():
    """What takes a backtracking engine 2^100 steps is answered (the test would not end otherwise)."""
    assert not Rule("(a+)+$", Cause.NORMAL).matches("a" * 100 + "b")


def test_the_number_of_rules_is_bounded():
    """One more rule than the bound is refused."""
    rule = Rule("x", Cause.NORMAL)
    assert len(Reasons([rule] * MAX_RULES).causes) == 1
    with pytest.raises(ValueError, match=str(MAX_RULES)):
        Reasons([rule] * (MAX_RULES + 1))


def test_series_that_rules_can_make_start_at_zero():
    """1011 judged as forbidden by a rule is among the rows known in advance."""
    assert ("1011", Cause.FORBIDDEN, Peer.SERVER) in known_label_sets(BOOK)
    assert ("1011", Cause.FORBIDDEN, Peer.SERVER) not in known_label_sets(CloseCodeMap())
