"""Something to look at: a chat app that fails now and then, its visitors, and the sidecar between them.

``app`` serves, ``traffic`` visits, ``supervisor`` runs both around the sidecar, ``command`` is the door.
"""

from __future__ import annotations


class DemoError(Exception):
    """The demo cannot go on; the message says why, in one line."""
