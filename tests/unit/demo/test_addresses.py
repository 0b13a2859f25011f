"""Ports are found free and taken."""

from __future__ import annotations

import socket

import pytest

from exporter.address import Address
from exporter.demo.addresses import claim


def test_port_0_becomes_a_free_port() -> None:
    """Claiming port 0 gives a port on which one can listen."""
    address = claim(Address("127.0.0.1", 0))
    assert address.port
    with socket.create_server((address.host, address.port)):
        pass


def test_a_taken_port_is_not_claimed() -> None:
    """Claiming what somebody listens on raises OSError; once it is free again, it is given."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = Address("127.0.0.1", holder.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            claim(taken)
    assert claim(taken) == taken
