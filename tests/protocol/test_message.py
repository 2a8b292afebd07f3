"""protocol/message.py: email messages as envelope and bytes."""

from __future__ import annotations

import email
import email.policy
import re
import smtplib
from collections.abc import Callable, Sequence
from email.headerregistry import Address
from email.message import EmailMessage, Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any, TypeAlias

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from csmtplib.protocol.message import envelope_addresses, flatten, needs_smtputf8, quotedata

AnyMessage: TypeAlias = "Message[Any, Any]"

# What flatten() raises for header injection: HeaderWriteError where the email package has it, and
# what that package finds by itself.
HEADER_ERRORS: tuple[type[Exception], ...] = (
    getattr(email.errors, "HeaderWriteError", ValueError),
    email.errors.HeaderParseError,
)


class StdlibSMTP(smtplib.SMTP):
    """The stdlib's send_message(), as far as it decides what is sent to whom."""

    sent: tuple[str, list[str], bytes]

    def ehlo_or_helo_if_needed(self) -> None:
        self.esmtp_features = {"smtputf8": ""}

    def sendmail(
        self, from_addr: str, to_addrs: Any, msg: Any, *options: Sequence[str]
    ) -> dict[str, tuple[int, bytes]]:
        self.sent = (from_addr, list(to_addrs), msg)
        return {}


def sent_by_the_stdlib(message: AnyMessage) -> tuple[str, list[str], bytes]:
    """Sender, recipients and bytes."""
    smtp = StdlibSMTP(local_hostname="client.test")
    smtp.send_message(message)
    return smtp.sent


def message_with(
    headers: dict[str, str], message_class: Callable[[], AnyMessage] = EmailMessage
) -> AnyMessage:
    message = message_class()
    for name, value in headers.items():
        message[name] = value
    message.set_payload("body\n")
    return message


both_classes = pytest.mark.parametrize("message_class", [Message, EmailMessage])

# The envelope

ADDRESSES = st.sampled_from(
    ["a@x.test", "B C <b@x.test>", '"D, E" <d@x.test>', "f@x.test (G)", "Team: h@x.test, i@y.test;"]
)
FIELDS = st.lists(ADDRESSES, min_size=1, max_size=3).map(", ".join)
NAMES = st.sampled_from(["From", "Sender", "To", "Cc", "Bcc"])


@both_classes
@given(
    headers=st.dictionaries(NAMES, FIELDS),
    resent=st.dictionaries(NAMES.map("Resent-{}".format), FIELDS),
    is_resent=st.booleans(),
)
@example({"From": "a@x.test", "Sender": "b@x.test", "To": "c@x.test"}, {}, False)
@example({"From": "a@x.test"}, {"Resent-From": "b@x.test", "Resent-Bcc": "c@x.test"}, True)
def test_envelope_is_the_stdlibs(
    message_class: Callable[[], AnyMessage],
    headers: dict[str, str],
    resent: dict[str, str],
    is_resent: bool,
) -> None:
    prefix = "Resent-" if is_resent else ""
    headers = headers | resent
    assume(headers.keys() & {f"{prefix}From", f"{prefix}Sender"})
    if is_resent:
        headers["Resent-Date"] = "Mon, 01 Jan 2024 00:00:00 +0000"
    message = message_with(headers, message_class)
    assert envelope_addresses(message, None, None) == sent_by_the_stdlib(message)[:2]


@both_classes
def test_arguments_come_before_headers(message_class: Callable[[], AnyMessage]) -> None:
    message = message_with({"From": "a@x.test", "To": "b@x.test"}, message_class)
    assert envelope_addresses(message, "c@x.test", None) == ("c@x.test", ["b@x.test"])
    assert envelope_addresses(message, None, ["d@x.test"]) == ("a@x.test", ["d@x.test"])
    assert envelope_addresses(message, "", []) == ("", [])


def test_headers_that_the_arguments_replace_are_not_needed() -> None:
    assert envelope_addresses(EmailMessage(), "a@x.test", "b@x.test") == ("a@x.test", "b@x.test")


