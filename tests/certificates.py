"""Certificates and keys as files."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization


def issue(authority: trustme.CA, folder: Path) -> tuple[Path, Path]:
    """A new certificate of loopback's names and its private key, in files."""
    folder.mkdir(exist_ok=True)
    issued = authority.issue_cert("localhost", "127.0.0.1")
    certificate, key = folder / "tls.crt", folder / "tls.key"
    certificate.write_bytes(b"".join(unlink.bytes() for unlink in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return certificate, key


def encrypt(key: Path) -> None:
    """Put a pass phrase on a private key."""
    private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    encryption = serialization.BestAvailableEncryption(b"secret")
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key.write_bytes(private.private_bytes(pem, pkcs8, encryption))


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """What a client has that trusts an authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
