"""Recognising clients that come back."""

import sys

import pytest

from exporter.observe.reconnects import LONGEST, MAX_ENDS, Reconnects, by_address, by_cookie, by_query
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


@pytest.mark.parametrize(
    ("identity", "same", "other"),
    [
        (
            by_address,
            Request(user_agent="phone", forwarded_for="192.0.2.7"),
            Request(user_agent="tablet", forwarded_for="192.0.2.7"),
        ),
        (by_cookie("sid"), Request(cookie="sid=s3cret"), Request(cookie="sid=another")),
        (by_query("user"), Request(target="/other?user=7"), Request(target="/chat?user=8")),
    ],
    ids=["address", "cookie", "query"],
)
def test_identity_is_what_the_operator_named(identity, same, other):
    """Two requests of one client have one key; another client's differs."""
    seen = Reconnects(identity)
    assert seen.key(PHONE, "10.0.0.1:5000") == seen.key(same, "10.0.0.1:6000") != 0
    assert seen.key(PHONE, "10.0.0.1:5000") != seen.key(other, "10.0.0.1:5000")


def test_without_a_forwarded_address_the_connections_own_counts_without_its_port():
    """A client's port changes at every connection and is no part of its identity."""
    seen = Reconnects()
    assert seen.key(Request(), "198.51.100.1:5000") == seen.key(Request(), "198.51.100.1:6000")
    assert seen.key(Request(), "198.51.100.1:5000") != seen.key(Request(), "198.51.100.2:5000")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.7", "192.0.2.7:5000"),
        ("192.0.2.7:5000", "192.0.2.7:6000, 10.0.0.1"),
        ("2001:db8::1", "[2001:db8::1]:5000"),
    ],
)
def test_a_forwarded_port_is_no_part_of_an_identity(one, other):
    """Some load balancers forward the client's port beside its address."""
    seen = Reconnects()
    assert seen.key(Request(forwarded_for=one), "") == seen.key(Request(forwarded_for=other), "") != 0
    assert seen.key(Request(forwarded_for=one), "") != seen.key(Request(forwarded_for="2001:db8::2"), "")


def test_without_a_forwarded_address_ipv6_clients_are_told_apart():
    """An IPv6 address has colons of its own."""
    seen = Reconnects()
    assert seen.key(Request(), "[2001:db8::1]:5000") == seen.key(Request(), "[2001:db8::1]:6000")
    assert seen.key(Request(), "[2001:db8::1]:5000") != seen.key(Request(), "[2001:db8::2]:5000")


@pytest.mark.parametrize(
    "cookie",
    ["sid=1; theme", "theme; sid=1", "path=/; sid=1", "a b=2; sid=1", 'sid=1; prefs={"a":1}', "é=2;sid=1", "=; sid=1"],
)
def test_a_cookie_is_found_among_others_of_any_kind(cookie):
    """Cookies without a value, with reserved names or with odd characters do not hide the one that is named."""
    seen = Reconnects(by_cookie("sid"))
    assert seen.key(Request(cookie=cookie), "") == seen.key(Request(cookie="sid=1"), "") != 0


@pytest.mark.parametrize(
    ("identity", "request_"), [(by_cookie("sid"), Request(cookie="\x00;;=")), (by_query("u"), Request(target="//["))]
)
def test_a_client_that_nothing_identifies_is_not_kept(identity, request_):
    """Absent or broken cookies and queries give no key, and no key keeps no end."""
    seen = Reconnects(identity)
    key = seen.key(request_, "198.51.100.1:5000")
    assert key == 0
    seen.ended(key, Cause.NORMAL, 1.0)
    assert len(seen) == 0


def test_keys_are_salted_anew_for_each_process():
    """What is kept cannot be matched against another sidecar's, nor against a table of addresses."""
    assert Reconnects().key(PHONE, "") != Reconnects().key(PHONE, "")


def test_a_key_is_a_keyed_hash_of_64_bits():
    """Which is what Python's hash of a text is where it is SipHash."""
    assert sys.hash_info.algorithm.startswith("siphash")
    assert sys.hash_info.width == sys.hash_info.hash_bits == 64


def test_an_identity_of_any_characters_has_a_key():
    """Headers come as Latin-1, but a query may decode to what UTF-8 cannot say."""
    assert Reconnects(by_query("u")).key(Request(target="/?u=%ff\udcff"), "") != 0


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
