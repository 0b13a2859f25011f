"""Something to look at: a chat app that fails now and then, its visitors, and the sidecar between them.

``app`` serves, ``traffic`` visits, ``supervisor`` runs both with the sidecar between, ``command`` is the door.
"""
