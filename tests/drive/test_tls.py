"""drive/tls.py: sessions are resumed, and never where a full handshake would verify more (T2).

Principle 7: verification is never weaker than what the caller's context says at that moment.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import socket
import ssl
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest
import trustme

import csmtplib
from csmtplib.drive import sock, tls
from csmtplib.protocol.flows import farewell
from csmtplib.protocol.server_url import TLS, Server

from ..faults.server import Peer, Script, ScriptedServer

TIMEOUT = 5.0
HOST = "127.0.0.1"

# PyPy does not show the chain that was verified, so nothing is resumed there.
resuming = pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="needs a Python that shows the verified chain"
)

Connect = Callable[[ScriptedServer, ssl.SSLContext], bool]
"""Connects, closes, and says whether a session was resumed."""


@pytest.fixture(autouse=True)
def sessions(monkeypatch: pytest.MonkeyPatch) -> Any:
    """No session of another test, whose server may have had the same port."""
    kept = type(tls._sessions)()
    monkeypatch.setattr(tls, "_sessions", kept)
    return kept


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    found: ssl.TLSVersion = request.param
    return found


@pytest.fixture
def good(authority: trustme.CA, version: ssl.TLSVersion) -> ssl.SSLContext:
    """Of a server that deserves trust."""
    return server_context(authority.issue_cert(HOST), version)


@pytest.fixture
def elsewhere(authority: trustme.CA, version: ssl.TLSVersion) -> ssl.SSLContext:
    """Of a server with the certificate of another host."""
    return server_context(authority.issue_cert("elsewhere.test"), version)


def server_context(certificate: trustme.LeafCert, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = context.minimum_version = version
    certificate.configure_cert(context)
    return context


@pytest.fixture
def client(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def implicit(context: ssl.SSLContext) -> Script:
    def script(peer: Peer) -> None:
        with contextlib.suppress(OSError):  # a client that refuses the certificate
            peer.start_tls(context)
            peer.greet()

    return script


def by_starttls(context: ssl.SSLContext) -> Script:
    def script(peer: Peer) -> None:
        peer.greet("STARTTLS")
        peer.expect("STARTTLS\r\n")
        peer.say("220 go")
        with contextlib.suppress(OSError):
            peer.start_tls(context)
            peer.answer_hello()

    return script


def resumed(smtp: csmtplib.SMTP) -> bool:
    assert isinstance(smtp.sock, ssl.SSLSocket)
    return bool(smtp.sock.session_reused)


def connect(server: ScriptedServer, context: ssl.SSLContext) -> bool:
    with csmtplib.SMTP_SSL(
        server.host, server.port, "client.test", timeout=TIMEOUT, context=context
    ) as smtp:
        smtp.ehlo()
        return resumed(smtp)


def connect_and_starttls(server: ScriptedServer, context: ssl.SSLContext) -> bool:
    with csmtplib.SMTP(server.host, server.port, "client.test", timeout=TIMEOUT) as smtp:
        smtp.starttls(context=context)
        smtp.ehlo()
        return resumed(smtp)


@pytest.fixture(params=[implicit, by_starttls])
def way(request: pytest.FixtureRequest) -> Way:
    return request.param, connect if request.param is implicit else connect_and_starttls


Way: TypeAlias = "tuple[Callable[[ssl.SSLContext], Script], Connect]"


@resuming
def test_a_verifying_context_resumes(way: Way, good: ssl.SSLContext, client: Any) -> None:
    """The baseline of the other tests: a second handshake costs no round trip more."""
    script, connects = way
    with ScriptedServer(*[script(good)] * 4) as server:
        assert [connects(server, client) for _ in range(4)] == [False, True, True, True]


def test_verification_turned_on_between_two_connections(
    way: Way, elsewhere: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    """T2: the session of an unverified handshake let the second connection pass."""
    script, connects = way
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    with ScriptedServer(*[script(elsewhere)] * 2) as server:
        connects(server, client)
        client.verify_mode = ssl.CERT_REQUIRED
        client.check_hostname = True
        with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
            connects(server, client)


def test_verification_turned_on_while_connected(
    elsewhere: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    """T2: what counts is what the handshake verified, not how the context is when it closes."""
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    with ScriptedServer(*[implicit(elsewhere)] * 2) as server:
        with csmtplib.SMTP_SSL(
            server.host, server.port, "client.test", timeout=TIMEOUT, context=client
        ) as smtp:
            smtp.ehlo()
            client.verify_mode = ssl.CERT_REQUIRED
            client.check_hostname = True
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(server, client)


@resuming
def test_host_name_checked_from_the_second_connection_on(
    way: Way, elsewhere: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    """T2, of check_hostname alone: the chain was verified, the name was not."""
    script, connects = way
    client.check_hostname = False
    with ScriptedServer(*[script(elsewhere)] * 3) as server:
        assert not connects(server, client)
        assert connects(server, client)
        client.check_hostname = True
        with pytest.raises(ssl.SSLCertVerificationError):
            connects(server, client)


def want_longer_keys(context: ssl.SSLContext) -> None:
    context.set_ciphers("DEFAULT:@SECLEVEL=2")


def trust_more(context: ssl.SSLContext) -> None:
    trustme.CA().configure_trust(context)


def set_alpn(context: ssl.SSLContext) -> None:
    context.set_alpn_protocols(["smtp"])


def ignore_common_names(context: ssl.SSLContext) -> None:
    context.hostname_checks_common_name = not context.hostname_checks_common_name


@resuming
@pytest.mark.parametrize(
    "change",
    [want_longer_keys, trust_more, set_alpn, ignore_common_names],
)
def test_a_context_that_was_changed_has_a_full_handshake(
    good: ssl.SSLContext, client: ssl.SSLContext, change: Callable[[ssl.SSLContext], None]
) -> None:
    """T2: whatever was changed, in ways that it tells or not."""
    with ScriptedServer(*[implicit(good)] * 4) as server:
        assert [connect(server, client) for _ in range(2)] == [False, True]
        change(client)
        assert [connect(server, client) for _ in range(2)] == [False, True]


@resuming
def test_a_context_that_was_changed_while_connected(
    good: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    """T2: the session is what the context was at its handshake."""
    with ScriptedServer(*[implicit(good)] * 3) as server:
        with csmtplib.SMTP_SSL(
            server.host, server.port, "client.test", timeout=TIMEOUT, context=client
        ) as smtp:
            smtp.ehlo()
            set_alpn(client)
        assert [connect(server, client) for _ in range(2)] == [False, True]


@resuming
def test_stricter_flags_from_the_third_connection_on(
    good: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    """T2, of verify_flags."""
    client.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT  # Python 3.13 sets it
    with ScriptedServer(*[implicit(good)] * 3) as server:
        assert [connect(server, client) for _ in range(2)] == [False, True]
        client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
        # OpenSSL may refuse what trustme leaves out.
        with contextlib.suppress(ssl.SSLCertVerificationError):
            assert not connect(server, client)


@pytest.mark.parametrize("flag", [ssl.VERIFY_CRL_CHECK_LEAF, ssl.VERIFY_CRL_CHECK_CHAIN])
def test_where_revocation_is_looked_at_nothing_is_resumed(
    good: ssl.SSLContext, client: ssl.SSLContext, flag: ssl.VerifyFlags
) -> None:
    """T2: a certificate that is revoked in the meantime is for a full handshake to see."""
    client.verify_flags |= flag
    with socket.create_server((HOST, 0)) as listener:
        peer = socket.create_connection(listener.getsockname(), TIMEOUT)
        assert tls._place(client, peer, HOST) is None
        client.verify_flags &= ~ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
        assert tls._place(client, peer, HOST) is not None
        peer.close()


def test_a_client_certificate_loaded_in_the_meantime(
    authority: trustme.CA, version: ssl.TLSVersion, client: ssl.SSLContext
) -> None:
    """T2: a resumed session would be that of a client without one, which the server may not let
    relay. A context does not tell which certificates it has."""
    server_side = server_context(authority.issue_cert(HOST), version)
    server_side.verify_mode = ssl.CERT_OPTIONAL
    authority.configure_trust(server_side)
    shown: list[bool] = []

    def script(peer: Peer) -> None:
        implicit(server_side)(peer)
        shown.append(bool(peer._socket.getpeercert()))  # type: ignore[attr-defined]

    with ScriptedServer(*[script] * 3) as server:
        for _ in range(2):
            connect(server, client)
        authority.issue_cert("client@x.test").configure_cert(client)
        connect(server, client)
    assert shown == [False, False, True]


def at(seconds: float) -> SimpleNamespace:
    """The clocks in so many seconds."""
    return SimpleNamespace(
        monotonic=lambda: time.monotonic() + seconds, time=lambda: time.time() + seconds
    )


@resuming
def test_a_certificate_that_has_expired_in_the_meantime(
    authority: trustme.CA, client: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T2: for a session it would be valid for as long as the server takes it."""
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=60)
    short = server_context(authority.issue_cert(HOST, not_after=soon), ssl.TLSVersion.TLSv1_3)
    with ScriptedServer(*[implicit(short)] * 3) as server:
        assert [connect(server, client) for _ in range(2)] == [False, True]
        monkeypatch.setattr(tls, "time", at(61))
        assert not connect(server, client)


