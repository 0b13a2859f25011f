"""Who a client is, as far as a request shows it."""

from __future__ import annotations

import sys

import pytest

from exporter.protocol.client_identity import by_address, by_cookie, by_query, identity_source, keyed_hash
from exporter.protocol.http1_parser import Request

PHONE = Request(
    target="/chat?user=7&x=1", user_agent="phone", forwarded_for="192.0.2.7, 10.0.0.1", cookie="a=b; sid=s3cret"
)


@pytest.mark.parametrize(
    ("source", "same", "other"),
    [
        (
            "address",
            Request(user_agent="phone", forwarded_for="192.0.2.7"),
            Request(user_agent="tablet", forwarded_for="192.0.2.7"),
        ),
        ("cookie:sid", Request(cookie="sid=s3cret"), Request(cookie="sid=another")),
        ("query:user", Request(target="/other?user=7"), Request(target="/chat?user=8")),
    ],
)
def test_identity_of_each_source_is_the_client_that_it_names(source, same, other):
    """Two requests of one client have one identity; another client's differs."""
    identify = identity_source(source)
    assert identify(PHONE, "10.0.0.1") == identify(same, "10.0.0.1") != ""
    assert identify(PHONE, "10.0.0.1") != identify(other, "10.0.0.1")


@pytest.mark.parametrize("source", ["", "cookie", "cookie:", "query:", "header:x", "address:x"])
def test_identity_source_of_another_kind_is_refused(source):
    """Only the documented sources are accepted."""
    with pytest.raises(ValueError, match="source"):
        identity_source(source)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("198.51.100.1:5000", "198.51.100.1:6000"),
        ("[2001:db8::1]:5000", "[2001:db8::1]:6000"),
        ("2001:db8::1", "[2001:db8::1]:6000"),
    ],
)
def test_address_with_another_port_is_the_same_client(one, other):
    """A client's port, which some proxies forward as well, changes at every connection."""
    assert by_address(Request(forwarded_for=one), "") == by_address(Request(forwarded_for=f"{other}, 10.0.0.1"), "")
    assert by_address(Request(forwarded_for=one), "") != by_address(Request(), "2001:db8::2")


@pytest.mark.parametrize(
    "cookie",
    ["sid=1; theme", "theme; sid=1", "path=/; sid=1", "a b=2; sid=1", 'sid=1; prefs={"a":1}', "é=2;sid=1", "=; sid=1",
     "xsid=2; sid=1", "a=sid=2; sid=1", "sid = 1 ;x", "sid; sid=1"],
)  # fmt: skip
def test_cookie_among_others_of_any_kind_is_found(cookie):
    """Cookies without a value, with reserved names or with odd characters do not hide the one that is named."""
    assert by_cookie("sid")(Request(cookie=cookie), "") == "1"


@pytest.mark.parametrize(
    "target",
    [
        "/?user=1",
        "/?x=2&user=1",
        "/?user=&user=1",
        "/?xuser=2&user=1",
        "/?x=?user=2&user=1",
        "/user=2?user=1",
        "?user=1",
    ],
)
def test_query_parameter_among_others_is_found(target):
    """Neither a path nor another parameter is taken for the one that is named."""
    assert by_query("user")(Request(target=target), "") == "1"


def test_query_parameter_with_an_escaped_name_is_found():
    """A browser escapes brackets in a name, another client does not."""
    assert by_query("a[b]")(Request(target="/?a%5Bb%5D=1"), "") == by_query("a[b]")(Request(target="/?a[b]=1"), "")


@pytest.mark.parametrize(
    ("source", "request_"),
    [
        ("cookie:sid", Request(cookie="\x00;;=")),
        ("cookie:sid", Request()),
        ("query:u", Request(target="//[")),
        ("query:u", Request(target="/?u=")),
    ],
)
def test_request_without_the_source_has_no_identity(source, request_):
    """Absent or broken cookies and queries identify nobody."""
    assert keyed_hash(identity_source(source)(request_, "198.51.100.1"), "key") == 0


def test_keyed_hash_differs_by_key_and_by_text():
    """A hash has 62 bits and cannot be matched against another sidecar's."""
    hashes = {keyed_hash(text, key) for text in ("a", "b", "\udcff", "é") for key in ("one", "two")}
    assert len(hashes) == 8
    assert all(0 < number < 2**62 for number in hashes)


@pytest.mark.parametrize(
    ("source", "make"),
    [
        ("query:u", lambda size: Request(target="/?" + "u=&" * (size // 3))),
        ("query:u", lambda size: Request(target="/?" + "&" * size)),
        ("query:u", lambda size: Request(target="/?" + "u" * size)),
        ("cookie:sid", lambda size: Request(cookie="; " * (size // 2))),
        ("cookie:sid", lambda size: Request(cookie=" " * size)),
        ("cookie:sid", lambda size: Request(cookie=";sid" * (size // 4))),
        ("cookie:sid", lambda size: Request(cookie=(";" + " " * 255) * (size // 256))),
        ("address", lambda size: Request(forwarded_for="," * size)),
        ("address", lambda size: Request(forwarded_for=":" * size)),
    ],
)
def test_identity_of_a_long_request_makes_no_object_for_each_part(source, make):
    """A query or cookie of 64 KiB is searched by one call into C, whatever its parts: no Python call for each."""
    identify = identity_source(source)
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    request = make(64 * 1024)
    sys.setprofile(count)
    try:
        keyed_hash(identify(request, ""), "key")
    finally:
        sys.setprofile(None)
    assert calls < 20
