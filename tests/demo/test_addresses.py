"""Addresses are read, shown and found taken."""

from __future__ import annotations

import socket

import pytest

from exporter.demo.addresses import Address


@pytest.mark.parametrize(
    ("text", "address", "local"),
    [
        ("127.0.0.1:10010", Address("127.0.0.1", 10010), "127.0.0.1:10010"),
        (":10010", Address("", 10010), "127.0.0.1:10010"),
        ("0.0.0.0:1", Address("0.0.0.0", 1), "127.0.0.1:1"),
        ("[::1]:10010", Address("::1", 10010), "[::1]:10010"),
        ("[::]:10010", Address("::", 10010), "[::1]:10010"),
        ("localhost:0", Address("localhost", 0), "localhost:0"),
    ],
)
def test_an_address_is_read_and_written_back(text: str, address: Address, local: str) -> None:
    """Every form is understood, written back as it came, and has a form that this machine can connect to."""
    assert Address.parse(text) == address
    assert str(address) == text
    assert str(address.local) == local


@pytest.mark.parametrize(
    "text", ["", "10010", "host", "host:", "host:x", "host:65536", "::1:80", "host:-1", "a..b:1"]
)
def test_anything_else_is_refused(text: str) -> None:
    """What is no address raises ValueError."""
    with pytest.raises(ValueError):
        Address.parse(text)


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
