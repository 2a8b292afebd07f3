"""A look at the first messages, as their readers will see them; nothing is sent."""

from __future__ import annotations

import email.policy
import itertools
from collections.abc import Iterable
from email.message import EmailMessage
from email.parser import BytesParser

from ..bulk.delivery import Job
from ..protocol.mail_object import MailObject, buffers_of
from .conventions import Exit, visible
from .display import Display
from .jobs import Fault, Item

FIRST = 3

_RULE = 72


def show(items: Iterable[Item], count: int, display: Display) -> Exit:
    """Prints so many messages, and says what is wrong with the others among them; the exit code."""
    faults = 0
    for item in itertools.islice(items, count):
        if isinstance(item, Fault):
            faults += 1
            display.say(f"{item.where}: {item.reason}")
        else:
            _show(item)
    return Exit.DATAERR if faults else Exit.OK


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
    octets = buffers if isinstance(buffers, bytes) else b"".join(buffers)
    message = BytesParser(EmailMessage, policy=email.policy.default).parsebytes(octets)
    assert isinstance(message, EmailMessage)
    return message


def _text(part: EmailMessage) -> str:
    if part.get_content_maintype() == "text":
        try:
            return str(part.get_content())
        except (LookupError, ValueError):
            # A charset that nobody knows.
            pass
    octets = part.get_payload(decode=True)
    return f"({len(octets) if isinstance(octets, bytes) else 0} octets)"
