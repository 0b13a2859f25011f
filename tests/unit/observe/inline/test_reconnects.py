"""Recognising clients that come back."""

import sys

from exporter.observe.inline.reconnects import LONGEST, MAX_ENDS, Reconnects
from exporter.protocol.client_identity import by_cookie
from exporter.protocol.enums import Cause
from exporter.protocol.http1_parser import Request

PHONE = Request(
    target="/chat?user=7&x=1", user_agent="phone", forwarded_for="192.0.2.7, 10.0.0.1", cookie="a=b; sid=s3cret"
)


def test_a_return_tells_the_cause_and_the_delay_once():
    """The end before is told to the next handshake of the same client only."""
    seen = Reconnects()
    key = seen.key(PHONE, "10.0.0.1:5000")
    seen.ended(key, Cause.GOING_AWAY, 100.0)
    assert seen.returned(key, 101.5) == (Cause.GOING_AWAY, 1.5)
    assert seen.returned(key, 102.0) is None


def test_a_client_that_nothing_identifies_is_not_kept():
    """No identity has no key, and no key keeps no end."""
    seen = Reconnects(by_cookie("sid"))
    key = seen.key(Request(), "198.51.100.1:5000")
    assert key == 0
    seen.ended(key, Cause.NORMAL, 1.0)
    assert len(seen) == 0


def test_keys_are_salted_anew_for_each_process():
    """What is kept cannot be matched against another sidecar's, nor against a table of addresses."""
    assert Reconnects().key(PHONE, "") != Reconnects().key(PHONE, "")


def test_an_end_of_long_ago_is_no_reason_to_come_back():
    """A return after the longest delay is a new visit."""
    seen = Reconnects()
    seen.ended(5, Cause.NORMAL, 0.0)
    assert seen.returned(5, LONGEST + 1) is None
    assert len(seen) == 0


def test_memory_is_bounded_whatever_comes():
    """Ten times as many clients as fit: the oldest are forgotten, and what is kept stays under 300 bytes an end."""
    seen = Reconnects()
    for key in range(2**40, 2**40 + 10 * MAX_ENDS):
        seen.ended(key, Cause.CONNECTION_LOST, float(key))
    assert len(seen) == MAX_ENDS
    assert 2**40 not in seen._ends
    kept = sys.getsizeof(seen._ends) + sum(
        sys.getsizeof(key) + sys.getsizeof(end) + sys.getsizeof(end[0]) for key, end in seen._ends.items()
    )
    assert kept < 300 * MAX_ENDS