@resuming
def test_a_clock_that_was_set_back(
    authority: trustme.CA, client: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T2: the certificate is not valid yet."""
    lately = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=60)
    new = server_context(authority.issue_cert(HOST, not_before=lately), ssl.TLSVersion.TLSv1_3)
    with ScriptedServer(*[implicit(new)] * 3) as server:
        assert [connect(server, client) for _ in range(2)] == [False, True]
        monkeypatch.setattr(tls, "time", at(-120))
        assert not connect(server, client)


@resuming
def test_a_session_is_resumed_for_a_bounded_time(
    good: ssl.SSLContext, client: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, sessions: Any
) -> None:
    """T2: counted from the full handshake, however often it was resumed since."""
    with ScriptedServer(*[implicit(good)] * 5) as server:
        found = []
        for seconds in (0.0, 300.0, 590.0, 610.0, 900.0):
            monkeypatch.setattr(tls, "time", at(seconds))
            found.append(connect(server, client))
    # The last one counts from the fourth.
    assert found == [False, True, True, False, True]
    assert len(sessions) == 1


@resuming
def test_the_number_of_sessions_is_bounded(
    good: ssl.SSLContext, client: ssl.SSLContext, sessions: Any
) -> None:
    """T2: the session of the server that was needed longest ago goes first."""
    client.check_hostname = False
    names = [f"host{number}.test" for number in range(tls._MOST_SESSIONS + 1)]

    def wrapped(server: ScriptedServer, name: str) -> bool:
        plain = socket.create_connection((server.host, server.port), TIMEOUT)
        tls_sock = tls.wrap(client, plain, name)
        assert tls_sock.recv(100)
        found = bool(tls_sock.session_reused)
        tls.remember(tls_sock)
        tls_sock.close()
        return found

    def script(peer: Peer) -> None:
        peer.start_tls(good)
        peer.say("220 mx.test")

    with ScriptedServer(*[script] * (len(names) + 3)) as server:
        assert not any(wrapped(server, name) for name in names[:-1])
        assert len(sessions) == tls._MOST_SESSIONS
        assert wrapped(server, names[0])
        assert not wrapped(server, names[-1])
        assert len(sessions) == tls._MOST_SESSIONS
        assert wrapped(server, names[0])
        assert not wrapped(server, names[1])
        assert len(sessions) == tls._MOST_SESSIONS


def test_contexts_are_not_kept_for_ever(good: ssl.SSLContext, authority: trustme.CA) -> None:
    """T2: a program that makes one for each connection grew by a megabyte each time."""
    made = []
    with ScriptedServer(*[implicit(good)] * (tls._MOST_SESSIONS + 4)) as server:
        for _ in range(tls._MOST_SESSIONS + 4):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            authority.configure_trust(context)
            made.append(weakref.ref(context))
            connect(server, context)
            del context
    gc.collect()
    assert sum(each() is not None for each in made) <= tls._MOST_SESSIONS


def test_a_context_that_keeps_no_session_goes_at_once(good: ssl.SSLContext) -> None:
    """It is not kept by what watches it: a cycle would wait for the garbage collector."""
    context = ssl.create_default_context()
    tls._settings(context)
    context.load_default_certs()
    left = weakref.ref(context)
    gc.disable()
    try:
        del context
        if sys.implementation.name == "cpython":
            assert left() is None
    finally:
        gc.enable()


@resuming
def test_a_session_is_for_one_name(
    good: ssl.SSLContext, client: ssl.SSLContext, authority: trustme.CA
) -> None:
    """T2: another name of the same server is verified by its own handshake."""
    with ScriptedServer(*[implicit(good)] * 3) as server:
        assert [connect(server, client) for _ in range(2)] == [False, True]
        with pytest.raises(ssl.SSLCertVerificationError):
            csmtplib.SMTP_SSL("localhost", server.port, timeout=TIMEOUT, context=client)


@resuming
def test_a_context_that_does_not_ask_for_a_name(
    good: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    """server_hostname None: what was verified then is verified now."""
    client.check_hostname = False

    def once(server: ScriptedServer) -> bool:
        smtp = csmtplib.SMTP(local_hostname="client.test", timeout=TIMEOUT)
        smtp.sock = socket.create_connection((server.host, server.port), TIMEOUT)
        smtp.getreply()
        with smtp:
            smtp.starttls(context=client)
            smtp.ehlo()
            return resumed(smtp)

    with ScriptedServer(*[by_starttls(good)] * 3) as server:
        assert [once(server) for _ in range(2)] == [False, True]
        client.check_hostname = True
        with pytest.raises(ValueError, match="server_hostname"):
            once(server)


@resuming
@pytest.mark.parametrize("resumed_before", [0, 1, 2])
def test_a_server_that_stumbles_over_a_session(
    good: ssl.SSLContext, client: ssl.SSLContext, resumed_before: int
) -> None:
    """It costs one connection, and never another, whether the server does not know its own tickets
    or takes each of them once (RFC 8446 section 8.1)."""

    def hangs_up(peer: Peer) -> None:
        peer.expect_handshake()
        peer.close()

    scripts = [*[implicit(good)] * (1 + resumed_before), hangs_up, *[implicit(good)] * 4]
    with ScriptedServer(*scripts) as server:
        first = [connect(server, client) for _ in range(1 + resumed_before)]
        assert first == [False, *[True] * resumed_before]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            connect(server, client)
        assert [connect(server, client) for _ in range(4)] == [False] * 4


@resuming
def test_a_handshake_that_is_interrupted_says_nothing_about_the_server(
    good: ssl.SSLContext, client: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    shake_hands = ssl.SSLSocket.do_handshake

    def interrupt(sock: ssl.SSLSocket) -> None:
        if sock.server_side:
            return shake_hands(sock)
        sock.close()
        raise KeyboardInterrupt

    with ScriptedServer(*[implicit(good)] * 3) as server:
        assert not connect(server, client)
        with monkeypatch.context() as patch:
            patch.setattr(ssl.SSLSocket, "do_handshake", interrupt)
            with pytest.raises(KeyboardInterrupt):
                connect(server, client)
        assert connect(server, client)


@pytest.mark.parametrize("verified_by", ["ssl.CERT_OPTIONAL", "ssl.CERT_NONE"])
def test_nothing_is_kept_without_verification(
    good: ssl.SSLContext, client: ssl.SSLContext, verified_by: str, sessions: Any
) -> None:
    """T2"""
    client.check_hostname = False
    client.verify_mode = getattr(ssl, verified_by.removeprefix("ssl."))
    with ScriptedServer(*[implicit(good)] * 2) as server:
        assert [connect(server, client) for _ in range(2)] == [False, False]
    assert not sessions


def test_contexts_of_other_makes(client: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that verifies behind the handshake (truststore) is left alone, also where a program has
    put it in the place of the standard library's."""

    class Context(ssl.SSLContext):
        pass

    with socket.create_server((HOST, 0)) as listener:
        peer = socket.create_connection(listener.getsockname(), TIMEOUT)
        assert tls._place(client, peer, HOST) is not None
        made = Context(ssl.PROTOCOL_TLS_CLIENT)
        assert tls._place(made, peer, HOST) is None
        monkeypatch.setattr(ssl, "SSLContext", Context)
        assert tls._place(made, peer, HOST) is None
        peer.close()


# drive/sock.py's connections


@pytest.fixture
def cafile(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def run(server: ScriptedServer, cafile: Path | None, how: TLS, *, verify: bool = True) -> bool:
    described = Server(
        server.host,
        server.port,
        tls=how,
        verify=verify,
        cafile=None if cafile is None else str(cafile),
        timeout=TIMEOUT,
        name="client.test",
    )
    with sock.connect(described) as connection:
        assert isinstance(connection.sock, ssl.SSLSocket)
        found = bool(connection.sock.session_reused)
        connection.run(farewell())
        return found


@resuming
@pytest.mark.parametrize("how", [TLS.IMPLICIT, TLS.REQUIRED], ids=["implicit", "starttls"])
def test_connections_of_one_description_resume(
    how: TLS, good: ssl.SSLContext, cafile: Path
) -> None:
    """Those that name certificate files had a context each, and so a full handshake each."""
    script = implicit if how is TLS.IMPLICIT else by_starttls
    with ScriptedServer(*[script(good)] * 3) as server:
        assert [run(server, cafile, how) for _ in range(3)] == [False, True, True]


def test_a_connection_that_verifies_after_one_that_does_not(
    elsewhere: ssl.SSLContext, cafile: Path
) -> None:
    """T2"""
    with ScriptedServer(*[implicit(elsewhere)] * 3) as server:
        for _ in range(2):
            assert not run(server, cafile, TLS.IMPLICIT, verify=False)
        with pytest.raises(ssl.SSLCertVerificationError):
            run(server, cafile, TLS.IMPLICIT)


def test_a_certificate_file_that_was_changed(good: ssl.SSLContext, cafile: Path) -> None:
    """It is read again: nobody has to start the program anew."""
    with ScriptedServer(*[implicit(good)] * 2) as server:
        assert not run(server, cafile, TLS.IMPLICIT)
        trustme.CA().cert_pem.write_to_path(cafile)
        with pytest.raises(ssl.SSLCertVerificationError):
            run(server, cafile, TLS.IMPLICIT)


def test_a_certificate_file_that_is_not_there(good: ssl.SSLContext, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nope\.pem"):
        sock.tls_context(Server(cafile=str(tmp_path / "nope.pem")))
