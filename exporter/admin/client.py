"""The other end of POST /drain, for the ``drain`` command in a preStop hook."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException
from time import sleep

#: Seconds between looks at the progress.
POLL = 0.5
#: Seconds that one answer may take.
TIMEOUT = 5.0


class DrainFailed(Exception):
    """The sidecar could not be reached or said no."""


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


def _call(admin: str, method: str, expected: int) -> dict[str, object]:
    connection = HTTPConnection(admin, timeout=TIMEOUT)
    try:
        connection.request(method, "/drain")
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != expected:
        raise DrainFailed(f"{admin} answered {response.status}: {body.decode('utf-8', 'replace').strip()}")
    progress: dict[str, object] = json.loads(body)
    return progress
