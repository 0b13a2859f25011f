"""The command line of the demo."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from exporter.demo.runner import demo


@pytest.mark.parametrize(
    ("flag", "value", "accepted"),
    [
        ("--listen", "10010", "expected [HOST]:PORT"),
        ("--admin", "127.0.0.1:http", "expected [HOST]:PORT"),
        ("--restart-every", "soon", "500ms, 5s, 1m30s, 2h"),
        ("--for", "-1", "500ms, 5s, 1m30s, 2h"),
        ("--bug-rate", "1.5", "0<=x<=1"),
        ("--bug-kind", "odd", "'raises', 'drops', 'both'"),
        ("--clients", "0", "1<=x<=1000"),
        ("--app-port", "70000", "0<=x<=65535"),
    ],
)
def test_option_with_an_invalid_value_is_one_line(flag: str, value: str, accepted: str) -> None:
    """The line names the flag, the value and the accepted values; exit status 2."""
    result = CliRunner().invoke(demo, [flag, value])
    assert result.exit_code == 2
    line = result.output.splitlines()[-1]
    assert line.startswith("Error: ")
    assert all(part in line for part in (flag, value, accepted))
