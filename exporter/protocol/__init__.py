"""Bytes in, facts out: what WebSocket traffic means. No socket, clock, log or metric is known here."""
