"""A server certificate that is replaced under a running server, as cert-manager and kubelet do with mounted
secrets.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


def load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Have ``context`` serve a certificate chain (PEM) with its private key.

    Raises OSError if a file cannot be read or the key is encrypted, ssl.SSLError if the two do not fit together.
    """
    context.load_cert_chain(certificate, key, password=_encrypted)


def _encrypted() -> NoReturn:
    # Left to itself OpenSSL asks on the terminal, and everything stands still until somebody answers.
    raise OSError("the private key is encrypted, and nobody can be asked for its pass phrase")


class ReloadingCert:
    """Certificate and key files, and the TLS context that serves them.

    Connections that are open keep what they began with; new ones get what the files held at the last
    `refresh`.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises OSError if a file cannot be read, ssl.SSLError if they do not fit together."""
        self._paths = (certificate, key)
        self._seen = self._read()
        self.context = self._load(_server_context())

    def refresh(self) -> bool:
        """Load the files again if they changed. True if so.

        Raises OSError or ssl.SSLError for a pair that cannot be used; the old one stays in use, and the next
        call tries again.
        """
        found = self._read()
        if found == self._seen:
            return False
        self._load(_server_context())  # a context is left without a key by a pair that does not fit: try on another
        self._load(self.context)
        self._seen = found
        return True

    async def watch(self, every: float, renewed: Callable[[], None], failed: Callable[[str], None]) -> NoReturn:
        """Refresh every so many seconds, for good. ``failed`` is told why, and again only when it is for another
        reason or has worked in between.
        """
        told = ""
        while True:
            await asyncio.sleep(every)
            try:
                if self.refresh():
                    renewed()
                told = ""
            except OSError as error:  # ssl.SSLError is one
                if (why := str(error)) != told:
                    failed(why)
                told = why

    def _read(self) -> tuple[bytes, ...]:
        return tuple(path.read_bytes() for path in self._paths)

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        load_pair(context, *self._paths)
        return context


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
