"""What the end-to-end tests stand on: processes, raw peers, and a reader of the sidecar's metrics."""
