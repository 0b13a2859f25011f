"""The client of POST /drain, for the ``drain`` command in a preStop hook."""

from __future__ import annotations

import json
import ssl
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from time import sleep

from exporter.admin import DRAIN_HEADER

#: Seconds between checks of the progress.
POLL = 0.5
#: Seconds that one answer may take.
TIMEOUT = 5.0


class DrainFailed(Exception):
    """The sidecar could not be reached or refused."""


def drain_and_wait(admin: str, wait: bool = True) -> None:
    """Ask the sidecar at ``admin`` (HOST:PORT) to drain; with ``wait``, return when it is done.

    A sidecar that ends meanwhile has drained. Raises DrainFailed.
    """
    try:
        progress = _call(admin, "POST", 202)
    except (OSError, HTTPException) as error:
        raise DrainFailed(f"no sidecar at {admin}: {error}") from error
    while wait and progress.get("phase") != "done":
        sleep(POLL)
        try:
            progress = _call(admin, "GET", 200)
        except (OSError, HTTPException):
            return


def _connect(admin: str) -> HTTPConnection:
    """Return a connection to ``HOST:PORT``, or with TLS to ``https://HOST:PORT``.

    On loopback, where a preStop hook runs, the certificate is not verified: it is issued to another name.
    """
    scheme, _, address = admin.rpartition("://")
    if scheme != "https":
        return HTTPConnection(address, timeout=TIMEOUT)
    context = ssl.create_default_context()
    if address.rpartition(":")[0] in ("localhost", "127.0.0.1", "[::1]"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(address, timeout=TIMEOUT, context=context)


def _call(admin: str, method: str, expected: int) -> dict[str, object]:
    with closing(_connect(admin)) as connection:
        connection.request(method, "/drain", headers={DRAIN_HEADER: "drain"})
        response = connection.getresponse()
        body = response.read()
    if response.status != expected:
        raise DrainFailed(f"{admin} answered {response.status}: {body.decode('utf-8', 'replace').strip()}")
    progress: dict[str, object] = json.loads(body)
    return progress
