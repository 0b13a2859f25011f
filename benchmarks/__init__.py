"""Side by side: what this sidecar costs, and what other proxies cost for the same traffic in the same run.

``make bench`` runs all of it; docs/performance.md says what came out and how to read it.
"""