@both_classes
@pytest.mark.parametrize(
    "empty", ["", " ", "undisclosed-recipients:;", "undisclosed-recipients: ;"]
)
@pytest.mark.parametrize("names", [["Cc"], ["Bcc"], ["Cc", "Bcc"]])
def test_empty_fields_lose_no_recipient(
    message_class: Callable[[], AnyMessage], names: list[str], empty: str
) -> None:
    """CPython issue 113658."""
    message = message_with({"From": "a@x.test", "To": "b@x.test, c@x.test"}, message_class)
    for name in names:
        message[name] = empty
    assert envelope_addresses(message, None, None)[1] == ["b@x.test", "c@x.test"]


@both_classes
def test_undisclosed_recipients(message_class: Callable[[], AnyMessage]) -> None:
    message = message_with(
        {"From": "a@x.test", "To": "undisclosed-recipients:;", "Bcc": "b@x.test"}, message_class
    )
    assert envelope_addresses(message, None, None)[1] == ["b@x.test"]


def test_field_that_cannot_be_parsed_takes_no_other_with_it() -> None:
    message = message_with({"From": "a@x.test", "To": "b@x.test", "Cc": 'c"@x.test, ('}, Message)
    assert "b@x.test" in envelope_addresses(message, None, None)[1]


@pytest.mark.parametrize("resent", [False, True])
def test_no_sender(resent: bool) -> None:
    """The stdlib sends such a message from "None"."""
    headers = {"To": "a@x.test"} | ({"Resent-Date": "today", "From": "b@x.test"} if resent else {})
    name = "Resent-From" if resent else "From"
    with pytest.raises(ValueError, match=f"no {name} header: add one or give from_addr"):
        envelope_addresses(message_with(headers, Message), None, None)


@both_classes
def test_empty_sender(message_class: Callable[[], AnyMessage]) -> None:
    message = message_with({"From": " ", "To": "a@x.test"}, message_class)
    with pytest.raises(ValueError, match="no From header"):
        envelope_addresses(message, None, None)


@both_classes
def test_null_sender(message_class: Callable[[], AnyMessage]) -> None:
    message = message_with({"From": "<>", "To": "a@x.test"}, message_class)
    assert envelope_addresses(message, None, None)[0] == ""


def test_two_resent_blocks() -> None:
    message = message_with({"From": "a@x.test"}, Message)
    for _ in range(2):
        message["Resent-Date"] = "Mon, 01 Jan 2024 00:00:00 +0000"
    with pytest.raises(ValueError, match="more than one 'Resent-'"):
        envelope_addresses(message, None, None)


def test_address_objects() -> None:
    message = EmailMessage()
    message["From"] = Address("Ä", "a", "x.test")
    message["To"] = [Address("B, C", "b", "x.test"), Address("", "ü", "x.test")]
    assert envelope_addresses(message, None, None) == ("a@x.test", ["b@x.test", "ü@x.test"])


@pytest.mark.parametrize(
    ("sender", "recipients", "needed"),
    [
        ("a@x", ["b@x", "c@x"], False),
        ("ä@x", ["b@x"], True),
        ("a@x", ["b@x", "ç@x"], True),
        ("a@x", "ç@x", True),
        ("a@x", "c@x", False),
        ("", [], False),
    ],
)
def test_smtputf8_is_for_addresses(sender: str, recipients: str | list[str], needed: bool) -> None:
    assert needs_smtputf8(sender, recipients) is needed


# The bytes


def test_bcc_is_left_out_and_the_message_unchanged() -> None:
    message = message_with({"From": "a@x", "Bcc": "b@x", "RESENT-BCC": "c@x"}, Message)
    assert flatten(message, utf8=False) == b"From: a@x\r\n\r\nbody\r\n"
    assert message["Bcc"] == "b@x"
    assert message["Resent-Bcc"] == "c@x"


@both_classes
def test_from_at_the_start_of_a_line(message_class: Callable[[], AnyMessage]) -> None:
    """CPython issue 89462: ">From" is what mbox files need."""
    message = message_with({"Subject": "s"}, message_class)
    message.set_payload("From here\nto there\n")
    container = MIMEMultipart(boundary="=")
    container.attach(message)
    assert flatten(message, utf8=False).endswith(b"\r\n\r\nFrom here\r\nto there\r\n")
    assert b"\r\n\r\nFrom here\r\n" in flatten(container, utf8=False)


