"""A certificate for the test servers, from an authority that lives as long as the tests."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificates:
    """PEM files: the authority to verify by, a server's certificate chain and its private key."""

    authority: Path
    chain: Path
    key: Path

    def client_context(self) -> ssl.SSLContext:
        """Return a context that verifies the test servers, as localhost and as 127.0.0.1."""
        return ssl.create_default_context(cafile=str(self.authority))


def issue(directory: Path) -> Certificates:
    """Write an authority and a certificate for localhost and 127.0.0.1 into `directory`."""
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    files = Certificates(
        directory / "authority.pem", directory / "chain.pem", directory / "key.pem"
    )
    authority.cert_pem.write_to_path(str(files.authority))
    for blob in server.cert_chain_pems:
        blob.write_to_path(str(files.chain), append=True)
    server.private_key_pem.write_to_path(str(files.key))
    # Dovecot reads these as another user, whatever the umask. Only the tests trust the key.
    for file in (files.chain, files.key):
        file.chmod(0o644)
    return files
