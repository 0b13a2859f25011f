"""Fuzzing: what peers may send, and what must hold whatever they send. :mod:`tests.fuzz.targets` says what."""
