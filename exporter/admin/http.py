"""aiohttp as the admin port uses it, its server: the one place that imports it.

When it is imported, aiohttp makes two TLS contexts for its client, and each reads the machine's certificate
authorities: a sixth of the start and 2 MB, for a client that a sidecar does not have. OpenSSL is told meanwhile that
there are none, in its own words (``SSL_CERT_FILE``, ``SSL_CERT_DIR``); the environment is afterwards what it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["HttpProcessingError", "web", "web_response"]


@contextmanager
def _no_authorities() -> Iterator[None]:
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


with _no_authorities():
    from aiohttp import web, web_response
    from aiohttp.http_exceptions import HttpProcessingError
