"""The sidecar as a process, between real clients and real apps."""
