"""bulk/task.py: the recipients of a job that are left, and what is sent for them."""

from __future__ import annotations

from typing import Any

import pytest

from csmtplib.bulk.task import Task, recipients_of
from csmtplib.protocol.mail_object import MailObject

NAMES = ("b@y.test", "c@y.test", "d@z.test")


def task(to_addrs: Any = NAMES) -> Task:
    mail = MailObject("a@x.test", to_addrs, b"x", mail_options=("RET=HDRS",))
    return Task("key", mail, recipients_of(mail), 1000.0)


@pytest.mark.parametrize(
    ("to_addrs", "found"),
    [
        ("b@y.test", ["b@y.test"]),
        (["b@y.test"], ["b@y.test"]),
        (NAMES, list(NAMES)),
        (["b@y.test", "c@y.test", "b@y.test"], ["b@y.test", "c@y.test"]),
        (["b@y.test", "b@y.test"], ["b@y.test"]),
        # The local part is the server's to compare (RFC 5321 section 2.4).
        (["b@y.test", "B@y.test"], ["b@y.test", "B@y.test"]),
        (iter(NAMES), list(NAMES)),
    ],
)
def test_the_recipients_of_an_envelope(to_addrs: Any, found: list[str]) -> None:
    assert recipients_of(MailObject("a@x.test", to_addrs, b"x")) == found


@pytest.mark.parametrize("to_addrs", [[], (), iter(())])
def test_no_recipient(to_addrs: Any) -> None:
    with pytest.raises(ValueError, match="no recipient"):
        recipients_of(MailObject("a@x.test", to_addrs, b"x"))


def test_a_new_task() -> None:
    new = task()
    assert (new.key, new.recipients, new.ids) == ("key", list(NAMES), None)
    assert (new.attempts, new.first, new.cut_offs) == (1, 1000.0, 0)


@pytest.mark.parametrize("to_addrs", ["b@y.test", ["b@y.test"]])
def test_a_single_recipient_is_sent_what_the_caller_made(to_addrs: Any) -> None:
    one = task(to_addrs)
    assert one.to_send() is one.mail


@pytest.mark.parametrize("to_addrs", [NAMES, ["b@y.test"] * 2, ("b@y.test",), iter(["b@y.test"])])
def test_what_is_sent_has_each_recipient_once(to_addrs: Any) -> None:
    one = task(to_addrs)
    sent = one.to_send()
    assert list(sent.to_addrs) == one.recipients
    assert sent._replace(to_addrs=()) == one.mail._replace(to_addrs=())


def test_a_domain_in_two_cases_is_one_recipient() -> None:
    """T12: a domain in another case is no other mailbox; a local part may be."""
    one = task(["b@y.test", "c@y.test", "b@Y.Test", "B@y.test"])
    assert one.recipients == ["b@y.test", "c@y.test", "B@y.test"]


def test_a_part() -> None:
    whole = task()
    whole.attempts, whole.cut_offs = 3, 2
    part = whole.part([2, 0])
    assert part.recipients == ["d@z.test", "b@y.test"]
    assert (part.key, part.mail, part.ids) == ("key", whole.mail, None)
    assert (part.attempts, part.first, part.cut_offs) == (3, 1000.0, 2)
    assert part.to_send().to_addrs == ["d@z.test", "b@y.test"]
    assert whole.recipients == list(NAMES)


def test_a_part_of_what_is_in_the_journal() -> None:
    whole = task()
    whole.ids = [11, 12, 13]
    part = whole.part([2, 1])
    assert part.ids == [13, 12]
    assert part.part([1]).ids == [12]
