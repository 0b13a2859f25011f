"""Addresses are read, shown and found taken."""

from __future__ import annotations

import socket

import pytest

from exporter.demo.addresses import Address


@pytest.mark.parametrize(
    ("address", "text", "local"),
    [
        (Address("127.0.0.1", 10010), "127.0.0.1:10010", "127.0.0.1:10010"),
        (Address("", 10010), ":10010", "127.0.0.1:10010"),
        (Address("0.0.0.0", 1), "0.0.0.0:1", "127.0.0.1:1"),
        (Address("::1", 10010), "[::1]:10010", "[::1]:10010"),
        (Address("::", 10010), "[::]:10010", "[::1]:10010"),
        (Address("localhost", 0), "localhost:0", "localhost:0"),
    ],
)
def test_an_address_as_text(address: Address, text: str, local: str) -> None:
    """Every form is written as the command line takes it, and has a form that this machine can connect to."""
    assert str(address) == text
    assert str(address.local) == local


def test_port_0_becomes_a_free_port() -> None:
    """Claiming port 0 gives a port on which one can listen."""
    address = Address("127.0.0.1", 0).claim()
    assert address.port
    with socket.create_server((address.host, address.port)):
        pass


def test_a_taken_port_is_not_claimed() -> None:
    """Claiming what somebody listens on raises OSError; once it is free again, it is given."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = Address("127.0.0.1", holder.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            taken.claim()
    assert taken.claim() == taken
