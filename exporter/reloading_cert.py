"""A server certificate whose files may be replaced under a running server, as cert-manager and the kubelet do."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


def load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Load a certificate chain (PEM) and its private key into ``context``.

    Raises OSError if a file cannot be read or the key is encrypted, ssl.SSLError if the two do not fit together.
    """
    context.load_cert_chain(certificate, key, password=_refuse_encrypted)


def _refuse_encrypted() -> NoReturn:
    # Without this OpenSSL would prompt for the pass phrase on the terminal and block the process.
    raise OSError("the private key is encrypted; nobody can be asked for its pass phrase")


class ReloadingCert:
    """Certificate and key files, and the TLS context that serves them.

    Open connections keep the certificate that they began with; new ones get that of the last `refresh`.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read the files. Raises OSError if one cannot be read, ssl.SSLError if they do not fit together."""
        self._paths = (certificate, key)
        self._seen = self._read()
        self.context = self._load(_server_context())

    def refresh(self) -> bool:
        """Load the files again if they have changed, and return whether they have.

        Raises OSError or ssl.SSLError for a pair that cannot be used; the old one stays in use, and the next
        call tries again.
        """
        found = self._read()
        if found == self._seen:
            return False
        self._load(_server_context())  # a pair that does not fit leaves a context without a key: try another one first
        self._load(self.context)
        self._seen = found
        return True

    async def watch(self, every: float, renewed: Callable[[], None], failed: Callable[[str], None]) -> NoReturn:
        """Refresh every ``every`` seconds until cancelled; call ``failed`` once for each new reason."""
        reported = ""
        while True:
            await asyncio.sleep(every)
            try:
                if self.refresh():
                    renewed()
                reported = ""
            except OSError as error:  # ssl.SSLError is one
                if (why := str(error)) != reported:
                    failed(why)
                reported = why

    def _read(self) -> tuple[bytes, ...]:
        return tuple(path.read_bytes() for path in self._paths)

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        load_pair(context, *self._paths)
        return context


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context