@pytest.mark.parametrize("policy", [email.policy.compat32, email.policy.default])
@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfFrom: a@x\nTo: b@y\nBcc: s@z\n\nhi\n",
        b">From a Mon Jan  5 10:00:00 2026\nFrom: a@x\nBcc: s@z\n\nhi\n",
        b"\nFrom: a@x\nBcc: s@z\n\nhi\n",
        b"From: a@x\nbroken\nBcc: s@z\n\nhi\n",
        b"From: a@x\nResent-Bcc : s@z\n\nhi\n",
        b"From: a@x\n\0\nbcc: s@z\n\nhi\n",
        b"From: a@x\nContent-Type: multipart/mixed; boundary=x\nbroken\nBcc: s@z\n\n"
        b"--x\n\nhi\n--x--\n",
        b"From: a@x\nContent-Type: message/rfc822\nbroken\nBcc: s@z\n\nhi\n",
    ],
)
def test_a_bcc_that_the_parser_takes_for_text_is_refused(data: bytes, policy: Any) -> None:
    """T17: the parser stops at a line that it does not know, and Bcc stayed in the text."""
    message = email.message_from_bytes(data, policy=policy)
    with pytest.raises(ValueError, match="has a Bcc that is no header field"):
        flatten(message, utf8=False)


@pytest.mark.parametrize("policy", [email.policy.compat32, email.policy.default])
@pytest.mark.parametrize(
    "data",
    [
        b" x\nFrom: a@x\nBcc: s@z\n\nhi\n",
        b": x\nFrom: a@x\nBcc: s@z\n\nhi\n",
        b"From: a@x\rBcc: s@z\r\rhi\r",
        b"From: a@x\nBcc: s@z,\n t@z\n\nhi\n",
        b"From: a@x\nbroken\n\nhi\n",
    ],
)
def test_a_bcc_that_the_parser_knows_is_left_out(data: bytes, policy: Any) -> None:
    """T17: what the parser puts right is no reason to refuse a message."""
    message = email.message_from_bytes(data, policy=policy)
    flattened = flatten(message, utf8=False)
    assert b"cc:" not in flattened.lower()
    assert b"s@z" not in flattened


def test_bcc_in_a_text_stays() -> None:
    """T17: a text may speak of Bcc, where the header is whole."""
    data = b"From: a@x\r\n\r\nBcc: in the text\r\n"
    assert flatten(email.message_from_bytes(data), utf8=False) == data


def test_line_ends() -> None:
    message = email.message_from_bytes(b"A: 1\nB: 2\r\n 3\r\n\none\ntwo\r\nthree\n")
    assert flatten(message, utf8=False) == b"A: 1\r\nB: 2\r\n 3\r\n\r\none\r\ntwo\r\nthree\r\n"


def test_8bit_body_stays() -> None:
    message = email.message_from_bytes(
        b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n\xc3\xa4\n"
    )
    assert flatten(message, utf8=False).endswith(b"\r\n\r\n\xc3\xa4\r\n")


def test_headers_in_utf8() -> None:
    message = message_with({"Subject": "ä", "To": "ü@x.test"})
    assert flatten(message, utf8=True) == "Subject: ä\r\nTo: ü@x.test\r\n\r\nbody\r\n".encode()
    assert b"Subject: =?utf-8?" in flatten(message_with({"Subject": "ä"}), utf8=False)


@given(
    subject=st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])),
    body=st.text("abä \n.", max_size=30),
    message_class=st.sampled_from([Message, EmailMessage, MIMEText]),
)
def test_bytes_are_the_stdlibs(subject: str, body: str, message_class: type[AnyMessage]) -> None:
    message: AnyMessage
    if message_class is MIMEText:
        message = MIMEText(body)
    else:
        message = message_class()
        message.set_payload(body, "utf-8")
    message["From"] = message["To"] = "a@x.test"
    message["Subject"] = subject
    assert flatten(message, utf8=False) == sent_by_the_stdlib(message)[2]


# Header injection: cases 44, CVE-2024-6923, CVE-2026-1299

# What ends a line to this or that part of the email package, and what may stand around it.
HEADER_TEXT = st.text("ab: \t\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029é\0", max_size=8)


