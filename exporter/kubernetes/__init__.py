"""Add the sidecar to Kubernetes manifests: the commands `inject` and `webhook`."""
