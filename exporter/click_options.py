"""The click options of a table of settings: a module of its own, so that a sidecar that runs needs no click."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from exporter.options import Option, Parse, named

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Parsed(click.ParamType[Any]):
    """A click type for one of our parsers; the error for an invalid text names it."""

    name = "text"

    def __init__(self, parse: Parse) -> None:
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the parsed text; a value that is no text is parsed already."""
        try:
            return named(self._parse, value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


def add_options(options: Iterable[Option], *, check_required: bool = True) -> Callable[[_Command], _Command]:
    """Return a decorator that adds the options to a click command."""

    def decorate(command: _Command) -> _Command:
        for option in reversed([*options]):
            shown: dict[str, Any] = {"help": option.help, "envvar": option.variable if option.environment else None}
            flags = f"{option.flag}/{option.negative}" if option.negative else option.flag
            if option.switch:
                shown |= {"is_flag": True, "default": option.default == "true", "show_default": bool(option.negative)}
            else:
                shown |= {"type": Parsed(option.parse), "metavar": option.metavar, "multiple": option.many}
                shown |= {"required": option.required and check_required}
                if option.default is not None:
                    shown |= {"default": option.default, "show_default": bool(option.default)}
            command = click.option(flags, option.field, **shown)(command)
        return command

    return decorate
