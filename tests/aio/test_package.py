"""The package csmtplib.aio: its names, its exceptions, and how it takes aiosmtplib's place."""

from __future__ import annotations

import asyncio
import pickle
import smtplib
import subprocess
import sys

import aiosmtplib
import pytest

from csmtplib import aio


def test_it_has_the_names_of_aiosmtplib() -> None:
    assert set(aiosmtplib.__all__) <= set(aio.__all__)
    for name in aio.__all__:
        getattr(aio, name)
    assert [each.name for each in aio.SMTPStatus] == [each.name for each in aiosmtplib.SMTPStatus]
    assert [int(each) for each in aio.SMTPStatus] == [int(each) for each in aiosmtplib.SMTPStatus]


def test_it_imports_little_that_is_slow() -> None:
    code = "import csmtplib.aio, sys; print('sqlite3' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_install() -> None:
    code = (
        "import csmtplib.aio; csmtplib.aio.install();"
        "import aiosmtplib, csmtplib.aio.errors;"
        "from aiosmtplib.api import DEFAULT_TIMEOUT, send;"
        "from aiosmtplib.errors import SMTPException;"
        "from aiosmtplib.response import SMTPResponse;"
        "from aiosmtplib.smtp import SMTP;"
        "from aiosmtplib.status import SMTPStatus;"
        "from aiosmtplib.typing import SMTPTokenGenerator;"
        "print(aiosmtplib.SMTP is SMTP is csmtplib.aio.SMTP)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "True\n"


ERRORS = [name for name in aio.__all__ if name.startswith("SMTP") and name[4:5].isupper()]
ERRORS = [name for name in ERRORS if isinstance(getattr(aio, name), type)]
ERRORS = [name for name in ERRORS if issubclass(getattr(aio, name), Exception)]


@pytest.mark.parametrize("name", ERRORS)
def test_an_exception_is_what_both_libraries_have(name: str) -> None:
    ours, theirs = getattr(aio, name), getattr(aiosmtplib, name)
    assert issubclass(ours, smtplib.SMTPException)
    for base in (ConnectionError, asyncio.TimeoutError):
        assert issubclass(ours, base) == issubclass(theirs, base)
    for other in ERRORS:
        if issubclass(theirs, getattr(aiosmtplib, other)):
            assert issubclass(ours, getattr(aio, other))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (aio.SMTPServerDisconnected("gone"), smtplib.SMTPServerDisconnected),
        (aio.SMTPReadTimeoutError("late"), smtplib.SMTPServerDisconnected),
        (aio.SMTPConnectError("refused"), smtplib.SMTPConnectError),
        (aio.SMTPConnectResponseError(554, "no"), smtplib.SMTPConnectError),
        (aio.SMTPHeloError(501, "no"), smtplib.SMTPHeloError),
        (aio.SMTPDataError(554, "no"), smtplib.SMTPDataError),
        (aio.SMTPAuthenticationError(535, "no"), smtplib.SMTPAuthenticationError),
        (aio.SMTPSenderRefused(550, "no", "a@x.test"), smtplib.SMTPSenderRefused),
        (aio.SMTPRecipientsRefused([]), smtplib.SMTPRecipientsRefused),
        (aio.SMTPNotSupported("no"), smtplib.SMTPNotSupportedError),
    ],
    ids=lambda each: each.__name__ if isinstance(each, type) else type(each).__name__,
)
def test_an_exception_is_caught_as_smtplib_has_it(ours: Exception, theirs: type[Exception]) -> None:
    assert isinstance(ours, theirs)
    if isinstance(ours, aio.SMTPResponseException):
        assert (ours.smtp_code, ours.smtp_error) == (ours.code, b"no")
    assert str(pickle.loads(pickle.dumps(ours))) == str(ours)


def test_bytes_of_a_reply_that_are_not_utf_8_are_kept() -> None:
    error = aio.SMTPDataError(554, b"\xe9t\xe9".decode("utf-8", "surrogateescape"))
    assert error.smtp_error == b"\xe9t\xe9"


def test_an_exception_without_a_message_has_no_result() -> None:
    assert aio.result_of(None) is None
    assert aio.result_of(ValueError()) is None
    assert aio.results_of(asyncio.CancelledError()) == []


def test_a_result_is_found_through_the_exceptions_that_were_raised_from_it() -> None:
    first = asyncio.CancelledError()
    first.csmtplib_result = result = object()  # type: ignore[attr-defined]
    second = asyncio.CancelledError()  # as Python 3.10 raises it for a task
    second.__context__ = first
    third = TimeoutError()
    third.__cause__ = second
    fourth = LookupError()
    fourth.__cause__ = third
    first.__cause__ = fourth  # a circle is no trap
    for each in (first, second, third, fourth):
        assert aio.result_of(each) is result


@pytest.mark.parametrize("kind", [aio.SMTPServerDisconnected, asyncio.CancelledError])
def test_the_result_of_a_message_is_not_that_of_the_one_before(kind: type[BaseException]) -> None:
    before = aio.SMTPServerDisconnected("gone")
    before.csmtplib_result = object()  # type: ignore[assignment]
    error = kind("the next message was not begun")
    error.__context__ = before  # as where it is raised while the other one is handled
    assert aio.result_of(error) is None


def test_an_event_loop_in_the_way_of_a_synchronous_call() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"await sendmail\(\) instead"):
            aio.SMTP().sendmail_sync("a@x.test", "b@x.test", "")
        with pytest.raises(RuntimeError, match=r"await send_message\(\) instead"):
            aio.SMTP().send_message_sync(None)

    asyncio.run(main())
