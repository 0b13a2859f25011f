"""Parses bytes to events, events to records, records to causes. No socket, clock, log or metric is used here."""
