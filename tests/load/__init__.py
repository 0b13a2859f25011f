"""Load: many sessions for long, many short ones in a row, and what the worst client can cost. Loopback only."""
