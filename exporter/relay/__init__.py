"""Sockets: accept, connect, move bytes, end. Knows the protocol; knows nothing of metrics and logs."""
