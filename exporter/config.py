"""The settings of ``run``: every one with its default, its meaning and the values it accepts, in one frozen object.

The command line, the environment variables and docs/reference.md are made from :class:`Settings`. A parser takes the
text that a person wrote and returns a value, or raises ValueError saying what is accepted.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from exporter.address import Address, parse_listen, parse_upstream
from exporter.options import ENV_PREFIX, Option, options_of, setting
from exporter.protocol.causes import ASSIGNABLE_CAUSES
from exporter.protocol.close_codes import may_be_sent
from exporter.protocol.enums import Cause
from exporter.protocol.idle_timeouts import KNOWN_CUTOFFS, TOLERANCE, IdleCutoffs
from exporter.protocol.presets import AUTO, PRESETS, CodeMaps
from exporter.protocol.reason_rules import Reasons, Rule
from exporter.protocol.record import MAX_SAMPLE
from exporter.units import one_of, parse_bool, parse_count, parse_duration, parse_route, parse_size, parse_timeout

#: Variables that Kubernetes sets in pods for a Service named websocket-exporter, and those of other commands.
_OTHER_VARIABLES = re.compile(r"(SERVICE_(HOST|PORT)|PORT)(_.*)?|IMAGE")
_EVERY_HOST = {"", "0.0.0.0", "::"}
#: Relays at most.
MAX_WORKERS = 64


class Group(StrEnum):
    """A section of ``run --help``."""

    TRAFFIC = "Traffic"
    OBSERVATION = "Observation"
    DRAIN = "Drain"
    TLS = "TLS"
    ADMIN = "Admin port"
    LOGGING = "Logging"


def parse_code(text: str) -> tuple[int, Cause]:
    """Parse a private close code and its cause: ``4401`` or ``4401=unauthorized``. Raises ValueError."""
    number, _, cause = text.partition("=")
    accepted = f"expected CODE or CODE=CAUSE with CODE from 3000 to 4999 and CAUSE one of {', '.join(CODE_CAUSES)}"
    if not (number.isascii() and number.isdecimal()) or not 3000 <= int(number) <= 4999 or not may_be_sent(int(number)):
        raise ValueError(accepted)
    if cause and cause not in CODE_CAUSES:
        raise ValueError(accepted)
    return int(number), Cause(cause) if cause else Cause.APPLICATION


def parse_reason(text: str) -> Rule:
    """Parse a rule for reason texts, ``REGEX=CAUSE``; the last ``=`` divides. Raises ValueError."""
    pattern, _, cause = text.rpartition("=")
    if not pattern or cause not in CODE_CAUSES:
        raise ValueError(f"expected REGEX=CAUSE with CAUSE one of {', '.join(CODE_CAUSES)}")
    try:
        return Rule(pattern, Cause(cause))
    except ValueError as error:
        raise ValueError(f"expected a regular expression that RE2 takes: {error}") from error


def parse_identity(text: str) -> str:
    """Parse the source of a client's identity: ``address``, ``cookie:NAME`` or ``query:NAME``. Raises ValueError."""
    kind, _, name = text.partition(":")
    if text != "address" and not (kind in ("cookie", "query") and name.isprintable() and name):
        raise ValueError("expected address, cookie:NAME or query:NAME")
    return text


def parse_file(text: str) -> str:
    """Parse the path of a file that can be read; empty is none. Raises ValueError."""
    if text:
        try:
            with open(text, "rb"):
                pass
        except (OSError, ValueError) as error:
            raise ValueError(f"expected a file that can be read: {getattr(error, 'strerror', error)}") from error
    return text


def parse_workers(text: str) -> int:
    """Parse the number of relays; 0 stands for ``auto``. Raises ValueError."""
    if text == "auto":
        return 0
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= MAX_WORKERS:
        raise ValueError(f"expected auto or a whole number from 1 to {MAX_WORKERS}")
    return int(text)


