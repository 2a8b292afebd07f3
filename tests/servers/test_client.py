"""The drop-in classes and real servers."""

from __future__ import annotations

from email.message import EmailMessage

import pytest

import csmtplib

from .certificates import Certificates
from .corpus import delivered, messages
from .dovecot import Dovecot
from .postfix import Postfix
from .smtp_sink import SmtpSink


def on_the_wire(message: bytes) -> bytes:
    """A message as it has to be handed to sendmail(), which leaves bytes as they are."""
    return delivered(message).replace(b"\n", b"\r\n")


def test_sendmail_into_postfix(postfix_exchanger: Postfix) -> None:
    box = postfix_exchanger.mailboxes.new()
    sent = list(messages(50, box.address))
    with csmtplib.SMTP("127.0.0.1", postfix_exchanger.port) as smtp:
        for message in sent:
            refused = smtp.sendmail("sender@example.test", box.address, on_the_wire(message))
            assert refused == {}
        assert smtp.has_extn("pipelining")
        assert smtp.noop()[0] == 250
        assert smtp.verify(box.address)[0] in (250, 252)
    assert box.arrived(len(sent)) == sorted(map(delivered, sent))


def test_some_recipients_refused(postfix_exchanger: Postfix) -> None:
    box = postfix_exchanger.mailboxes.new()
    nobody = "nobody@example.test"
    with csmtplib.SMTP("127.0.0.1", postfix_exchanger.port) as smtp:
        refused = smtp.sendmail("sender@example.test", [nobody, box.address], "Subject: a\n\nb\n")
        assert list(refused) == [nobody]
        assert refused[nobody][0] == 550
        with pytest.raises(csmtplib.SMTPRecipientsRefused) as raised:
            smtp.sendmail("sender@example.test", [nobody], "Subject: a\n\nb\n")
        assert raised.value.recipients[nobody][0] == 550
        # Refusals leave the session as it was.
        assert smtp.sendmail("sender@example.test", box.address, "Subject: c\n\nd\n") == {}
    assert box.arrived(2) == [b"Subject: a\n\nb\n", b"Subject: c\n\nd\n"]


@pytest.mark.parametrize("mechanism", ["CRAM-MD5", "PLAIN", "LOGIN", None])
def test_login_over_starttls(
    postfix_submission: Postfix, dovecot: Dovecot, certificates: Certificates, mechanism: str | None
) -> None:
    box = postfix_submission.mailboxes.new()
    with csmtplib.SMTP("localhost", postfix_submission.port) as smtp:
        assert smtp.starttls(context=certificates.client_context())[0] == 220
        smtp.ehlo()
        if mechanism is not None:
            smtp.esmtp_features["auth"] = mechanism
        assert smtp.login(dovecot.user, dovecot.password)[0] == 235
        assert smtp.sendmail("sender@example.test", box.address, "Subject: a\n\nb\n") == {}
    assert box.arrived(1) == [b"Subject: a\n\nb\n"]


def test_wrong_password(
    postfix_submission: Postfix, dovecot: Dovecot, certificates: Certificates
) -> None:
    with csmtplib.SMTP("localhost", postfix_submission.port) as smtp:
        smtp.starttls(context=certificates.client_context())
        with pytest.raises(csmtplib.SMTPAuthenticationError) as raised:
            smtp.login(dovecot.user, "wrong")
        assert raised.value.smtp_code == 535


def test_send_message_with_a_utf8_sender(postfix_exchanger: Postfix) -> None:
    box = postfix_exchanger.mailboxes.new()
    message = EmailMessage()
    message["From"] = "jörg@example.test"
    message["To"] = box.address
    message["Bcc"] = box.address
    message["Subject"] = "Grüße"
    message.set_content("Grüße\nFrom here\n", cte="8bit")
    with csmtplib.SMTP("127.0.0.1", postfix_exchanger.port) as smtp:
        assert smtp.send_message(message) == {}
    (arrived,) = box.arrived(1)
    assert "From: jörg@example.test\n".encode() in arrived
    assert "\n\nGrüße\nFrom here\n".encode() in arrived
    assert b"Bcc" not in arrived


@pytest.mark.parametrize("over", ["socket", "port", "port with STARTTLS"])
def test_lmtp_answers_for_each_recipient(
    dovecot: Dovecot, certificates: Certificates, over: str
) -> None:
    boxes = [dovecot.mailboxes.new(), dovecot.mailboxes.new()]
    everybody = [boxes[0].address, "nobody@elsewhere.test", boxes[1].address]
    where = str(dovecot.lmtp_socket) if over == "socket" else "localhost"
    with csmtplib.LMTP(where, dovecot.lmtp_port) as lmtp:
        if "STARTTLS" in over:
            lmtp.starttls(context=certificates.client_context())
        for number in range(3):
            refused = lmtp.sendmail("sender@example.test", everybody, f"Subject: {number}\n\n.\n")
            assert list(refused) == ["nobody@elsewhere.test"]
            assert list(lmtp.recipient_replies) == [each.address for each in boxes]
            assert all(code == 250 for code, _ in lmtp.recipient_replies.values())
    for box in boxes:
        assert box.arrived(3) == [b"Subject: %d\n\n.\n" % number for number in range(3)]


def test_many_recipients(smtp_sink: SmtpSink) -> None:
    with csmtplib.SMTP("127.0.0.1", smtp_sink.port) as smtp:
        recipients = [f"reader{number}@example.test" for number in range(5000)]
        assert smtp.sendmail("sender@example.test", recipients, b"Subject: a\r\n\r\nb\r\n") == {}
