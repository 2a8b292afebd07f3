"""A template that is rendered for each recipient and sent: by csmtplib's Campaign and BulkSender,
or by Jinja2, EmailMessage and smtplib, over a connection in each of several threads.
"""

from __future__ import annotations

import smtplib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timezone
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from pathlib import Path
from tempfile import TemporaryDirectory

import jinja2

from csmtplib.compose.campaign import Campaign
from csmtplib.compose.letter import Letter
from csmtplib.compose.rows import Row
from tests.servers.maildir import DOMAIN, user
from tests.servers.postfix import MAILBOXES

from ..messages import LINE, SENDER
from . import bulk, drop_in
from .worker import Job, job, measure, report

DATE = datetime(2026, 11, 23, 9, tzinfo=timezone.utc)
AUTHOR = f"The Lending Library <{SENDER}>"
TO = "{{ name }} <{{ email }}>"
SUBJECT = "{{ name.split()[0] }}, what is new in {{ city }} this month"

OPENING = """\
Dear {{ name }},

three new shelves are open in {{ city }}: travel, music, and science.
{% if plan == "free" -%}
Your card is free. With a full card you may take ten books home at once.
{%- else -%}
Your card is a full one: take ten books home at once.
{%- endif %}

"""
CLOSING = """
Bring this number when you come: {{ token }}.

No more letters: https://library.example/unsubscribe/{{ token }}
"""

# One in four is not ASCII, and so what is sent to him is encoded.
PEOPLE = (("Ann Lee", "York"), ("Bob Stone", "Leeds"), ("Jörg Meyer", "Köln"), ("Ada King", "Bath"))


def text(size: int) -> str:
    """Return the template of a text of about `size` bytes."""
    line = LINE.decode("ascii").replace("\r\n", "\n")
    return OPENING + line * max(1, (size - len(OPENING + CLOSING)) // len(line)) + CLOSING


def rows(count: int) -> list[Row]:
    """Return so many recipients."""
    made = []
    for number in range(count):
        name, city = PEOPLE[number % len(PEOPLE)]
        fields: dict[str, object] = {
            "email": f"{user(number % MAILBOXES)}@{DOMAIN}",
            "name": name,
            "city": city,
            "plan": "free" if number % 3 else "full",
            "token": f"{number * 2654435761 % 2**32:08x}",
        }
        made.append(Row(number, str(fields["email"]), fields))
    return made


def campaign(size: int) -> Campaign:
    """Return the letter to all, compiled."""
    with TemporaryDirectory() as directory:
        template = Path(directory) / "letter.txt"
        header = f"From: {AUTHOR}\nTo: {TO}\nSubject: {SUBJECT}\n"
        template.write_text(f"{header}\n{text(size)}", "utf-8")
        letter = Letter(template)
    return Campaign(letter=letter, sender=SENDER, id="benchmark", date=DATE)


class Classical:
    """The same letter without csmtplib, compiled as well."""

    def __init__(self, size: int) -> None:
        environment = jinja2.Environment(keep_trailing_newline=True)
        self._to = environment.from_string(TO)
        self._subject = environment.from_string(SUBJECT)
        self._text = environment.from_string(text(size))
        self._date = format_datetime(DATE)

    def message(self, row: Row) -> EmailMessage:
        """Return the message for a row."""
        message = EmailMessage(SMTP)
        message["From"] = AUTHOR
        message["To"] = self._to.render(row.fields)
        message["Subject"] = self._subject.render(row.fields)
        message["Date"] = self._date
        message["Message-ID"] = make_msgid(domain=DOMAIN)
        message.set_content(self._text.render(row.fields))
        return message

    def send(self, smtp: smtplib.SMTP, recipients: Sequence[Row]) -> int:
        """Send the letter to some recipients; return how many messages were accepted."""
        return sum(not smtp.send_message(self.message(row)) for row in recipients)


def send_classically(order: Job) -> dict[str, float]:
    """Have smtplib do the job."""
    letter, recipients, count = Classical(order.size), rows(order.count), order.connections
    with ExitStack() as stack:
        connections = [stack.enter_context(drop_in.connected(order)) for _ in range(count)]
        executor = stack.enter_context(ThreadPoolExecutor(count))
        shares = [recipients[number::count] for number in range(count)]
        return measure(lambda: sum(executor.map(letter.send, connections, shares)))


def send_campaign(order: Job) -> dict[str, float]:
    """Have csmtplib do the job."""
    letter, recipients = campaign(order.size), rows(order.count)
    with bulk.connected(order) as sender:
        jobs = (letter.job("recipients", row) for row in recipients)
        return measure(lambda: bulk.send(sender, order.method, jobs))


def main() -> None:
    order = job()
    report((send_classically if order.module == "smtplib" else send_campaign)(order))


if __name__ == "__main__":
    main()
