"""Tables of options: texts to values, and the click options made of them."""

from __future__ import annotations

from dataclasses import dataclass

import click
import pytest
from click.testing import CliRunner

from exporter.options import add_options, options_of, setting
from exporter.units import parse_bool, parse_port


@dataclass(frozen=True)
class Table:
    """One option of each kind."""

    app_port: int = setting("80", parse_port, "port of the app", "PORT")
    words: tuple[str, ...] = setting(None, str, "words", "WORD", many=True)
    lines: tuple[str, ...] = setting(None, str, "lines", "LINE", many=True, lines=True)
    held: bool = setting("true", parse_bool, "hold it", negative="--loose")
    hidden: str = setting("", str, "not from the environment", "TEXT", environment=False)


OPTIONS = {option.field: option for option in options_of(Table)}


@click.command()
@add_options(OPTIONS.values())
def command(**values: object) -> None:
    """Print the values."""
    click.echo(repr(Table(**values)))  # type: ignore[arg-type]


def run(*args: str, **env: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(command, args, env=env)
    return result.exit_code, result.stdout.strip(), result.stderr


def test_option_names_follow_from_the_field() -> None:
    """Flag, variable and name in annotations are made of the field's name."""
    option = OPTIONS["app_port"]
    assert (option.name, option.flag, option.variable) == ("app-port", "--app-port", "WEBSOCKET_EXPORTER_APP_PORT")


@pytest.mark.parametrize(("field", "value"), [("words", ("a", "b", "c")), ("lines", ("a b", "c"))])
def test_option_read_splits_one_text_into_items(field: str, value: tuple[str, ...]) -> None:
    """One text holds all items of a repeatable option: words, or lines where items may have blanks."""
    assert OPTIONS[field].read(" a b\n\n c\n") == value


def test_option_read_invalid_text_is_named() -> None:
    """The error begins with the text and says which texts are accepted."""
    with pytest.raises(ValueError, match=r"^'http': expected a port number"):
        OPTIONS["app_port"].read("http")


def test_command_without_flags_has_the_defaults() -> None:
    """Without flags and variables the command's values are the table's defaults."""
    assert run() == (0, repr(Table()), "")


def test_command_takes_flags_before_variables() -> None:
    """A flag wins over its variable; an option may have no variable; a switch has a flag that turns it off."""
    env = {"WEBSOCKET_EXPORTER_APP_PORT": "1", "WEBSOCKET_EXPORTER_WORDS": "a b", "WEBSOCKET_EXPORTER_HIDDEN": "x"}
    expected = Table(app_port=2, words=("a", "b"), held=False)
    assert run("--app-port", "2", "--loose", **env) == (0, repr(expected), "")


def test_command_invalid_value_is_a_usage_error() -> None:
    """An invalid value names the flag, the value and the accepted ones, with status 2."""
    status, _, err = run("--app-port", "70000")
    assert status == 2
    assert "'--app-port': '70000': expected a port number (1 to 65535)" in err
