"""The PROXY protocol header, against the bytes of the specification."""

import pytest

from exporter.relay.upstream import proxy_header

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")


@pytest.mark.parametrize(
    ("source", "destination", "rest"),
    [
        (("192.0.2.7", 40000), ("127.0.0.1", 10010), "21 11 000c c0000207 7f000001 9c40 271a"),
        (
            ("::ffff:192.0.2.7", 40000, 0, 0),
            ("::ffff:127.0.0.1", 10010, 0, 0),
            "21 11 000c c0000207 7f000001 9c40 271a",
        ),
        (
            ("2001:db8::1", 1, 0, 0),
            ("fe80::2%eth0", 2, 0, 2),
            "21 21 0024 20010db8000000000000000000000001 fe800000000000000000000000000002 0001 0002",
        ),
        (("192.0.2.7", 1), ("::1", 2, 0, 0), "20 00 0000"),
        ("", "/run/app.sock", "20 00 0000"),
        (None, None, "20 00 0000"),
    ],
    ids=["IPv4", "IPv4 in IPv6", "IPv6", "mixed families", "Unix sockets", "unknown"],
)
def test_header_is_what_the_specification_says(source, destination, rest):
    """The signature, version and command, family, length, both addresses and ports; LOCAL where nothing is known."""
    assert proxy_header(source, destination) == SIGNATURE + bytes.fromhex(rest)
