"""Tables of settings: a dataclass whose fields hold flag, parser, default and help.

:mod:`exporter.click_options` makes click options of them. `run` has its table in :mod:`exporter.config`, `inject` and
`webhook` theirs in :mod:`exporter.kubernetes.settings`. A parser takes the text that a user wrote and returns a value,
or raises ValueError with the accepted form as its text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from exporter.units import parse_bool

ENV_PREFIX = "WEBSOCKET_EXPORTER_"

Parse = Callable[[str], Any]


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
