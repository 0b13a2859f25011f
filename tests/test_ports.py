"""The tests' own ports: nobody is given another's."""

from __future__ import annotations

import pytest

from tests.ports import FIRST, LAST, free_port, share


@pytest.mark.parametrize("workers", [1, 3, 16])
def test_each_worker_has_ports_of_its_own(workers: int) -> None:
    """Shares do not meet, and lie outside of the ports that the kernel gives to clients."""
    shares = [share(f"gw{number}", workers) for number in range(workers)]
    ports = [port for each in shares for port in each]
    assert len(ports) == len(set(ports))
    assert min(ports) >= FIRST
    assert max(ports) < LAST


def test_no_port_twice() -> None:
    """A port that was given away is not given again."""
    ports = [free_port() for _ in range(100)]
    assert len(set(ports)) == 100
