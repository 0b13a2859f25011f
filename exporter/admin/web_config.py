"""Prometheus' ``--web.config.file``: TLS and users of the admin port.

    tls_server_config:
      cert_file: server.crt
      key_file: server.key
      client_auth_type: RequireAndVerifyClientCert
      client_ca_file: ca.crt
      min_version: TLS12
    basic_auth_users:
      prometheus: $2b$12$...        (bcrypt, as by ``htpasswd -nB``)

Source: https://prometheus.io/docs/prometheus/latest/configuration/https/. Paths are relative to the file. Part of
that format is supported; an unknown key is an error, so that no guard is taken to be there that is not.

The YAML library is imported only where there is such a file.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter.reloading_cert import load_pair

_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_TLS_KEYS = {"cert_file", "key_file", "client_auth_type", "client_ca_file", "min_version", "max_version"}
_BCRYPT = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")


class BadWebConfig(Exception):
    """The file cannot be used; the message is one line that names it."""


@dataclass(frozen=True, slots=True)
class WebConfig:
    """The content of the file.

    :ivar tls: None if the admin port speaks plain HTTP.
    :ivar users: bcrypt hashes by user; empty if no login is needed.
    :ivar files: the file and those that it names, for :func:`fingerprint`.
    """

    tls: ssl.SSLContext | None = None
    users: Mapping[str, bytes] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


def load(path: Path) -> WebConfig:
    """Read the file and those that it names. Raises BadWebConfig."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return _parse(path, YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise BadWebConfig(f"{path}: {getattr(error, 'strerror', None) or 'not text in UTF-8'}") from error
    except YAMLError as error:
        raise BadWebConfig(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise BadWebConfig(f"{path}: nested too deeply") from error
    except ValueError as error:
        raise BadWebConfig(f"{path}: {error}") from error


def _parse(path: Path, content: Any) -> WebConfig:
    content = _mapping({} if content is None else content, "the file", {"tls_server_config", "basic_auth_users"})
    users = _mapping(content.get("basic_auth_users") or {}, "basic_auth_users")
    for user, hashed in users.items():
        if not isinstance(user, str) or not isinstance(hashed, str) or not _BCRYPT.fullmatch(hashed):
            raise ValueError(f"basic_auth_users: {user}: expected a bcrypt hash, as made by htpasswd -nB")
    context: ssl.SSLContext | None = None
    files: tuple[Path, ...] = (path,)
    if content.get("tls_server_config"):
        tls = _mapping(content["tls_server_config"], "tls_server_config", _TLS_KEYS)
        context, more = _context(path.parent, tls)
        files += more
    return WebConfig(context, {user: hashed.encode() for user, hashed in users.items()}, files)


def _mapping(value: Any, place: str, known: set[str] | None = None) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{place}: expected keys and values")
    for key in value:
        if known is not None and key not in known:
            raise ValueError(f"{place}: unknown key {key!r}, expected one of {', '.join(sorted(known))}")
    return value


def _context(folder: Path, tls: Mapping[str, Any]) -> tuple[ssl.SSLContext, tuple[Path, ...]]:
    for name, value in tls.items():
        if not isinstance(value, str):
            raise ValueError(f"tls_server_config: {name}: expected a text")
    certificate, key, authority = (
        folder / tls[name] if tls.get(name) else None for name in ("cert_file", "key_file", "client_ca_file")
    )
    if certificate is None or key is None:
        raise ValueError("tls_server_config: needs cert_file and key_file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _one_of(tls, "min_version", _VERSIONS, ssl.TLSVersion.TLSv1_2)
    context.maximum_version = _one_of(tls, "max_version", _VERSIONS, ssl.TLSVersion.MAXIMUM_SUPPORTED)
    auth = _one_of(tls, "client_auth_type", _CLIENT_AUTH, ssl.CERT_NONE)
    if (authority is None) != (auth is ssl.CERT_NONE):
        raise ValueError("tls_server_config: client_ca_file and a client_auth_type that verifies need each other")
    context.verify_mode = auth
    try:
        load_pair(context, certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"tls_server_config: cert_file, key_file: {_why(error)}") from error
    if authority is not None:
        try:
            context.load_verify_locations(authority)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"tls_server_config: client_ca_file: {_why(error)}") from error
    return context, tuple(file for file in (certificate, key, authority) if file is not None)


def _one_of(tls: Mapping[str, Any], name: str, choices: Mapping[str, Any], default: Any) -> Any:
    if name not in tls:
        return default
    if tls[name] not in choices:
        raise ValueError(f"tls_server_config: {name}: {tls[name]!r}, expected one of {', '.join(choices)}")
    return choices[tls[name]]


def _why(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror or error)


def fingerprint(files: tuple[Path, ...]) -> tuple[bytes, ...]:
    """Return the files' contents; a file that cannot be read counts as empty."""
    contents = []
    for path in files:
        try:
            contents.append(path.read_bytes())
        except OSError:
            contents.append(b"")
    return tuple(contents)
