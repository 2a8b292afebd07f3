"""Fixtures of the tests of the client classes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

import pytest
import trustme

from .memory import MemoryServer, ReceivingMemoryServer


@pytest.fixture(params=[MemoryServer, ReceivingMemoryServer], ids=["by-file", "by-socket"])
def server_class(request: pytest.FixtureRequest) -> type[MemoryServer]:
    """Both kinds of sockets: replies of the first are read by makefile(), as in the stdlib."""
    kind: type[MemoryServer] = request.param
    return kind


@dataclass(frozen=True)
class MutualTLS:
    """A server that asks its clients for a certificate, and such a client's files in PEM."""

    server: ssl.SSLContext
    keyfile: str
    certfile: str
    cafile: str

    def client(self, *, with_certificate: bool) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.cafile)
        if with_certificate:
            context.load_cert_chain(self.certfile, self.keyfile)
        return context


@pytest.fixture(scope="session")
def mutual_tls(tmp_path_factory: pytest.TempPathFactory) -> MutualTLS:
    directory = tmp_path_factory.mktemp("mutual_tls")
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server)
    # The second is the name of a server behind a unix socket, whose path no certificate can have.
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(server)
    client = authority.issue_cert("client@x.test")
    made = MutualTLS(server, *(str(directory / name) for name in ("key", "cert", "ca")))
    client.private_key_pem.write_to_path(made.keyfile)
    client.cert_chain_pems[0].write_to_path(made.certfile)
    authority.cert_pem.write_to_path(made.cafile)
    return made
