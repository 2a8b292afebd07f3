"""One session with a mail server, and all that a program can see of it.

    python session.py MODULE KIND DEBUGLEVEL HOST PORT

MODULE is the client's: "smtplib" or "csmtplib". KIND is "smtp", "smtps" or "lmtp". Prints a JSON
object: "results" of the calls, "events" for audit hooks, and "debug", what DEBUGLEVEL prints.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import ssl
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

ACCEPTED = "accepted@x.test"
REFUSED = "refused@x.test"
SENDER = "sender@x.test"
LINES = "Subject: lines\n\n.\n..dots\nbare\rreturn\r\nend"

ATTRIBUTES = [
    "default_port",
    "does_esmtp",
    "ehlo_msg",
    "ehlo_resp",
    "esmtp_features",
    "file",
    "helo_resp",
    "local_hostname",
    "sock",
    "source_address",
    "_host",
]


def message(recipient: str) -> EmailMessage:
    made = EmailMessage()
    made["From"] = SENDER
    made["To"] = recipient
    made["Bcc"] = REFUSED
    made["Subject"] = "Session"
    # 8-bit text is the one thing that csmtplib announces and the stdlib does not.
    made.set_content("Grüße\n" * 3, cte="quoted-printable")
    return made


def trusting_anybody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def smtp(module: Any, host: str, port: int) -> Iterator[object]:
    client = module.SMTP(host, port, "client.test")
    yield client.ehlo()
    yield client.starttls(context=trusting_anybody())
    yield client.login("user", "password")
    yield client.user, client.password, client._auth_challenge_count
    yield attributes(client)
    yield client.noop()
    yield client.help()
    yield client.verify(f"<{ACCEPTED}>")
    yield client.expn("list")
    yield client.docmd("unknown", "command")
    yield client.sendmail(SENDER, ACCEPTED, LINES)
    yield client.sendmail(SENDER, [ACCEPTED, REFUSED], LINES.encode(), ["body=8bitmime"])
    try:
        yield client.sendmail(SENDER, REFUSED, LINES)
    except module.SMTPRecipientsRefused as error:
        yield error
    # Headers are of subclasses of str, and programs pass them on as addresses.
    headers = message(ACCEPTED)
    yield client.sendmail(headers["From"], [headers["To"]], headers["Subject"])
    yield client.verify(headers["To"])
    yield client.send_message(message(ACCEPTED))
    yield client.send_message(message("grüße@x.test"))
    yield client.mail(SENDER)
    yield client.rset()
    yield client.helo()
    yield client.quit()
    yield attributes(client)
    with client:
        yield client.connect(f"{host}:{port}")
    try:
        yield client.noop()
    except module.SMTPServerDisconnected as error:
        yield error


def smtps(module: Any, host: str, port: int) -> Iterator[object]:
    client = module.SMTP_SSL(host, port, "client.test", context=trusting_anybody())
    yield client.sendmail(SENDER, [ACCEPTED, REFUSED], LINES)
    yield client.quit()
    yield attributes(client)


def lmtp(module: Any, host: str, port: int) -> Iterator[object]:
    client = module.LMTP(host, port, "client.test")
    # One recipient: the stdlib reads one reply however many there are.
    yield client.sendmail(SENDER, ACCEPTED, LINES)
    yield client.quit()
    yield attributes(client)


def attributes(client: Any) -> dict[str, object]:
    # What holds an address of memory says nothing but that it is there.
    shown = {name: getattr(client, name) for name in ATTRIBUTES}
    return {**shown, "sock": bool(shown["sock"]), "file": bool(shown["file"])}


def main(module_name: str, kind: str, debuglevel: str, host: str, port: str) -> None:
    module: Any = importlib.import_module(module_name)
    # On the class, as it is the constructor that connects.
    module.SMTP.debuglevel = int(debuglevel)
    session = {"smtp": smtp, "smtps": smtps, "lmtp": lmtp}[kind]
    events: list[tuple[str, ...]] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith("smtplib."):
            client, *rest = arguments
            events.append((event, type(client).__name__, *map(repr, rest)))

    sys.addaudithook(note)
    with contextlib.redirect_stderr(io.StringIO()) as debug:
        results = list(map(repr, session(module, host, int(port))))
    json.dump({"results": results, "events": events, "debug": debug.getvalue()}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
