"""Addresses are written as the command line takes them."""

from __future__ import annotations

import pytest

from exporter.address import Address, format_peer


@pytest.mark.parametrize(
    ("address", "text", "local"),
    [
        (Address("127.0.0.1", 10010), "127.0.0.1:10010", "127.0.0.1:10010"),
        (Address("", 10010), ":10010", "127.0.0.1:10010"),
        (Address("0.0.0.0", 1), "0.0.0.0:1", "127.0.0.1:1"),
        (Address("::1", 10010), "[::1]:10010", "[::1]:10010"),
        (Address("::", 10010), "[::]:10010", "[::1]:10010"),
        (Address("localhost", 0), "localhost:0", "localhost:0"),
        (Address(path="/run/app.sock"), "unix:/run/app.sock", "unix:/run/app.sock"),
    ],
)
def test_address_any_form_is_written_as_the_command_line_takes_it(address: Address, text: str, local: str) -> None:
    """Every address has a text that the command line takes, and a form that this machine can connect to."""
    assert str(address) == text
    assert str(address.local) == local


@pytest.mark.parametrize(
    ("peername", "text"),
    [
        (("192.0.2.7", 5000), "192.0.2.7:5000"),
        (("2001:db8::1", 5000, 0, 0), "[2001:db8::1]:5000"),
        ("/run/app.sock", ""),
        (None, ""),
    ],
)
def test_format_peer_ipv6_address_has_brackets(peername: object, text: str) -> None:
    """An IPv6 address has its brackets, and a peer without an address is empty."""
    assert format_peer(peername) == text
