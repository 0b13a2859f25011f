"""The command `demo`: a chat server with a bug, its clients, and the sidecar between them."""
