"""Tables of settings: a dataclass whose fields hold flag, parser, default and help, and the click options made of it.

`run` has its table in :mod:`exporter.config`, `inject` and `webhook` theirs in :mod:`exporter.kubernetes.settings`. A
parser takes the text that a user wrote and returns a value, or raises ValueError with the accepted form as its text.
click is imported where a command line is read: a sidecar that runs needs none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from exporter.units import parse_bool

ENV_PREFIX = "WEBSOCKET_EXPORTER_"

Parse = Callable[[str], Any]
_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Option:
    """One setting as users write it.

    :ivar field: its name in the dataclass.
    :ivar default: as text; None without one.
    :ivar many: whether the flag is repeatable; ``parse`` then returns one item.
    :ivar group: the section of the command's help.
    :ivar negative: the flag that turns a switch off, such as ``--no-hold-app``.
    :ivar lines: whether a single text for a repeatable option has an item on each line, else they are words.
    :ivar environment: whether a variable may set it.
    :ivar tenant: whether a pod's annotation may set it in the webhook.
    """

    field: str
    default: str | None
    parse: Parse
    help: str
    metavar: str = ""
    many: bool = False
    required: bool = False
    group: str = ""
    negative: str = ""
    lines: bool = False
    environment: bool = True
    tenant: bool = True

    @property
    def name(self) -> str:
        """``drain-timeout``"""
        return self.field.replace("_", "-")

    @property
    def flag(self) -> str:
        """``--drain-timeout``"""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """``WEBSOCKET_EXPORTER_DRAIN_TIMEOUT``"""
        return ENV_PREFIX + self.field.upper()

    @property
    def switch(self) -> bool:
        """Whether the flag takes no value."""
        return self.parse is parse_bool

    def read(self, text: str) -> Any:
        """Return the value of one text, which has all items of a repeatable option. Raises ValueError naming it."""
        if self.many:
            items = text.splitlines() if self.lines else text.split()
            return tuple(named(self.parse, item.strip()) for item in items if item.strip())
        return named(self.parse, text)


def named(parse: Parse, text: str) -> Any:
    """Parse ``text``; the ValueError for an invalid one begins with it."""
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from error


def setting(
    default: str | None, parse: Parse, help: str, metavar: str = "", *, many: bool = False, **about: Any
) -> Any:
    """Return the dataclass field of one option. ``about``: further fields of :class:`Option`."""
    metadata = {"default": default, "parse": parse, "help": help, "metavar": metavar, "many": many, **about}
    if about.get("required"):
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=() if many else None if default is None else parse(default), metadata=metadata)


def options_of(settings: type) -> list[Option]:
    """Return the options of a dataclass whose fields are all made by :func:`setting`, in their order."""
    return [Option(one.name, **one.metadata) for one in dataclasses.fields(settings)]


def parsed(parse: Parse) -> Callable[[Any], Any]:
    """Return the click type for a parser: the error for an invalid text names it."""
    from click import BadParameter

    def convert(value: Any) -> Any:
        try:
            return named(parse, value) if isinstance(value, str) else value  # else it is parsed already
        except ValueError as error:
            raise BadParameter(str(error)) from error

    return convert


def add_options(options: Iterable[Option], *, check_required: bool = True) -> Callable[[_Command], _Command]:
    """Return a decorator that adds the options to a click command."""
    import click

    def decorate(command: _Command) -> _Command:
        for option in reversed([*options]):
            shown: dict[str, Any] = {"help": option.help, "envvar": option.variable if option.environment else None}
            flags = f"{option.flag}/{option.negative}" if option.negative else option.flag
            if option.switch:
                shown |= {"is_flag": True, "default": option.default == "true", "show_default": bool(option.negative)}
            else:
                shown |= {"type": parsed(option.parse), "metavar": option.metavar, "multiple": option.many}
                shown |= {"required": option.required and check_required}
                if option.default is not None:
                    shown |= {"default": option.default, "show_default": bool(option.default)}
            command = click.option(flags, option.field, **shown)(command)
        return command

    return decorate
