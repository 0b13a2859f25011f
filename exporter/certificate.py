"""A server certificate that is replaced under a running server, as cert-manager and kubelet do with mounted
secrets.
"""

from __future__ import annotations

import ssl
from pathlib import Path


class Certificate:
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

    def _read(self) -> tuple[bytes, ...]:
        return tuple(path.read_bytes() for path in self._paths)

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.load_cert_chain(*self._paths)
        return context


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
