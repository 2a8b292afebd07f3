"""Several interpreters in one process (PEP 684), each with a GIL and modules of its own."""

from __future__ import annotations

import importlib
import sys
from textwrap import dedent
from typing import Any

import pytest

import csmtplib

from .site import Site
from .test_own_connections import in_threads

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="a GIL for each interpreter came with Python 3.12"
)

# What is in them is checked there, and raised here.
SENDING = """
    import time
    import csmtplib
    assert csmtplib.implementation == {implementation!r}, csmtplib.implementation
    letters = [("a@x.test", "{name}.%d@y.test" % n, b".text\\n" * (1 + n)) for n in range(10)]
    with csmtplib.SMTP(*{address!r}) as smtp:
        for letter in letters:
            assert smtp.sendmail(*letter) == {{}}
        assert all(result.accepted for result in smtp.send_many(letters))

        def waiting():
            # A thread sends meanwhile.
            yield letters[0]
            time.sleep(0.05)
            yield letters[1]

        assert [result.accepted for result in smtp.send_many(waiting())] == [True, True]
"""
IN_BULK = """
    from csmtplib import MailObject, State
    from csmtplib.bulk import BulkSender, Job
    host, port = {address!r}
    with BulkSender(f"smtp://{{host}}:{{port}}", connections=2) as sender:
        letters = (MailObject("a@x.test", "%d@y.test" % n, b"text\\n") for n in range(20))
        jobs = (Job(number, letter) for number, letter in enumerate(letters))
        assert [each.state for each in sender.send(jobs)] == [State.ACCEPTED] * 20
"""


def run(code: str, **values: Any) -> None:
    """Runs it in a new interpreter, which is gone afterwards."""
    values["implementation"] = csmtplib.implementation
    code = dedent(code).format(**values)
    if sys.version_info >= (3, 14):
        interpreters = importlib.import_module("concurrent.interpreters")
        interpreter = interpreters.create()
        try:
            interpreter.exec(code)
        finally:
            interpreter.close()
    elif sys.version_info >= (3, 13):
        low = importlib.import_module("_interpreters")
        number = low.create("isolated", reqrefs=False)
        try:
            failure = low.exec(number, code)
            assert failure is None, failure.formatted
        finally:
            low.destroy(number)
    else:
        low = importlib.import_module("_xxsubinterpreters")
        number = low.create(isolated=True)
        try:
            low.run_string(number, code)
        finally:
            low.destroy(number)


def test_a_failure_is_seen() -> None:
    with pytest.raises((Exception, AssertionError), match="division"):
        run("1 / 0")


@pytest.mark.parametrize("extensions", [(), ("PIPELINING", "CHUNKING")], ids=["none", "all"])
def test_sending_from_several_at_once(extensions: tuple[str, ...]) -> None:
    def work(name: str) -> None:
        for _ in range(3):
            run(SENDING, name=name, address=site.address)

    with Site(*extensions) as site:
        in_threads(work, 4)
        # This one goes on as before.
        with csmtplib.SMTP(*site.address) as smtp:
            assert smtp.sendmail("a@x.test", "b@y.test", b"text") == {}
    assert len(site.deliveries) == 4 * 3 * 22 + 1


def test_in_bulk() -> None:
    with Site("PIPELINING") as site:
        run(IN_BULK, address=site.address)
    assert len(site.deliveries) == 20
