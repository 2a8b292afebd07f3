"""The ways in which programs commonly send mail, as typed against the standard library."""

import logging
import smtplib
import ssl
from email.message import EmailMessage
from types import TracebackType


class Mailer:
    """Keeps a connection, and opens another where it was lost."""

    connection: smtplib.SMTP | None
    factory: type[smtplib.SMTP] = smtplib.SMTP

    def __init__(self, host: str, port: int = smtplib.SMTP_PORT, timeout: float = 10.0) -> None:
        self.host = host
        self.port = port
        self.timeout = timeout
        self.connection = None

    def __enter__(self) -> smtplib.SMTP:
        self.connection = self.factory(self.host, self.port, timeout=self.timeout)
        self.connection.set_debuglevel(0)
        code, text = self.connection.ehlo()
        logging.debug("%d %s", code + 0, text.decode())
        if self.connection.has_extn("starttls"):
            self.connection.starttls(context=ssl.create_default_context())
        self.connection.login("me", "secret", initial_response_ok=False)
        return self.connection

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.connection is not None:
            try:
                self.connection.quit()
            except smtplib.SMTPServerDisconnected:
                self.connection.close()


def send(message: EmailMessage, recipients: list[str]) -> dict[str, tuple[int, bytes]]:
    with Mailer("mail.example.org") as smtp:
        try:
            refused = smtp.send_message(message, "me@example.org", recipients)
        except smtplib.SMTPRecipientsRefused as error:
            return {who: (code, text) for who, (code, text) in error.recipients.items()}
        except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            raise RuntimeError(error.smtp_code, error.smtp_error) from error
        except smtplib.SMTPException:
            raise
        return refused


def by_hand(smtp: smtplib.SMTP) -> int:
    """The low-level dialogue."""
    smtp.ehlo_or_helo_if_needed()
    smtp.docmd("XCLIENT", "NAME=x")
    smtp.putcmd("NOOP")
    code, text = smtp.getreply()
    for code, text in (
        smtp.mail("me@example.org", ["SIZE=100", "BODY=8BITMIME"]),
        smtp.rcpt("you@example.org", ("NOTIFY=NEVER",)),
        smtp.data(b"Subject: x\r\n\r\n"),
        smtp.rset(),
        smtp.verify("you"),
        smtp.vrfy("you"),
        smtp.expn("all"),
        smtp.helo("here"),
    ):
        if code != 250:
            raise smtplib.SMTPResponseException(code, text)
    size: str = smtp.esmtp_features.get("size", "0")
    helped: bytes = smtp.help()
    return int(size) + len(helped)


class Logged(smtplib.SMTP):
    """A subclass as programs have them."""

    def putcmd(self, cmd: str, args: str = "") -> None:
        logging.info("%s %s", cmd, args)
        super().putcmd(cmd, args)


def over_tls() -> None:
    with smtplib.SMTP_SSL("mail.example.org", context=ssl.create_default_context()) as smtp:
        smtp.sendmail("me@example.org", "you@example.org", "Subject: x\r\n\r\n", mail_options=["x"])
    with smtplib.LMTP("/run/lmtp") as lmtp:
        lmtp.sendmail("me@example.org", ["you@example.org"], b"", rcpt_options=["x"])
    print(smtplib.quoteaddr("me"), smtplib.quotedata("."), smtplib.CRLF, smtplib.bCRLF)
    Mailer.factory = smtplib.SMTP_SSL
