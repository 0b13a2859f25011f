"""The command line of the demo refuses nonsense in one clear line."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from exporter.demo.command import demo


@pytest.mark.parametrize(
    ("flag", "value", "accepted"),
    [
        ("--listen", "10010", "expected [HOST]:PORT"),
        ("--admin", "127.0.0.1:http", "expected [HOST]:PORT"),
        ("--restart-every", "soon", "500ms, 5s, 2m, 1h"),
        ("--for", "-1", "500ms, 5s, 2m, 1h"),
        ("--bug-rate", "1.5", "0<=x<=1"),
        ("--clients", "0", "1<=x<=1000"),
        ("--app-port", "70000", "0<=x<=65535"),
    ],
)
def test_a_wrong_value_is_one_clear_line(flag: str, value: str, accepted: str) -> None:
    """The line names the flag, the value and what is accepted; exit status 2."""
    result = CliRunner().invoke(demo, [flag, value])
    assert result.exit_code == 2
    line = result.output.splitlines()[-1]
    assert line.startswith("Error: ")
    assert all(part in line for part in (flag, value, accepted))


def test_help_names_every_option_with_its_default() -> None:
    """--help lists the options and what holds when they are not given."""
    text = " ".join(CliRunner().invoke(demo, ["--help"]).output.split())
    for part in (
        "127.0.0.1:10010",
        "127.0.0.1:10011",
        "--app-port",
        "default: 30",
        "default: 0.01",
        "default: 1m",
        "--for",
    ):
        assert part in text
