"""Before anything is sent: check all messages, or print the first ones."""

from __future__ import annotations

import email.policy
import itertools
from collections import Counter
from collections.abc import Iterable
from email.message import EmailMessage
from email.parser import BytesParser

from ..bulk.delivery import Job
from ..protocol.mail_object import MailObject, buffers_of
from .conventions import Exit, Failure, visible
from .display import Display
from .jobs import Fault, Item, Messages
from .streams import writing_stdout

FIRST = 3

_RULE = 72

# How many faults are reported one by one.
_MAX_REPORTED = 20


def show_first(items: Iterable[Item], count: int, display: Display) -> Exit:
    """Print the first `count` messages as their readers will see them, and the reasons why others
    among them can't be sent. Return the exit code."""
    faults = 0
    for item in itertools.islice(items, count):
        if isinstance(item, Fault):
            faults += 1
            display.say(f"{item.where}: {item.reason}")
        else:
            with writing_stdout():
                _show(item)
    return Exit.DATAERR if faults else Exit.OK


def check_all(items: Messages, display: Display) -> int:
    """Make all messages, and return the number of their recipients.

    If some can't be made, report the first of them, and raise Failure.
    """
    recipients = 0
    # One place for each reason: the first.
    first: dict[str, str] = {}
    alike: Counter[str] = Counter()
    only_unreadable, is_cut_short, count = True, False, 0
    for item in display.checking(items, items.count):
        if isinstance(item, Fault):
            count += 1
            only_unreadable = only_unreadable and item.unreadable
            is_cut_short = is_cut_short or item.ends_table
            if item.reason in first or len(first) < _MAX_REPORTED:
                first.setdefault(item.reason, item.where)
                alike[item.reason] += 1
        else:
            to_addrs = item.mail.to_addrs
            recipients += 1 if isinstance(to_addrs, str) else len(to_addrs)
    if not count:
        return recipients
    for reason, where in first.items():
        others = f" (and {alike[reason] - 1} more like this)" if alike[reason] > 1 else ""
        display.say(f"{where}: {reason}{others}")
    faulty = "1 message is faulty" if count == 1 else f"{count} messages are faulty"
    hint = "" if is_cut_short else "; --errors aside skips faulty ones"
    code = Exit.NOINPUT if only_unreadable else Exit.DATAERR
    raise Failure(code, f"nothing was sent: {faulty}{hint}")


def _show(job: Job) -> None:
    mail = job.mail
    recipients = [mail.to_addrs] if isinstance(mail.to_addrs, str) else mail.to_addrs
    print(visible(f"{job.key}  from <{mail.from_addr}> to <{'>, <'.join(recipients)}>"))
    print("-" * _RULE)
    message = _parsed(mail)
    for name, value in message.items():
        print(visible(f"{name}: {value}"))
    for part in message.walk():
        if part.is_multipart():
            continue
        print(visible(f"-- {part.get_content_type()} ").ljust(_RULE, "-"))
        for line in _text(part).splitlines():
            print(visible(line.expandtabs()))
    print("=" * _RULE)


def _parsed(mail: MailObject) -> EmailMessage:
    buffers = buffers_of(mail.msg, utf8=True)
    data = buffers if isinstance(buffers, bytes) else b"".join(buffers)
    message = BytesParser(EmailMessage, policy=email.policy.default).parsebytes(data)
    assert isinstance(message, EmailMessage)
    return message


def _text(part: EmailMessage) -> str:
    if part.get_content_maintype() == "text":
        try:
            return str(part.get_content())
        except (LookupError, ValueError):
            # An unknown charset.
            pass
    data = part.get_payload(decode=True)
    return f"({len(data) if isinstance(data, bytes) else 0} bytes)"
