"""The servers as fixtures. A session has one of each, started when a test first asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ..requirements import unavailable
from .certificates import Certificates, issue
from .dovecot import Dovecot, running_dovecot
from .exim import Exim, running_exim
from .haraka import Haraka, running_haraka
from .postfix import Postfix, running_postfix
from .process import ServerUnavailable, open_directory
from .smtp_sink import SmtpSink, running_smtp_sink

# So that what its checks compare is shown, as in the tests themselves.
pytest.register_assert_rewrite("tests.servers.letters")


@contextmanager
def unavailable_means_skip() -> Iterator[None]:
    """Skip the test where its server cannot run here; in CI, where it has to, fail it."""
    try:
        yield
    except ServerUnavailable as reason:
        unavailable(str(reason))


@pytest.fixture(scope="session")
def certificates() -> Iterator[Certificates]:
    """Certificates of the test servers."""
    with open_directory("certificates") as directory:
        yield issue(directory)


@pytest.fixture(scope="session")
def dovecot(certificates: Certificates) -> Iterator[Dovecot]:
    """LMTP without and with TLS, and the login of `postfix_submission`."""
    with unavailable_means_skip(), running_dovecot(certificates) as server:
        yield server


@pytest.fixture(scope="session")
def postfix_submission(certificates: Certificates, dovecot: Dovecot) -> Iterator[Postfix]:
    """SMTP for clients that logged in over STARTTLS as `dovecot.user`."""
    with (
        unavailable_means_skip(),
        running_postfix(certificates, sasl_socket=dovecot.sasl_socket) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def postfix_exchanger(certificates: Certificates) -> Iterator[Postfix]:
    """SMTP for everyone, without and with STARTTLS."""
    with unavailable_means_skip(), running_postfix(certificates) as server:
        yield server


@pytest.fixture(scope="session")
def smtp_sink() -> Iterator[SmtpSink]:
    """SMTP for everyone, and the mail thrown away."""
    with unavailable_means_skip(), running_smtp_sink() as server:
        yield server


@pytest.fixture(scope="session")
def exim() -> Iterator[Exim]:
    """SMTP for everyone."""
    with unavailable_means_skip(), running_exim() as server:
        yield server


@pytest.fixture(scope="session")
def exim_without_pipelining() -> Iterator[Exim]:
    """SMTP for those who wait for each reply; others are thrown out."""
    with unavailable_means_skip(), running_exim(pipelining=False) as server:
        yield server


@pytest.fixture(scope="session")
def haraka() -> Iterator[Haraka]:
    """SMTP for everyone."""
    with unavailable_means_skip(), running_haraka() as server:
        yield server
