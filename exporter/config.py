"""The settings of ``run``: every one with its default, its meaning and what it accepts, in one frozen object.

The command line, the environment variables and the README's table are made from :class:`Settings`. A parser takes the
text that a person wrote and returns a value, or raises ValueError with what would have been accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, cast

from exporter.address import Address, parse_listen, parse_upstream
from exporter.protocol.close_codes import CloseCodeMap, may_be_sent
from exporter.protocol.enums import Cause
from exporter.protocol.idle_timeouts import KNOWN_CUTOFFS, TOLERANCE, IdleCutoffs
from exporter.protocol.presets import PRESETS
from exporter.protocol.reason_rules import Reasons, Rule
from exporter.units import parse_duration, parse_size

ENV_PREFIX = "WEBSOCKET_EXPORTER_"


def parse_count(text: str) -> int:
    """A whole number, zero or more."""
    if not (text.isascii() and text.strip().isdecimal()):
        raise ValueError("expected a whole number, 0 or more")
    return int(text)


def parse_route(text: str) -> str:
    """A shell-style pattern for paths, such as ``/chat/*``."""
    if not text.startswith("/") or not text.isprintable():
        raise ValueError("expected a pattern for paths that begins with a slash, such as /chat/*")
    return text


def parse_code(text: str) -> tuple[int, Cause]:
    """A private close code that keeps its number: ``4401``, or ``4401=unauthorized`` to name its cause as well."""
    number, _, cause = text.partition("=")
    accepted = f"expected CODE or CODE=CAUSE with CODE from 3000 to 4999 and CAUSE one of {', '.join(CODE_CAUSES)}"
    if not (number.isascii() and number.isdecimal()) or not 3000 <= int(number) <= 4999 or not may_be_sent(int(number)):
        raise ValueError(accepted)
    if cause and cause not in CODE_CAUSES:
        raise ValueError(accepted)
    return int(number), Cause(cause) if cause else Cause.APPLICATION


def parse_reason(text: str) -> Rule:
    """A rule for reason texts: ``REGEX=CAUSE``; the last ``=`` divides."""
    pattern, _, cause = text.rpartition("=")
    if not pattern or cause not in CODE_CAUSES:
        raise ValueError(f"expected REGEX=CAUSE with CAUSE one of {', '.join(CODE_CAUSES)}")
    try:
        return Rule(pattern, Cause(cause))
    except ValueError as error:
        raise ValueError(f"expected a regular expression that RE2 takes: {error}") from error


def parse_identity(text: str) -> str:
    """What identifies a client: ``address``, ``cookie:NAME`` or ``query:NAME``."""
    kind, _, name = text.partition(":")
    if text != "address" and not (kind in ("cookie", "query") and name.isprintable() and name):
        raise ValueError("expected address, cookie:NAME or query:NAME")
    return text


def parse_file(text: str) -> str:
    """The path of a file that can be read; empty is none."""
    if text:
        try:
            with open(text, "rb"):
                pass
        except (OSError, ValueError) as error:
            raise ValueError(f"expected a file that can be read: {getattr(error, 'strerror', error)}") from error
    return text


#: Causes that a Close frame's code can be given; the others are judged from circumstances.
CODE_CAUSES = [
    cause.value
    for cause in Cause
    if cause
    not in (
        Cause.CONNECTION_LOST,
        Cause.CONNECTION_RESET,
        Cause.APP_DOWN,
        Cause.IDLE_TIMEOUT,
        Cause.DRAIN,
        Cause.LIMIT,
        Cause.UNOBSERVED,
        Cause.NO_STATUS,
    )
]


def one_of(*choices: str) -> Callable[[str], str]:
    """A parser that takes one of ``choices``."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return text

    return parse


def _setting(
    default: str | None,
    parse: Callable[[str], object],
    help: str,
    metavar: str,
    *,
    many: bool = False,
    switch: bool = False,
) -> Any:
    metadata = {"text": default, "parse": parse, "help": help, "metavar": metavar, "many": many, "switch": switch}
    if many:
        return field(default=(), metadata=metadata)
    if switch:
        return field(default=False, metadata=metadata)
    return field(default=MISSING if default is None else parse(default), metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one sidecar is told. Durations are seconds, sizes bytes."""

    upstream: Address = _setting(None, parse_upstream, "where the app listens", "HOST:PORT|unix:PATH")
    listen: Address = _setting(":10010", parse_listen, "where clients connect", "[HOST]:PORT")
    admin: Address = _setting(
        ":10011", parse_listen, "where /metrics, /livez, /readyz, /drain and the landing page are", "[HOST]:PORT"
    )
    route: tuple[str, ...] = _setting(
        None,
        parse_route,
        "a pattern for paths; the first that matches is the route label; repeatable",
        "PATTERN",
        many=True,
    )
    code: tuple[tuple[int, Cause], ...] = _setting(
        None, parse_code, "a private close code that keeps its number as label; repeatable", "CODE[=CAUSE]", many=True
    )
    preset: tuple[str, ...] = _setting(
        None,
        one_of(*PRESETS),
        f"private close codes of a known protocol; repeatable: {', '.join(PRESETS)}",
        "NAME",
        many=True,
    )
    reason: tuple[Rule, ...] = _setting(
        None,
        parse_reason,
        "judge Close frames by their reason text; first match wins; repeatable",
        "REGEX=CAUSE",
        many=True,
    )
    idle_cutoff: tuple[float, ...] = _setting(
        None,
        parse_duration,
        f"an idle time at which connections get cut; repeatable; else {', '.join(f'{s:g}' for s in KNOWN_CUTOFFS)} s",
        "DURATION",
        many=True,
    )
    idle_tolerance: float = _setting(
        f"{TOLERANCE:g}s", parse_duration, "how far from such a time still counts as it", "DURATION"
    )
    client_identity: str = _setting(
        "address", parse_identity, "what tells that a client came back", "address|cookie:NAME|query:NAME"
    )
    record_payload: int = _setting(
        "0", parse_size, "bytes of each side's last message that an abnormal ending's story shows; 0 is none", "SIZE"
    )
    connect_timeout: float = _setting("5s", parse_duration, "time for one connection to the app", "DURATION")
    handshake_timeout: float = _setting(
        "10s", parse_duration, "time from accept to the end of the first request's head", "DURATION"
    )
    max_head: int = _setting("64KiB", parse_size, "largest request or response head that is followed", "SIZE")
    max_connections: int = _setting("0", parse_count, "clients at a time, over it 503; 0 is no limit", "COUNT")
    tls_cert: str = _setting(
        "",
        parse_file,
        "certificate chain (PEM) with which clients are served by TLS; read again when it changes",
        "FILE",
    )
    tls_key: str = _setting("", parse_file, "private key (PEM) of --tls-cert", "FILE")
    web_config_file: str = _setting(
        "",
        parse_file,
        "TLS and basic auth of the admin port, as in Prometheus' --web.config.file; read again when it changes",
        "FILE",
    )
    client_keepalive: float = _setting(
        "60s",
        parse_duration,
        "silence after which TCP asks a client for a sign of life, six times at most; 0 is never",
        "DURATION",
    )
    max_session_age: float = _setting(
        "0",
        parse_duration,
        "greatest age of a session, ended with Close 1001 at random within the last tenth of it; 0 is never",
        "DURATION",
    )
    proxy_protocol: bool = _setting(
        None, bool, "send the app a PROXY v2 header with each client's address, ahead of its bytes", "", switch=True
    )
    drain_timeout: float = _setting("30s", parse_duration, "bounds a drain", "DURATION")
    drain_spread: float = _setting(
        "5s",
        parse_duration,
        "time over which a drain's Closes are spread evenly, as far as grace and timeout leave it",
        "DURATION",
    )
    drain_grace: float = _setting(
        "0", parse_duration, "time in a drain during which new clients are still served", "DURATION"
    )
    drain_code: str = _setting("1001", one_of("1001", "1012"), "the close code that a drain sends", "1001|1012")
    drain_linger: float = _setting(
        "15s",
        parse_duration,
        "longest wait for one more scrape after the last ending, before the process ends",
        "DURATION",
    )
    close_timeout: float = _setting("5s", parse_duration, "time for a client to answer a Close of ours", "DURATION")
    drain_from_anywhere: bool = _setting(
        None, bool, "let POST /drain come from other hosts than loopback", "", switch=True
    )
    log_endings: str = _setting(
        "abnormal", one_of("all", "abnormal", "none"), "which endings are logged", "all|abnormal|none"
    )
    log_format: str = _setting(
        "auto", one_of("auto", "json", "console"), "auto is console on a terminal, else json", "auto|json|console"
    )
    log_level: str = _setting(
        "info", one_of("debug", "info", "warning", "error"), "least level that is logged", "debug|info|warning|error"
    )

    def __post_init__(self) -> None:
        if bool(self.tls_cert) != bool(self.tls_key):
            given, missing = ("--tls-cert", "--tls-key") if self.tls_cert else ("--tls-key", "--tls-cert")
            raise ValueError(f"{given}: needs {missing} as well")
        if self.drain_grace > self.drain_timeout:
            raise ValueError(
                f"--drain-grace: {self.drain_grace:g}s is longer than --drain-timeout, {self.drain_timeout:g}s"
            )

    def close_code_map(self) -> CloseCodeMap:
        """What close codes mean under these settings; ``--code`` goes before ``--preset``."""
        codes: dict[int, Cause] = {}
        ranges: list[tuple[range, Cause]] = []
        for name in self.preset:
            codes |= PRESETS[name].codes
            ranges += PRESETS[name].ranges
        idle = IdleCutoffs(self.idle_cutoff or tuple(KNOWN_CUTOFFS), self.idle_tolerance)
        return CloseCodeMap(codes | dict(self.code), ranges, idle, Reasons(self.reason) if self.reason else None)


@dataclass(frozen=True, slots=True)
class Option:
    """One setting as a command line sees it."""

    name: str
    default: str | None
    parse: Callable[[str], object]
    help: str
    metavar: str
    many: bool
    switch: bool

    @property
    def flag(self) -> str:
        """``--drain-timeout``"""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """``WEBSOCKET_EXPORTER_DRAIN_TIMEOUT``"""
        return ENV_PREFIX + self.name.upper()

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is None and not self.many and not self.switch


def options() -> list[Option]:
    """Every setting, in the order in which help shows them."""
    return [_option(setting) for setting in fields(Settings)]


def _option(setting: Field[Any]) -> Option:
    about = cast(dict[str, Any], setting.metadata)
    return Option(
        setting.name, about["text"], about["parse"], about["help"], about["metavar"], about["many"], about["switch"]
    )