def is_intact(data: bytes, names: list[str]) -> bool:
    """Whether a message has just these headers, and its body is where it belongs."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = re.sub(rb"\r\n[ \t]", b" ", head).split(b"\r\n")
    found = [line.partition(b":")[0].decode("ascii", "replace") for line in lines]
    are_names = all(re.fullmatch("[!-9;-~]+", name) for name in found)  # RFC 5322 section 3.6.8
    has_lone_cr = re.search(rb"\r(?!\n)", data)
    return found == names and are_names and body == b"body\r\n" and not has_lone_cr


@given(name=st.text("aB-: \t\r\n\x0b\x7f", min_size=1, max_size=5), value=HEADER_TEXT)
@example("Subject", "a\r\nBcc: b@x")
@example("Subject", "a\nBcc: b@x")
@example("Subject", "a\rBcc: b@x")
@example("Subject", "a\x0bBcc : b@x")
@example("Subject", "a\x0c\x0cbody")
@example("Subject", "a\n")
@example("Subject", "a\n\n")
@example("Subject", "a\n b")
@example("Subject", "a\r\n\tb\r\n c")
@example("Subject", "a\r\n \r\n b")
@example("Subject", "é\x0bBcc: b@x")
@example("Subject: a\r\nBcc", "b@x")
@example("Subject ", "a")
@pytest.mark.parametrize("raw", [False, True], ids=["legacy", "raw"])
def test_header_is_one_header_or_an_error(raw: bool, name: str, value: str) -> None:
    """And no error where the stdlib sends it unharmed."""
    message: AnyMessage = EmailMessage() if raw else Message()
    # EmailMessage checks what it is given, but not what its parser or a subclass stores.
    message._headers.append((name, value))  # type: ignore[attr-defined]
    message["To"] = message["From"] = "a@x.test"
    message.set_payload("body\n")
    names = [name, "To", "From"]
    errors: tuple[type[Exception], ...] = (*HEADER_ERRORS, UnicodeEncodeError)
    try:
        ours = flatten(message, utf8=False)
    except errors:
        try:
            data = sent_by_the_stdlib(message)[2]
        except (ValueError, email.errors.MessageError):
            return
        assert not is_intact(data, names)
    else:
        assert is_intact(ours, names)
        assert ours == sent_by_the_stdlib(message)[2]


@pytest.mark.parametrize("wrap", ["multipart", "message"])
@pytest.mark.parametrize(("name", "value"), [("A", "b\r\nC: d"), ("A: b\r\nC", "d")])
def test_header_injection_in_a_part(wrap: str, name: str, value: str) -> None:
    part = Message()
    part._headers.append((name, value))  # type: ignore[attr-defined]
    whole = Message()
    whole["Content-Type"] = "multipart/mixed" if wrap == "multipart" else "message/rfc822"
    whole.attach(part)
    with pytest.raises(HEADER_ERRORS):
        flatten(whole, utf8=False)


def test_header_injection_by_a_file_name() -> None:
    message = MIMEText("body")
    message.add_header("Content-Disposition", "attachment", filename="a\r\nBcc: b@x\r\n\r\n")
    with pytest.raises(HEADER_ERRORS):
        flatten(message, utf8=False)


def test_header_injection_in_utf8() -> None:
    message = EmailMessage()
    message._headers.append(("Subject", "ä\r\nBcc: b@x"))  # type: ignore[attr-defined]
    with pytest.raises(HEADER_ERRORS):
        flatten(message, utf8=True)


def test_injected_bcc_does_not_hide_as_a_header_that_is_dropped() -> None:
    message = message_with({"Bcc": "a@x"}, Message)
    message["Resent-Bcc"] = "a@x\r\nX: y"
    assert flatten(message, utf8=False) == b"\r\nbody\r\n"


@pytest.mark.parametrize("policy", [email.policy.compat32, email.policy.default, email.policy.SMTP])
def test_folded_headers_of_parsed_messages_pass(policy: Any) -> None:
    data = b"Received: from a\r\n\tby b\r\n  for c; today\r\nSubject: \r\n x\r\n\r\nbody\r\n"
    message = email.message_from_bytes(data, policy=policy)
    if message._headers[-1][1] == "x":
        # Newer Pythons parse away a line break in front of the first word.
        data = data.replace(b"\r\n x", b"x")
    assert flatten(message, utf8=False) == data


# quotedata


@given(st.text("a.\r\n", max_size=12))
def test_quotedata_is_the_stdlibs(text: str) -> None:
    assert quotedata(text) == smtplib.quotedata(text)
