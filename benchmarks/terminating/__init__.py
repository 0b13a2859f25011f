"""Two proxies that terminate WebSocket, to compare with one that overhears it."""