def parse_host_name(text: str) -> str:
    """Parse a host name as in a ``Host`` header, without its port. Raises ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", text):
        raise ValueError("expected a host name without a port, such as chat.example.com")
    return text.lower()


#: Causes that a Close frame's code can be given; the others are judged from circumstances.
CODE_CAUSES = [cause.value for cause in ASSIGNABLE_CAUSES]

_traffic, _observation, _drain, _tls, _admin, _logging = (partial(setting, group=group) for group in Group)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one sidecar. Durations are seconds, sizes bytes. Raises ValueError for contradictions."""

    # Traffic
    upstream: Address = _traffic(None, parse_upstream, "address of the app", "HOST:PORT|unix:PATH", required=True)
    listen: Address = _traffic(":10010", parse_listen, "address for clients", "[HOST]:PORT")
    workers: int = _traffic("1", parse_workers, "relay processes; auto is the CPU limit, rounded down", "COUNT|auto")
    connect_timeout: float = _traffic("5s", parse_timeout, "time limit of one connection to the app", "DURATION")
    handshake_timeout: float = _traffic(
        "10s", parse_timeout, "time limit from accept to the end of the first request head", "DURATION"
    )
    max_head: int = _traffic("64KiB", parse_size, "size limit of a request or response head that is parsed", "SIZE")
    max_connections: int = _traffic("0", parse_count, "client connections at a time, 503 above it; 0 disables", "COUNT")
    max_session_age: float = _traffic(
        "0",
        parse_duration,
        "close sessions older than this with 1001, spread over the last 10 % of it; 0 disables",
        "DURATION",
    )
    client_keepalive: float = _traffic(
        "60s", parse_duration, "TCP keepalive idle time for clients (6 probes); 0 disables", "DURATION"
    )
    proxy_protocol: bool = _traffic(
        "false", parse_bool, "PROXY protocol v2 header with the client's address to the app"
    )
    # Observation
    route: tuple[str, ...] = _observation(
        None, parse_route, "path pattern; the first that matches is the route label; repeatable", "PATTERN", many=True
    )
    code: tuple[tuple[int, Cause], ...] = _observation(
        None, parse_code, "private close code that keeps its number as label; repeatable", "CODE[=CAUSE]", many=True
    )
    preset: tuple[str, ...] = _observation(
        None,
        one_of(*PRESETS, AUTO),
        f"close codes of a known protocol; repeatable: {', '.join(PRESETS)}; auto: by subprotocol or path",
        "NAME",
        many=True,
    )
    reason: tuple[Rule, ...] = _observation(
        None,
        parse_reason,
        "cause of Close frames by their reason text; first match wins; repeatable",
        "REGEX=CAUSE",
        many=True,
    )
    idle_cutoff: tuple[float, ...] = _observation(
        None,
        parse_duration,
        f"idle time at which connections are cut; repeatable; else {', '.join(f'{s:g}' for s in KNOWN_CUTOFFS)} s",
        "DURATION",
        many=True,
    )
    idle_tolerance: float = _observation(f"{TOLERANCE:g}s", parse_duration, "tolerance of an idle cut-off", "DURATION")
    client_identity: str = _observation(
        "address",
        parse_identity,
        "identity by which a returning client is recognised",
        "address|cookie:NAME|query:NAME",
    )
    record_payload: int = _observation(
        "0",
        parse_size,
        f"bytes of each side's last message to keep in reports of abnormal closes, at most {MAX_SAMPLE}; 0 disables",
        "SIZE",
    )
    # Drain
    drain_timeout: float = _drain("30s", parse_duration, "time limit of a drain", "DURATION")
    drain_spread: float = _drain(
        "5s",
        parse_duration,
        "time over which a drain spreads its Close frames, as far as grace and timeout allow",
        "DURATION",
    )
    drain_grace: float = _drain("0", parse_duration, "time in a drain during which new clients are served", "DURATION")
    drain_code: str = _drain("1001", one_of("1001", "1012"), "close code that a drain sends", "1001|1012")
    drain_linger: float = _drain(
        "15s", parse_duration, "longest wait for a last scrape before the process ends", "DURATION"
    )
    close_timeout: float = _drain("5s", parse_timeout, "time limit for a client's answer to a Close frame", "DURATION")
    drain_from_anywhere: bool = _drain("false", parse_bool, "POST /drain from other hosts than loopback")
    # TLS
    tls_cert: str = _tls("", parse_file, "certificate chain (PEM) for clients; read again when it changes", "FILE")
    tls_key: str = _tls("", parse_file, "private key (PEM) of --tls-cert", "FILE")
    # Admin port
    admin: Address = _admin(
        ":10011", parse_listen, "address of the page, /metrics, health checks and /drain", "[HOST]:PORT"
    )
    web_config_file: str = _admin(
        "",
        parse_file,
        "TLS and basic auth of the admin port, as Prometheus' --web.config.file; read again when it changes",
        "FILE",
    )
    admin_max_connections: int = _admin(
        "64", parse_count, "connections to the admin port at a time; 0 disables", "COUNT"
    )
    admin_host: tuple[str, ...] = _admin(
        None, parse_host_name, "name under which browsers may open the page; repeatable", "HOSTNAME", many=True
    )
    closes_from_anywhere: bool = _admin(
        "false", parse_bool, "reports of closes to other hosts than loopback without a login"
    )
    exemplars: bool = _admin("false", parse_bool, "trace ids as exemplars in /metrics to other hosts than loopback")
    # Logging
    log_endings: str = _logging("abnormal", one_of("all", "abnormal", "none"), "closes to log", "all|abnormal|none")
    log_format: str = _logging(
        "auto", one_of("auto", "json", "console"), "auto is console on a terminal, else json", "auto|json|console"
    )
    log_level: str = _logging(
        "info", one_of("debug", "info", "warning", "error"), "lowest level to log", "debug|info|warning|error"
    )

    def __post_init__(self) -> None:
        if bool(self.tls_cert) != bool(self.tls_key):
            given, missing = ("--tls-cert", "--tls-key") if self.tls_cert else ("--tls-key", "--tls-cert")
            raise ValueError(f"{given}: needs {missing} as well")
        if self.drain_grace > self.drain_timeout:
            raise ValueError(
                f"--drain-grace: {self.drain_grace:g}s is longer than --drain-timeout, {self.drain_timeout:g}s"
            )
        if _overlap(self.listen, self.admin):
            raise ValueError(f"--admin: {self.admin} is the address of --listen; expected another port")
        for flag, own in (("--listen", self.listen), ("--admin", self.admin)):
            if _is_own(self.upstream, own):
                raise ValueError(f"--upstream: {self.upstream} is the sidecar's own {flag}; expected the app's address")

    def code_maps(self) -> CodeMaps:
        """Return the maps of close codes under these settings; ``--code`` goes before ``--preset``."""
        idle = IdleCutoffs(self.idle_cutoff or tuple(KNOWN_CUTOFFS), self.idle_tolerance)
        return CodeMaps(self.preset, dict(self.code), idle, Reasons(self.reason) if self.reason else None)


def _overlap(one: Address, other: Address) -> bool:
    """Return whether two addresses cannot both be listened on."""
    same_host = one.host == other.host or not _EVERY_HOST.isdisjoint((one.host, other.host))
    return one.port == other.port != 0 and same_host


def _is_own(upstream: Address, listen: Address) -> bool:
    """Return whether a connection to ``upstream`` would reach a listener of this process."""
    if upstream.path or upstream.port != listen.port:
        return False
    try:
        local = ipaddress.ip_address(upstream.host).is_loopback or ipaddress.ip_address(upstream.host).is_unspecified
    except ValueError:
        local = upstream.host == "localhost"
    return upstream.host == listen.host or (local and listen.host in {*_EVERY_HOST, "localhost"})


def unknown_variables(environment: Mapping[str, str], known: Iterable[str]) -> list[str]:
    """Return the variables with our prefix that no setting reads."""
    ours = {name for name in environment if name.startswith(ENV_PREFIX)} - set(known)
    return sorted(name for name in ours if not _OTHER_VARIABLES.fullmatch(name.removeprefix(ENV_PREFIX)))


def options() -> list[Option]:
    """Return every setting, in the order in which help shows them."""
    return options_of(Settings)
