"""A certificate that is replaced under a running server."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from exporter.reloading_cert import ReloadingCert
from tests.certificates import encrypt, issue


def served(certificate: ReloadingCert) -> bytes | None:
    """What a client is shown, through memory."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server)
    other = certificate.context.wrap_bio(to_server, to_client, server_side=True)
    for side in (one, other, one):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return one.getpeercert(binary_form=True)


def test_a_new_pair_is_served(tmp_path: Path) -> None:
    """Unchanged files are left alone; changed ones are served from the next look on."""
    certificate = ReloadingCert(*issue(trustme.CA(), tmp_path))
    first = served(certificate)
    assert first
    assert not certificate.refresh()
    issue(trustme.CA(), tmp_path)
    assert certificate.refresh()
    assert served(certificate) not in (first, None)
    assert not certificate.refresh()


def test_a_pair_of_no_use_changes_nothing(tmp_path: Path) -> None:
    """A key that does not fit, an encrypted one, and none at all: an error each, and the old pair is served on."""
    chain, key = issue(trustme.CA(), tmp_path)
    certificate = ReloadingCert(chain, key)
    first, good = served(certificate), key.read_bytes()
    issue(trustme.CA(), tmp_path)
    key.write_bytes(good)
    with pytest.raises(ssl.SSLError):
        certificate.refresh()
    issue(trustme.CA(), tmp_path)
    encrypt(key)
    with pytest.raises(OSError, match="encrypted"):
        certificate.refresh()
    key.unlink()
    with pytest.raises(FileNotFoundError):
        certificate.refresh()
    assert served(certificate) == first


def test_an_encrypted_key_is_refused_at_the_start(tmp_path: Path) -> None:
    """Nobody is asked for a pass phrase: at a terminal that would wait for ever."""
    chain, key = issue(trustme.CA(), tmp_path)
    encrypt(key)
    with pytest.raises(OSError, match="encrypted"):
        ReloadingCert(chain, key)
