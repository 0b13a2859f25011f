"""Kubernetes manifests in, the same manifests with the sidecar in them out; and the same as an admission
webhook.
"""
