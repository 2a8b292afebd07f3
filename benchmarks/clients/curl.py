"""pycurl: one handle, which keeps its connection."""

from __future__ import annotations

import io
from typing import Any

import pycurl

from ..messages import Message, messages
from .worker import HOST, job, measure, report


def send(curl: Any, prepared: list[Message]) -> int:
    """Send the messages; return how many were accepted. One that is refused raises."""
    for sender, recipients, content in prepared:
        curl.setopt(pycurl.MAIL_FROM, sender)
        curl.setopt(pycurl.MAIL_RCPT, recipients)
        curl.setopt(pycurl.READDATA, io.BytesIO(content))
        curl.setopt(pycurl.INFILESIZE, len(content))
        curl.perform()
    return len(prepared)


def main() -> None:
    order = job()
    prepared = list(messages(order.count, order.size))
    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, f"smtp://{HOST}:{order.port}/client.example")
    curl.setopt(pycurl.UPLOAD, 1)
    # It connects to send and not before, so a first message opens the connection.
    send(curl, prepared[:1])
    measured = measure(lambda: send(curl, prepared))
    curl.close()
    report(measured)


if __name__ == "__main__":
    main()
