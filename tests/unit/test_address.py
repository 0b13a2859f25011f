"""Addresses are written as the command line takes them."""

from __future__ import annotations

import pytest

from exporter.address import Address


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
