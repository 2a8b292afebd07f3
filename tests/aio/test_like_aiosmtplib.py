"""Programs written for aiosmtplib do the same with csmtplib.aio: against the same server they get
the same results and exceptions, and send the same commands. DIFFERENCES has what differs, and
why."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email.policy
import email.utils
import socket
import ssl
from collections.abc import Callable
from email.header import Header
from email.message import EmailMessage, Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.parser import BytesParser
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest

import csmtplib.aio

from ..servers.certificates import Certificates, issue
from .scripted import (
    Answer,
    Answers,
    Cut,
    Program,
    Run,
    Script,
    Server,
    Silence,
    offer,
    told,
    verb_of,
)

aiosmtplib = pytest.importorskip("aiosmtplib")

SENDER = "a@x.test"
RECIPIENTS = ["b@x.test", "c@x.test"]
TEXT = b"Subject: test\r\n\r\n.dot\nlast line"
# Too short for silence to take long, and long enough for an answer on a busy machine.
SHORT = 0.2

Call: TypeAlias = Callable[[Any], Any]
"""Of a method of a client: returns what is awaited."""


def run_both(
    program: Program, script: Script, *, debug: bool = False, **options: Any
) -> tuple[Run, Run]:
    """Run a program with aiosmtplib, and with csmtplib.aio. debug: ours with asyncio's checks."""
    runs = []
    for module in (aiosmtplib, csmtplib.aio):
        with Server(script, **options) as server:
            run = Run(module, server)
            run.do(program, debug=debug and module is csmtplib.aio)
        runs.append(run)
    theirs, ours = runs
    assert ours.complaints == []
    return theirs, ours


def same(program: Program, script: Script, **options: Any) -> Run:
    """Check that a program gets and sends the same with both; return our run."""
    theirs, ours = run_both(program, script, **options)
    assert ours.story == theirs.story
    assert ours.server.deliveries == theirs.server.deliveries
    # Together, commands are sent that one by one would not be.
    if "PIPELINING" not in str(script.get("ehlo")):
        assert ours.server.lines == theirs.server.lines
    # Nor do both fail because a test calls what does not exist, or with what it does not take.
    assert ours.story
    assert not {"TypeError", "AttributeError"} & {each["class"] for each in errors(ours)}
    return ours


def errors(run: Run) -> list[dict[str, Any]]:
    """Return the exceptions of a run."""
    return [each for each in run.story if isinstance(each, dict) and "class" in each]


def call(name: str, /, *arguments: Any, **options: Any) -> Call:
    return lambda client: getattr(client, name)(*arguments, **options)


def calls(*wanted: Call, **options: Any) -> Program:
    """Return a program that connects with these options, and makes these calls."""

    async def program(run: Run) -> None:
        client = run.client(**options)
        await run.tell(client.connect())
        for each in wanted:
            await run.tell(each(client))

    return program


SEND = call("sendmail", SENDER, RECIPIENTS, TEXT)
NOOP = call("noop")
QUIT = call("quit")


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return issue(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def context(certificates: Certificates) -> ssl.SSLContext:
    """The server's context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.chain, certificates.key)
    return context


def test_the_public_names() -> None:
    assert set(aiosmtplib.__all__) <= set(csmtplib.aio.__all__)
    theirs, ours = aiosmtplib.SMTP, csmtplib.aio.SMTP
    assert {each for each in dir(theirs) if not each.startswith("_")} <= set(dir(ours))
    assert {**aiosmtplib.SMTPStatus.__members__} == {**csmtplib.aio.SMTPStatus.__members__}
    assert ours.AUTH_METHODS == theirs.AUTH_METHODS


@pytest.mark.parametrize("name", [each for each in aiosmtplib.__all__ if "Error" in each])
def test_exceptions_are_of_the_same_kinds(name: str) -> None:
    def kinds(module: Any) -> set[str]:
        return {each.__name__ for each in getattr(module, name).__mro__}

    assert kinds(aiosmtplib) - kinds(csmtplib.aio) == set()


# Commands

COMMANDS = {
    "ehlo": call("ehlo"),
    "ehlo-hostname": call("ehlo", hostname=" other.test "),
    "ehlo-two-words": call("ehlo", hostname="two words"),
    "ehlo-empty": call("ehlo", hostname=" "),
    "ehlo-not-ascii": call("ehlo", hostname="ü.test"),
    "helo": call("helo"),
    "helo-hostname": call("helo", hostname="other.test"),
    "helo-line-break": call("helo", hostname="a\r\nb"),
    "noop": NOOP,
    "rset": call("rset"),
    "help": call("help"),
    "vrfy": call("vrfy", SENDER),
    "vrfy-name": call("vrfy", f"Name <{SENDER}>"),
    "vrfy-word": call("vrfy", "postmaster"),
    "vrfy-options": call("vrfy", SENDER, options=["A=b"]),
    "vrfy-not-ascii": call("vrfy", "ü@x.test"),
    "vrfy-utf8": call("vrfy", "ü@x.test", options=["SMTPUTF8"]),
    "vrfy-space": call("vrfy", "a b@x.test"),
    "expn": call("expn", "list@x.test"),
    "expn-options": call("expn", "list", options=("A",)),
    "expn-utf8": call("expn", "ü@x.test", options=["smtputf8"]),
    "mail": call("mail", SENDER),
    "mail-name": call("mail", f"Name <{SENDER}>"),
    "mail-comment": call("mail", f"{SENDER} (comment)"),
    "mail-empty": call("mail", ""),
    "mail-no-domain": call("mail", "root"),
    "mail-quoted": call("mail", '"a b"@x.test'),
    "mail-padded": call("mail", f" {SENDER} "),
    "mail-bracket": call("mail", f"<{SENDER}"),
    "mail-nul": call("mail", "a\0@x.test"),
    "mail-options": call("mail", SENDER, options=["SIZE=3", "BODY=8BITMIME"]),
    "mail-option-line-break": call("mail", SENDER, options=["A\r\nRSET"]),
    "mail-option-not-ascii": call("mail", SENDER, options=["ü"]),
    "mail-not-ascii": call("mail", "ü@x.test"),
    "mail-utf8": call("mail", "ü@x.test", encoding="utf-8", options=["SMTPUTF8"]),
    "rcpt": call("rcpt", SENDER),
    "rcpt-options": call("rcpt", SENDER, options=["NOTIFY=NEVER"]),
    "rcpt-not-ascii": call("rcpt", "ü@x.test"),
    "rcpt-utf8": call("rcpt", "ü@x.test", encoding="utf-8"),
    "data": call("data", "text"),
    "data-not-ascii": call("data", "ü"),
    "execute": call("execute_command", b"XVERB", b"two words"),
    "execute-timeout": call("execute_command", b"NOOP", timeout=3),
    "execute-line-break": call("execute_command", b"A\r\nB"),
    "execute-nul": call("execute_command", b"A\0"),
    "quit": QUIT,
    "starttls": call("starttls"),
    "login": call("login", "user", "password"),
}


@pytest.mark.parametrize("offered", [("SIZE",), ("SMTPUTF8", "8BITMIME")], ids=" ".join)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command(name: str, offered: tuple[str, ...]) -> None:
    same(calls(COMMANDS[name], NOOP), offer(*offered))


# The others are in DIFFERENCES, as arguments-first.
@pytest.mark.parametrize(
    "name", [each for each in COMMANDS if each not in ("execute-line-break", "execute-nul")]
)
def test_a_command_without_a_connection(name: str) -> None:
    async def program(run: Run) -> None:
        await run.tell(COMMANDS[name](run.client()))

    same(program, {})


CODES = ["211 s", "214 h", "221 x", "235 y", "251 f", "252 c", "354 go", "421 bye", "454 later"]
REPLIES: list[Answer] = [*CODES, "500 no", "550 no", "250", "250-a\r\n250 b", Cut(), Cut(b"25")]
REPLIES += [b"250\n", b"250-a\n250 b\n", b"250  sp \r\n", b"250 \xff\r\n", Cut(b"250-a\r\n")]


@pytest.mark.parametrize("reply", REPLIES, ids=ascii)
@pytest.mark.parametrize(
    "name", ["ehlo", "helo", "noop", "rset", "help", "vrfy", "expn", "mail", "rcpt", "execute"]
)
def test_a_reply_to_a_command(name: str, reply: Answer) -> None:
    verb = {"execute": "xverb"}.get(name, name)
    same(calls(COMMANDS[name], NOOP), offer("SIZE", **{verb: reply}))


@pytest.mark.parametrize("reply", ["221 bye", "250 ok", "421 bye", "500 no", "221"])
def test_a_reply_to_quit(reply: str) -> None:
    same(calls(QUIT, NOOP), offer(quit=reply))


@pytest.mark.parametrize(
    "offered",
    [
        ["SIZE"],
        ["size 1000", "8bitmime"],
        ["SIZE 1000  ", "AUTH PLAIN LOGIN", "STARTTLS", "X-FOO a  b"],
        ["AUTH=PLAIN LOGIN"],
        ["AUTH XOAUTH2 CRAM-MD5"],
        ["DSN", "ENHANCEDSTATUSCODES", "PIPELINING", "CHUNKING"],
    ],
    ids=" ".join,
)
def test_what_the_server_offers(offered: list[str]) -> None:
    async def program(run: Run) -> None:
        client = await run.connected()
        await run.tell(client.ehlo())
        run.story.append(client.esmtp_extensions)
        run.story.append([client.supports_extension(each) for each in ("SIZE", "auth", "x-foo")])

    same(program, offer(*offered))


def test_a_code_is_shown_as_a_number() -> None:
    async def program(run: Run) -> None:
        client = await run.connected()
        with pytest.raises(run.mail.SMTPResponseException) as raised:
            await client.noop()
        run.story.append(repr(raised.value.code))

    same(program, offer(noop="x" * 9000))


async def failure(action: Any) -> Exception | None:
    try:
        await action
    except Exception as error:
        return error
    return None


# Transactions

PLACES = ["ehlo", "mail", "rcpt", "data", "message"]
ANSWERS: list[Answer] = ["220 x", "250 fine", "251 f", "354 go", "421 bye", "450 later", "550 no"]
ANSWERS += ["550-one\r\n550 two", "250", Cut(), Cut(b"25"), Cut(b"250-first\r\n")]
ANSWERS += [b"250 \xff\r\n", b"550  sp \r\n"]


@pytest.mark.parametrize("extension", ["HELP", "PIPELINING"])
@pytest.mark.parametrize(
    ("place", "answer"),
    # The other one is in DIFFERENCES, as 421-to-rcpt.
    [each for each in product(PLACES, ANSWERS) if each != ("rcpt", "421 bye")],
    ids=lambda part: part if part in PLACES else ascii(part),
)
def test_a_reply_within_a_transaction(place: str, answer: Answer, extension: str) -> None:
    same(calls(SEND, SEND, QUIT), {**offer("SIZE 1000", extension), place: answer})


@pytest.mark.parametrize("reply", ["250 ok", "421 bye", Cut()], ids=ascii)
@pytest.mark.parametrize("refusing", ["mail", "rcpt", "data", "message"])
def test_a_reply_to_rset_after_a_refusal(refusing: str, reply: Answer) -> None:
    same(calls(SEND, SEND, QUIT), offer(rset=reply, **{refusing: "550 no"}))


@pytest.mark.parametrize("extension", ["HELP", "PIPELINING"])
@pytest.mark.parametrize("code", ["450", "550"])
@pytest.mark.parametrize("refused", [RECIPIENTS[:1], RECIPIENTS[1:], RECIPIENTS], ids=" ".join)
def test_refused_recipients(refused: list[str], code: str, extension: str) -> None:
    def answer(line: str) -> str:
        return f"{code} no" if any(each in line for each in refused) else "250 ok"

    same(calls(SEND, SEND), offer(extension, rcpt=answer))


def test_a_recipient_named_twice_is_refused_twice() -> None:
    twice = call("sendmail", SENDER, [RECIPIENTS[0]] * 2, TEXT)
    same(calls(twice, NOOP), offer(rcpt="550 no"))


def test_a_server_without_ehlo() -> None:
    same(calls(SEND, NOOP, QUIT), {"ehlo": "500 what", "helo": "250 mx.test"})


@pytest.mark.parametrize("helo", ["500 what", "421 bye", Cut()], ids=ascii)
def test_a_server_without_ehlo_and_helo(helo: Answer) -> None:
    same(calls(SEND, NOOP), {"ehlo": "500 what", "helo": helo})


MAILS = {
    "text": call("sendmail", SENDER, RECIPIENTS, "Subject: test\n\ntext\n"),
    "no-text": call("sendmail", SENDER, RECIPIENTS, ""),
    "no-bytes": call("sendmail", SENDER, RECIPIENTS, b""),
    "line-ends": call("sendmail", SENDER, RECIPIENTS, b"a\rb\nc\r\n\n\rd\r\r\n."),
    "dots": call("sendmail", SENDER, RECIPIENTS, b".\n..\r\n.a\r.\n\r\n.\r\n"),
    "8-bit": call("sendmail", SENDER, RECIPIENTS, b"\xff\0\xfe\n"),
    "large": call("sendmail", SENDER, RECIPIENTS, b"line\r\n" * 60_000),
    "one-recipient": call("sendmail", SENDER, RECIPIENTS[0], TEXT),
    "one-str-of-two": call("sendmail", SENDER, "b@x.test", TEXT),
    "tuple": call("sendmail", SENDER, tuple(RECIPIENTS), TEXT),
    "no-recipient": call("sendmail", SENDER, [], TEXT),
    "names": call("sendmail", f"S <{SENDER}>", [f"R <{each}>" for each in RECIPIENTS], TEXT),
    "null-sender": call("sendmail", "", RECIPIENTS, TEXT),
    "no-domain": call("sendmail", "root", ["admin"], TEXT),
    "many": call("sendmail", SENDER, [f"r{each}@x.test" for each in range(150)], TEXT),
    "options": call(
        "sendmail", SENDER, RECIPIENTS, TEXT, mail_options=("A=b", "C"), rcpt_options=["D=e"]
    ),
    "utf8": call("sendmail", "ä@x.test", ["ö@x.test"], TEXT, mail_options=["smtputf8"]),
    "utf8-option": call("sendmail", SENDER, RECIPIENTS, TEXT, mail_options=["SMTPUTF8"]),
    "utf8-alone": call("sendmail", "ä@x.test", RECIPIENTS, TEXT),
    "bad-sender": call("sendmail", "a b@x.test", RECIPIENTS, TEXT),
    "bad-recipient": call("sendmail", SENDER, ["b@x.test", "b c@x.test"], TEXT),
    "bad-option": call("sendmail", SENDER, RECIPIENTS, TEXT, mail_options=["A\r\nRSET"]),
    "timeout": call("sendmail", SENDER, RECIPIENTS, TEXT, timeout=4),
    "no-timeout": call("sendmail", SENDER, RECIPIENTS, TEXT, timeout=None),
}
OFFERS = [("HELP",), ("SIZE 9", "8BITMIME", "SMTPUTF8"), ("PIPELINING", "SIZE", "SMTPUTF8")]


@pytest.mark.parametrize("offered", OFFERS, ids=" ".join)
@pytest.mark.parametrize("name", MAILS)
def test_sendmail(name: str, offered: tuple[str, ...]) -> None:
    same(calls(MAILS[name], SEND), offer(*offered))


def test_a_transaction_by_its_commands() -> None:
    wanted = [
        call("mail", SENDER),
        call("rcpt", RECIPIENTS[0]),
        call("rcpt", RECIPIENTS[1]),
        call("data", TEXT),
        call("mail", SENDER),
        call("rset"),
        call("data", TEXT),
    ]
    same(calls(*wanted), offer("PIPELINING", rcpt=["250 ok", "550 no"]))


@pytest.mark.parametrize("name", ["mail", "rcpt", "data", "rset", "execute_command", "ehlo"])
def test_overridden_methods_are_called(name: str) -> None:
    async def program(run: Run) -> None:
        original = getattr(run.mail.SMTP, name)

        async def method(self: Any, *arguments: Any, **options: Any) -> Any:
            run.story.append(arguments)
            return await original(self, *arguments, **options)

        client = run.watch(type("Own", (run.mail.SMTP,), {name: method})(**run.options()))
        await run.tell(client.connect())
        await run.tell(client.sendmail(SENDER, RECIPIENTS, TEXT))
        await run.tell(client.sendmail(SENDER, RECIPIENTS, TEXT))

    ours = same(program, offer("SIZE", message=["250 ok", "550 no"]))
    assert any(isinstance(each, tuple) and each[:1] != ("tuple",) for each in ours.story)


@pytest.mark.parametrize("extension", ["HELP", "PIPELINING"])
@pytest.mark.parametrize("message", ["250 ok", ["250 ok", "550 no", "250 ok"], ["250 ok", Cut()]])
def test_several_tasks_share_a_client(message: Answers, extension: str) -> None:
    async def program(run: Run) -> None:
        client = await run.connected()
        tasks = (
            client.sendmail(f"{each}@x.test", RECIPIENTS, f"Subject: {each}\n") for each in range(5)
        )
        await run.tell(asyncio.gather(*tasks, return_exceptions=True))
        await run.tell(asyncio.gather(client.noop(), client.noop(), client.vrfy(SENDER)))

    same(program, offer(extension, message=message), debug=True)


# Messages


def modern(
    text: str = "text\n.dot\n", policy: Any = email.policy.default, **fields: str
) -> Message:
    message = EmailMessage(policy=policy)
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    message.set_content(text)
    return message


def compat32(text: str = "text\n.dot\n", charset: str = "us-ascii", **fields: str) -> Message:
    message = MIMEText(text, "plain", charset)
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    return message


def multipart(*parts: Message) -> Message:
    message = MIMEMultipart(boundary="between")
    message["From"], message["To"] = SENDER, RECIPIENTS[0]
    for each in parts:
        message.attach(each)
    return message


def with_header(message: Message, name: str, value: Any) -> Message:
    message[name] = value
    return message


FIELDS = {"From": f"A <{SENDER}>", "To": "B <b@x.test>, c@x.test", "Subject": "test"}
UTF8_FIELDS = {"From": f"Jörg <{SENDER}>", "To": "b@x.test", "Subject": "Grüße"}
DATE, OTHER_DATE = "Mon, 01 Jan 2024 00:00:00 +0000", "Tue, 02 Jan 2024 00:00:00 +0000"
RESENT = {"Resent_Date": DATE, "Resent_From": "r@x.test", "Resent_To": "rt@x.test"}
# Newer parsers of addresses refuse what they don't understand, and then so does aiosmtplib.
HAS_STRICT_PARSER = hasattr(email.utils, "supports_strict_parsing")

RAW = b"From: a@x.test\nTo: b@x.test\nContent-Type: text/plain; charset=utf-8\n"
RAW += b"Content-Transfer-Encoding: 8bit\n\n\xc3\xbc\n"

MESSAGES = {
    "modern": modern(**FIELDS),
    "compat32": compat32(**FIELDS),
    "cc": modern(Cc="e@x.test", **FIELDS),
    "bcc": modern(Bcc="d@x.test, e@x.test", **FIELDS),
    "bcc-compat32": compat32(Bcc="d@x.test, e@x.test", **FIELDS),
    "sender": modern(Sender="s@x.test", **FIELDS),
    "sender-compat32": compat32(Sender="S <s@x.test>", **FIELDS),
    "two-from": modern(From="a@x.test, b@x.test", To="c@x.test"),
    "same-twice": modern(From=SENDER, To="b@x.test", Cc="b@x.test"),
    "resent": modern(Resent_Bcc="rb@x.test", **RESENT, **FIELDS),
    "resent-compat32": compat32(Resent_Sender="rs@x.test", **RESENT, **FIELDS),
    "resent-without-from": modern(Resent_Date=DATE, **FIELDS),
    "resent-twice": with_header(compat32(**RESENT, **FIELDS), "Resent-Date", OTHER_DATE),
    "two-to": with_header(compat32(**FIELDS), "To", "z@x.test"),
    "no-from": modern(To="b@x.test"),
    "no-from-compat32": compat32(To="b@x.test"),
    "no-to": modern(From=SENDER),
    "no-to-compat32": compat32(From=SENDER),
    "group": modern(From=SENDER, To="G: b@x.test, c@x.test;"),
    "group-compat32": compat32(From=SENDER, To="G: b@x.test, c@x.test;"),
    "empty-group": modern(From=SENDER, To="undisclosed-recipients:;", Cc="c@x.test"),
    "empty-group-alone": modern(From=SENDER, To="undisclosed-recipients:;"),
    "quoted": modern(From='"a b"@x.test', To='"c, d" <b@x.test>'),
    "no-domain": modern(From="root", To="admin"),
    "bad-to": compat32(From=SENDER, To="b@x.test <c@x.test>"),
    "not-ascii": modern("Grüße\n", **UTF8_FIELDS),
    "not-ascii-compat32": compat32("Grüße\n", "utf-8", From=SENDER, To="b@x.test"),
    "header-object": with_header(
        compat32(To="b@x.test"), "From", Header("Jörg <a@x.test>", "utf8")
    ),
    "utf8-sender": modern(From="jörg@x.test", To="b@x.test", Subject="Grüße"),
    "utf8-recipient": modern(From=SENDER, To="jörg@x.test"),
    "utf8-recipient-compat32": compat32(From=SENDER, To="jörg@x.test"),
    "utf8-policy": modern(policy=email.policy.SMTPUTF8, **UTF8_FIELDS),
    "smtp-policy": modern(policy=email.policy.SMTP, **UTF8_FIELDS),
    "long": modern("x" * 1500 + "\n", From=SENDER, To="b@x.test", Subject="word " * 40),
    "long-compat32": compat32("x" * 1500, From=SENDER, To="b@x.test", Subject="word " * 40),
    "multipart": multipart(compat32("Grüße\n", "utf-8"), modern("Grüße\n"), compat32("a\rb\r\nc")),
    "parsed": BytesParser().parsebytes(RAW),
    "parsed-modern": BytesParser(policy=email.policy.default).parsebytes(RAW),
}


if not HAS_STRICT_PARSER:
    # Otherwise aiosmtplib sends to an address without a character.
    MESSAGES["empty-from"] = compat32(From="", To="b@x.test")
    MESSAGES["empty-to"] = compat32(From=SENDER, To="", Cc="c@x.test")


@pytest.mark.parametrize("offered", OFFERS, ids=" ".join)
@pytest.mark.parametrize("name", MESSAGES)
def test_send_message(name: str, offered: tuple[str, ...]) -> None:
    before = MESSAGES[name].as_string()
    same(calls(call("send_message", MESSAGES[name]), NOOP), offer(*offered))
    assert MESSAGES[name].as_string() == before


def test_recipients_are_in_the_order_of_to_cc_bcc() -> None:
    message = modern(Bcc="d@x.test", Cc="e@x.test", **FIELDS)
    same(calls(call("send_message", message)), {})


ARGUMENTS: dict[str, dict[str, Any]] = {
    "sender": {"sender": "S <s@x.test>"},
    "recipient": {"recipients": "r@x.test"},
    "recipients": {"recipients": ["r@x.test", "R <r2@x.test>"]},
    "no-recipient": {"recipients": []},
    "options": {"mail_options": ["BODY=8BITMIME", "A=b"], "rcpt_options": ("NOTIFY=NEVER",)},
    "utf8": {"recipients": ["ü@x.test"], "mail_options": ["smtputf8"]},
    "bad-sender": {"sender": "a b@x.test"},
    "bad-recipient": {"recipients": ["a b@x.test"]},
    "null-sender": {"sender": ""},
    "timeout": {"timeout": 4},
}


@pytest.mark.parametrize("offered", OFFERS, ids=" ".join)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_send_message(name: str, offered: tuple[str, ...]) -> None:
    send = call("send_message", MESSAGES["modern"], **ARGUMENTS[name])
    same(calls(send, NOOP), offer(*offered))


# In other ways


@pytest.mark.parametrize("script", [{}, {"rcpt": "550 no"}, {"greeting": "554 no"}], ids=str)
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "message"])
def test_send(raw: bool, script: Script) -> None:
    async def program(run: Run) -> None:
        if raw:
            options = run.options(sender=SENDER, recipients=RECIPIENTS, mail_options=["A=b"])
            await run.tell(run.mail.send(TEXT, **options))
            await run.tell(run.mail.send(TEXT.decode(), **options))
        else:
            message = MESSAGES["compat32"]
            await run.tell(run.mail.send(message, **run.options()))
            await run.tell(run.mail.send(message, **run.options(recipients="r@x.test")))

    same(program, script)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"sender": SENDER}, {"recipients": RECIPIENTS}, {"sender": "", "recipients": RECIPIENTS}],
    ids=str,
)
def test_send_needs_an_envelope_for_a_raw_message(arguments: dict[str, Any]) -> None:
    async def program(run: Run) -> None:
        await run.tell(run.mail.send(TEXT, **arguments))
        await run.tell(run.mail.send("text", **arguments))

    same(program, {})


@pytest.mark.parametrize("script", [{}, {"rcpt": "550 no"}, {"greeting": Cut()}], ids=str)
def test_without_a_loop(script: Script) -> None:
    async def program(run: Run) -> None:
        client = run.client()
        await run.tell(asyncio.to_thread(client.sendmail_sync, SENDER, RECIPIENTS, TEXT))
        await run.tell(asyncio.to_thread(client.send_message_sync, MESSAGES["modern"]))

    same(program, script)


# Logging in

CHALLENGE = "334 " + in_base64("<1.2@mx.test>")
LOGIN = call("login", "user", "pässword")


def challenging(line: str) -> str:
    """Answer AUTH as it is usual for the mechanism."""
    return "235 in" if "PLAIN" in line or "XOAUTH2" in line else CHALLENGE


@pytest.mark.parametrize(
    "refusal", [{}, {"auth": "535 no"}, {"auth": "421 bye"}, {"response": "535 no"}], ids=str
)
@pytest.mark.parametrize(
    "offered",
    ["AUTH CRAM-MD5 PLAIN LOGIN", "AUTH PLAIN", "AUTH=LOGIN", "auth login plain", "AUTH X", "SIZE"],
)
def test_login(offered: str, refusal: Script) -> None:
    same(calls(LOGIN, NOOP), {**offer(offered, auth=challenging), **refusal})


def test_login_goes_on_to_the_next_mechanism() -> None:
    script = offer("AUTH CRAM-MD5 PLAIN LOGIN", auth=[CHALLENGE, "504 no", CHALLENGE])
    same(calls(LOGIN), {**script, "response": ["535 no", "235 in"]})


@pytest.mark.parametrize("response", ["235 in", "535 no", "421 bye", "500 what", Cut()], ids=ascii)
@pytest.mark.parametrize("name", ["auth_plain", "auth_login", "auth_crammd5", "auth_xoauth2"])
def test_a_mechanism(name: str, response: Answer) -> None:
    script = offer("AUTH PLAIN", auth=challenging, response=response)
    same(calls(call(name, "user", b"secret"), NOOP), script)
    if name in ("auth_plain", "auth_xoauth2") or response != "235 in":
        same(calls(call(name, b"user", ""), NOOP), {**script, "auth": response})


def test_xoauth2_answers_the_error_with_an_empty_line() -> None:
    script = offer("AUTH XOAUTH2", auth="334 " + in_base64("{}"), response="535 no")
    ours = same(calls(call("auth_xoauth2", "user", "token")), script)
    assert ours.server.lines[-1] == ""


@pytest.mark.parametrize("auth", ["235 in", "535 no"])
@pytest.mark.parametrize("offered", ["AUTH PLAIN", "AUTH XOAUTH2", "SIZE"])
@pytest.mark.parametrize(
    "options",
    [
        {"username": "user", "password": "secret"},
        {"username": b"user"},
        {"password": "secret"},
        {"username": "user", "oauth_token_generator": lambda: asyncio.sleep(0, "token")},
        {"oauth_token_generator": lambda: asyncio.sleep(0, "token")},
    ],
    ids=" ".join,
)
def test_connect_logs_in(options: dict[str, Any], offered: str, auth: str) -> None:
    same(calls(**options), offer(offered, auth=auth))


# Connecting

GREETINGS: list[Answer] = ["220-a\r\n220 b", "220", "250 ok", "421 bye", "554 no", "554-a\r\n554 b"]
GREETINGS += [Cut(), Cut(b"22"), b"220 \xff\r\n"]


@pytest.mark.parametrize("greeting", GREETINGS, ids=ascii)
def test_a_greeting(greeting: Answer) -> None:
    same(calls(NOOP), {"greeting": greeting})


def test_nobody_listens() -> None:
    async def program(run: Run) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        await run.tell(run.client(port=port).connect())
        await run.tell(run.client(hostname=None, port=port).connect())
        client = run.watch(run.mail.SMTP(socket_path="/nowhere/socket"))
        await run.tell(client.connect())
        await run.tell(client.connect())

    same(program, {})


CONFLICTS: dict[str, dict[str, Any]] = {
    "both-secrets": {"password": "x", "oauth_token_generator": lambda: asyncio.sleep(0, "token")},
    "both-tls": {"use_tls": True, "start_tls": True},
    "context-and-certificate": {"tls_context": ssl.create_default_context(), "client_cert": "x"},
    "both-sockets": {"sock": object(), "socket_path": "/x", "port": None},
    "socket-and-port": {"socket_path": "/x", "port": 25},
    "tls-without-a-name": {"socket_path": "/x", "port": None, "hostname": None, "use_tls": True},
    "empty-name": {"local_hostname": " "},
    "name-of-two-words": {"local_hostname": "a b"},
    "name-with-a-line-break": {"local_hostname": "a\r\nb"},
    "host-with-a-line-break": {"hostname": "a\nb"},
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_arguments_that_contradict_each_other(name: str) -> None:
    options = {"hostname": "127.0.0.1", **CONFLICTS[name]}

    async def constructed(run: Run) -> None:
        run.mail.SMTP(**options)

    async def program(run: Run) -> None:
        await run.tell(constructed(run))
        await run.tell(run.client().connect(**options))
        await run.tell(run.mail.send(TEXT, sender=SENDER, recipients=RECIPIENTS, **options))

    ours = same(program, {})
    assert all(each["is_value_error"] for each in errors(ours))


SETTINGS = "hostname port local_hostname timeout use_tls validate_certs socket_path source_address"


def test_connect_keeps_what_it_is_given_but_for_the_timeout() -> None:
    async def program(run: Run) -> None:
        options = run.options(timeout=3, username="user", password="secret")
        client = run.watch(run.mail.SMTP(timeout=7))
        for given in (options, {}, {"username": None, "local_hostname": " other.test "}):
            await run.tell(client.connect(**given))
            await run.tell(client.quit())
            run.story.append(
                {name: getattr(client, name) for name in SETTINGS.split() if name != "port"}
            )
            assert client.port == run.server.port

    same(program, offer("AUTH PLAIN"))


def test_what_a_client_is_made_of() -> None:
    async def program(run: Run) -> None:
        for options in ({}, {"use_tls": True}, {"start_tls": True}, {"timeout": None}):
            client = run.watch(run.mail.SMTP(**options))
            run.story.append({name: getattr(client, name) for name in SETTINGS.split()})
            await run.tell(asyncio.sleep(0))

    same(program, {})


def test_a_client_connects_again() -> None:
    async def program(run: Run) -> None:
        client = run.client()
        for end in (client.quit, client.close):
            await run.tell(client.connect())
            await run.tell(client.connect())
            await run.tell(SEND(client))
            result = end()
            if result is not None:
                await run.tell(result)
            await run.tell(NOOP(client))

    same(program, {})


def test_a_second_task_connects_when_the_first_has_closed() -> None:
    async def program(run: Run) -> None:
        client = run.client()
        first, second = (asyncio.ensure_future(client.connect()) for _ in range(2))
        await run.tell(first)
        await asyncio.sleep(0.01)
        run.story.append(second.done())
        client.close()
        await run.tell(second)
        await run.tell(NOOP(client))

    same(program, {})


def test_the_server_closes_between_commands() -> None:
    async def program(run: Run) -> None:
        client = await run.connected()
        for end in (run.server.hang_up, lambda: run.server.say("421 idle")):
            await run.tell(NOOP(client))
            end()
            await closed(client)
            await run.tell(NOOP(client))
            await run.tell(client.connect())

    same(program, {})


async def closed(client: Any) -> None:
    while client.is_connected:
        await asyncio.sleep(0)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")
def test_unix_sockets() -> None:
    async def program(run: Run) -> None:
        path = run.server.path
        for each in (path, path.encode(), Path(path)):
            client = run.client(socket_path=each)
            await run.tell(client.connect())
            await run.tell(SEND(client))
            await run.tell(client.quit())

    same(program, {}, unix=True)


@pytest.mark.parametrize("blocks", [True, False])
def test_a_socket_that_is_connected(blocks: bool) -> None:
    async def program(run: Run) -> None:
        sock = socket.create_connection(("127.0.0.1", run.server.port))
        sock.setblocking(blocks)
        client = run.client(sock=sock)
        await run.tell(client.connect())
        await run.tell(SEND(client))
        await run.tell(client.quit())
        await asyncio.sleep(0.01)
        run.story.append(sock.fileno())

    same(program, {})


def test_transport_info() -> None:
    async def program(run: Run) -> None:
        client = run.client()
        for _ in range(2):
            with contextlib.suppress(run.mail.SMTPServerDisconnected):
                for key in ("sslcontext", "cipher", "nonsense"):
                    run.story.append(client.get_transport_info(key))
                run.story.append(client.get_transport_info("peername")[0])
            await run.tell(client.connect())

    same(program, {})


# TLS

TLS_KEYS = ("sslcontext", "cipher", "peercert", "ssl_object")


def encrypted(*wanted: Call, **options: Any) -> Program:
    """Return a program that connects with these options, makes these calls, and tells of TLS."""

    async def program(run: Run) -> None:
        client = run.client(**options)
        await run.tell(client.connect())
        for each in (*wanted, NOOP, QUIT):
            await run.tell(each(client))
            if client.is_connected:
                run.story.append([client.get_transport_info(key) is None for key in TLS_KEYS])
            else:
                # In aiosmtplib the state goes when the loop tells of the end.
                await asyncio.sleep(0.01)

    return program


@pytest.mark.parametrize("trust", ["bundle", "context", "none", "system"])
@pytest.mark.parametrize("hostname", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_tls(
    trust: str, hostname: str, certificates: Certificates, context: ssl.SSLContext
) -> None:
    options = trusting(certificates)[trust]
    program = encrypted(SEND, call("starttls"), use_tls=True, hostname=hostname, **options)
    same(program, offer("STARTTLS"), tls=context, debug=True)


def trusting(certificates: Certificates) -> dict[str, dict[str, Any]]:
    """Return ways to say whom a client trusts."""
    return {
        "bundle": {"cert_bundle": str(certificates.authority)},
        "context": {"tls_context": certificates.client_context()},
        "none": {"validate_certs": False},
        "system": {},
    }


@pytest.mark.parametrize("file", ["cert_bundle", "client_cert"])
@pytest.mark.parametrize("mode", ["use_tls", "start_tls"])
def test_files_that_do_not_exist(mode: str, file: str) -> None:
    same(calls(NOOP, **{mode: True, file: "/nowhere"}), offer("STARTTLS"))


def test_tls_where_the_server_has_none() -> None:
    same(calls(use_tls=True, validate_certs=False), {})


@pytest.mark.parametrize("start_tls", [None, True, False])
@pytest.mark.parametrize(
    ("trust", "starttls"),
    [
        ("bundle", "220 go"),
        ("system", "220 go"),
        ("none", "454 later"),
        ("none", "421 bye"),
        ("none", "250 ok"),
        ("none", Cut()),
    ],
)
def test_starttls_on_connecting(
    trust: str,
    start_tls: bool | None,
    starttls: Answer,
    certificates: Certificates,
    context: ssl.SSLContext,
) -> None:
    options = trusting(certificates)[trust]
    program = encrypted(start_tls=start_tls, **options)
    same(program, offer("STARTTLS", "SIZE", starttls=starttls), context=context)


@pytest.mark.parametrize("script", [offer("SIZE"), {"ehlo": "500 what"}], ids=str)
@pytest.mark.parametrize("start_tls", [None, True, False])
def test_starttls_that_is_not_offered(start_tls: bool | None, script: Script) -> None:
    same(calls(NOOP, start_tls=start_tls), script)


@pytest.mark.parametrize("trust", ["bundle", "context", "none", "system"])
@pytest.mark.parametrize("name", [None, "localhost", "elsewhere.test"])
def test_the_method_starttls(
    trust: str, name: str | None, certificates: Certificates, context: ssl.SSLContext
) -> None:
    start = call("starttls", server_hostname=name, **trusting(certificates)[trust])

    async def program(run: Run) -> None:
        client = await run.connected()
        error = await failure(start(client))
        if error is not None:
            await closed(client)
            await asyncio.sleep(0.01)
            run.story.append(told(error) if trust == "none" else type(error).__name__)
        await run.tell(SEND(client))
        await run.tell(start(client))
        await run.tell(NOOP(client))

    same(program, offer("STARTTLS", "SIZE"), context=context, debug=True)


@pytest.mark.parametrize("starttls", ["454 later", "500 no", Cut()], ids=ascii)
def test_the_method_starttls_is_refused(starttls: Answer) -> None:
    same(calls(call("starttls"), NOOP), offer("STARTTLS", starttls=starttls))


def test_arguments_of_starttls_contradict_each_other() -> None:
    both = call("starttls", tls_context=ssl.create_default_context(), client_cert="x")
    same(calls(both, NOOP), offer("STARTTLS"))


def test_tls_over_a_unix_socket_needs_a_name(
    certificates: Certificates, context: ssl.SSLContext
) -> None:
    options = trusting(certificates)["bundle"]
    script = offer("STARTTLS")
    for hostname in ("localhost", None):
        program = encrypted(start_tls=True, hostname=hostname, **options)
        same(program, script, unix=True, context=context)
    program = encrypted(use_tls=True, hostname="localhost", **options)
    same(program, script, unix=True, tls=context)


# async with


def within(action: Callable[[Run, Any], Any]) -> Program:
    """Return a program that does this within `async with`."""

    async def program(run: Run) -> None:
        client = run.client()

        async def enter() -> None:
            async with client as entered:
                run.story.append(entered is client)
                await action(run, client)

        await run.tell(enter())
        await run.tell(NOOP(client))
        await run.tell(enter())

    return program


async def send(run: Run, client: Any) -> None:
    await run.tell(SEND(client))


async def send_untold(run: Run, client: Any) -> None:
    await SEND(client)


async def quit_before_the_end(run: Run, client: Any) -> None:
    await run.tell(client.quit())


async def close_before_the_end(run: Run, client: Any) -> None:
    client.close()


async def enter_again(run: Run, client: Any) -> None:
    async with client:
        await run.tell(NOOP(client))
    await run.tell(NOOP(client))


async def raise_value_error(run: Run, client: Any) -> None:
    raise ValueError("x")


async def raise_connection_error(run: Run, client: Any) -> None:
    raise ConnectionResetError("x")


async def raise_timeout(run: Run, client: Any) -> None:
    raise TimeoutError("x")


ACTIONS: list[Callable[[Run, Any], Any]] = [
    send,
    send_untold,
    quit_before_the_end,
    close_before_the_end,
    enter_again,
    raise_value_error,
    raise_connection_error,
    raise_timeout,
]


@pytest.mark.parametrize("message", ["250 ok", "554 no", "421 bye", Cut()], ids=ascii)
@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
def test_async_with(action: Callable[[Run, Any], Any], message: Answer) -> None:
    same(within(action), offer(message=message), debug=True)


@pytest.mark.parametrize("answer", ["500 no", "421 bye", Cut(), Cut(b"221 bye")], ids=ascii)
def test_quit_of_async_with_is_refused(answer: Answer) -> None:
    same(within(send), offer(quit=answer))


def test_async_with_cannot_connect() -> None:
    same(within(send), {"greeting": "554 no"})


def test_async_with_a_client_that_is_connected() -> None:
    async def program(run: Run) -> None:
        client = await run.connected()
        async with client:
            await run.tell(SEND(client))
        await run.tell(NOOP(client))

    same(program, {})


# Time limits


@pytest.mark.parametrize("place", ["greeting", "ehlo", "mail", "data", "message", "rset", "quit"])
def test_a_server_that_does_not_answer(place: str) -> None:
    async def program(run: Run) -> None:
        client = run.client()
        await run.tell(client.connect(timeout=SHORT if place == "greeting" else 5))
        client.timeout = SHORT
        await run.tell(client.rset() if place == "rset" else SEND(client))
        await run.tell(client.quit())

    same(program, offer(**{place: Silence()}))


def test_a_time_limit_of_one_command() -> None:
    same(calls(call("noop", timeout=SHORT), NOOP), offer(noop=Silence()))


@pytest.mark.parametrize("tls", [True, False])
def test_a_server_that_does_not_begin_tls(tls: bool) -> None:
    options = {"timeout": SHORT, "validate_certs": False}
    program = calls(NOOP, use_tls=tls, start_tls=not tls, **options)
    ours = same(program, offer("STARTTLS", greeting=Silence() if tls else "220 mx.test"))
    assert errors(ours)[0]["is_timeout"]


# What differs


def outline(run: Run) -> list[str]:
    """Return what a run was told, each with "closed" if the connection was then, and the commands
    but for EHLO."""
    told_of: list[str] = []
    for each in run.story:
        if not isinstance(each, dict) or "is_connected" not in each:
            told_of.append(in_short(each))
        elif not each["is_connected"]:
            told_of[-1] += ", closed"
    return [*told_of, *(each for each in run.server.lines if verb_of(each) != "ehlo")]


def in_short(value: Any) -> str:
    if isinstance(value, dict):
        recipients = [in_short(each) for each in value.get("recipients", ())]
        code = str(int(value["code"])) if "code" in value else ""
        return " ".join(filter(None, [value["class"], code, *recipients]))
    kind, *rest = value
    return " ".join(map(str, rest)) if kind == "SMTPResponse" else f"sent {rest[1]}"


def bodies(run: Run) -> list[bytes]:
    return [each.text.partition(b"\r\n\r\n")[2] for each in run.server.deliveries]


def subjects(run: Run) -> list[bytes]:
    return [
        each.text.partition(b"Subject: ")[2].partition(b"\r\n")[0] for each in run.server.deliveries
    ]


async def unasked_reply(run: Run) -> None:
    client = await run.connected()
    await run.tell(client.noop())
    run.server.say("250 unasked")
    await asyncio.sleep(0.01)
    await run.tell(client.vrfy(SENDER))


async def cancelled_sendmail(run: Run) -> None:
    client = await run.connected()
    task = asyncio.ensure_future(SEND(client))
    while "DATA" not in run.server.lines:
        await asyncio.sleep(0.001)
    task.cancel()
    await run.tell(task)


async def cancelled_within(run: Run) -> None:
    async def enter() -> None:
        async with run.client() as client:
            await client.noop()
            raise asyncio.CancelledError

    await run.tell(enter())


async def unconnected(run: Run) -> None:
    await run.tell(run.client().execute_command(b"NOOP\r\nRSET"))


async def late_rset(run: Run) -> None:
    client = await run.connected()
    client.timeout = SHORT
    await run.tell(SEND(client))


class Difference(NamedTuple):
    """A program and what becomes of it on both sides, as outline() shows it or another function.

    by_parser: whether aiosmtplib does so only with an older parser of addresses.
    """

    why: str
    program: Program
    script: Script
    theirs: list[Any]
    ours: list[Any]
    shown: Callable[[Run], list[Any]] = outline
    by_parser: bool = False


def named_in_utf8() -> Header:
    header = Header("Jörg", "utf-8")
    header.append(f"<{SENDER}>", "ascii")
    return header


def sends(message: Message) -> Program:
    return calls(call("send_message", message))


def mails(address: str) -> Program:
    return calls(call("mail", address))


MAIL, RCPT, RCPT2 = "MAIL FROM:<a@x.test>", "RCPT TO:<b@x.test>", "RCPT TO:<c@x.test>"
CONNECTED = "220 mx.test"
MIXED = "250-one\r\n550 two"
PASSWORD, USER = in_base64("secret"), in_base64("user")
AUTH_PLAIN = "AUTH PLAIN " + in_base64("\0user\0secret")

DIFFERENCES = {
    "421-to-rcpt": Difference(
        "It is the reply to the recipient, and says that the server closes.",
        calls(SEND),
        offer(rcpt="421 bye"),
        [CONNECTED, "SMTPServerDisconnected, closed", MAIL, RCPT],
        [
            CONNECTED,
            "SMTPRecipientsRefused SMTPRecipientRefused 421, closed",
            MAIL,
            RCPT,
        ],
    ),
    "421-to-starttls": Difference(
        "421 closes the connection, whatever it answers.",
        calls(call("starttls")),
        offer("STARTTLS", starttls=b"421 bye\r\n"),
        [CONNECTED, "SMTPResponseException 421", "STARTTLS"],
        [CONNECTED, "SMTPResponseException 421, closed", "STARTTLS"],
    ),
    "malformed": Difference(
        "Nobody knows what the next reply answers; aiosmtplib reads the same line for ever.",
        calls(NOOP, call("vrfy", SENDER)),
        offer(noop="what do you want"),
        [
            CONNECTED,
            "SMTPResponseException -1",
            "SMTPResponseException -1",
            "NOOP",
            f"VRFY {SENDER}",
        ],
        [
            CONNECTED,
            "SMTPResponseException -1, closed",
            "SMTPServerDisconnected, closed",
            "NOOP",
        ],
    ),
    "two-codes": Difference(
        "A reply has one code: RFC 5321 section 4.2.1.",
        calls(NOOP),
        offer(noop=MIXED),
        [CONNECTED, "SMTPResponseException 550", "NOOP"],
        [CONNECTED, "SMTPResponseException -1, closed", "NOOP"],
    ),
    "no-such-code": Difference(
        "SMTP has no preliminary replies, so another one may follow.",
        calls(call("execute_command", b"NOOP")),
        offer(noop="150 wait"),
        [CONNECTED, "150 wait", "NOOP"],
        [CONNECTED, "SMTPResponseException -1, closed", "NOOP"],
    ),
    "unasked-reply": Difference(
        "Between two commands it is dropped, but a moment later it would answer the next one.",
        unasked_reply,
        offer(vrfy="252 who knows"),
        ["250 ok", "252 who knows", "NOOP", f"VRFY {SENDER}"],
        ["250 ok", "SMTPServerDisconnected, closed", "NOOP"],
    ),
    "two-replies": Difference(
        "The second would answer the next command, and each later one the command before its own.",
        calls(NOOP, call("vrfy", SENDER)),
        offer(noop="250 ok\r\n250 again", vrfy="550 no"),
        [CONNECTED, "250 ok", "250 again", "NOOP", f"VRFY {SENDER}"],
        [CONNECTED, "250 ok", "SMTPServerDisconnected, closed", "NOOP"],
    ),
    "text-behind-starttls": Difference(
        "Anybody may have put it there, in the clear: CVE-2021-38371.",
        calls(call("starttls", validate_certs=False)),
        offer("STARTTLS", starttls=b"220 go\r\n250 injected\r\n"),
        [CONNECTED, "220 go", "STARTTLS"],
        [CONNECTED, "SMTPServerDisconnected, closed", "STARTTLS"],
    ),
    "rset-refused": Difference(
        "The transaction may still be open, and would take the next recipients.",
        calls(SEND),
        offer(message="554 no", rset="500 what"),
        [CONNECTED, "SMTPDataError 554", MAIL, RCPT, RCPT2, "DATA", "RSET"],
        [CONNECTED, "SMTPDataError 554, closed", MAIL, RCPT, RCPT2, "DATA", "RSET"],
    ),
    "rset-unanswered": Difference(
        "The message was refused, and that is what the caller has to know.",
        late_rset,
        offer(message="554 no", rset=Silence()),
        ["SMTPReadTimeoutError, closed", MAIL, RCPT, RCPT2, "DATA", "RSET"],
        ["SMTPDataError 554, closed", MAIL, RCPT, RCPT2, "DATA", "RSET"],
    ),
    "quit-unanswered": Difference(
        "The server has done what QUIT asks for.",
        calls(QUIT),
        offer(quit=Cut()),
        [CONNECTED, "SMTPServerDisconnected, closed", "QUIT"],
        [CONNECTED, "221 , closed", "QUIT"],
    ),
    "cancelled": Difference(
        "The reply to DATA would answer the next command, which would become message text.",
        cancelled_sendmail,
        offer(data=Silence()),
        ["CancelledError", MAIL, RCPT, RCPT2, "DATA"],
        ["CancelledError, closed", MAIL, RCPT, RCPT2, "DATA"],
    ),
    "cancelled-within": Difference(
        "A task that is cancelled does not wait for the server.",
        cancelled_within,
        offer(),
        ["CancelledError, closed", "NOOP", "QUIT"],
        ["CancelledError, closed", "NOOP"],
    ),
    "username-prompt": Difference(
        "The server has ignored the name; a password in its place ends up in the server's logs.",
        calls(call("auth_login", "user", "secret")),
        offer(
            auth="334 " + in_base64("Username:"),
            response=["334 " + in_base64("Password:"), "235 in"],
        ),
        [CONNECTED, "SMTPAuthenticationError 334", f"AUTH LOGIN {USER}", PASSWORD],
        [CONNECTED, "235 in", f"AUTH LOGIN {USER}", USER, PASSWORD],
    ),
    "prompt-for-more": Difference(
        "The server still waits, and would take the next command for the answer.",
        calls(call("auth_login", "user", "secret")),
        offer(auth="334 ", response=["334 ", "501 cancelled"]),
        [CONNECTED, "SMTPAuthenticationError 334", f"AUTH LOGIN {USER}", PASSWORD],
        [CONNECTED, "SMTPAuthenticationError 334", f"AUTH LOGIN {USER}", PASSWORD, "*"],
    ),
    "challenge-not-base64": Difference(
        "The same.",
        calls(call("auth_crammd5", "user", "secret")),
        offer(auth="334 ok. go on", response="501 cancelled"),
        [CONNECTED, "SMTPAuthenticationError 334", "AUTH CRAM-MD5"],
        [CONNECTED, "SMTPAuthenticationError 334", "AUTH CRAM-MD5", "*"],
    ),
    "challenge-to-plain": Difference(
        "The server has ignored the initial response, as RFC 4954 allows for others.",
        calls(call("auth_plain", "user", "secret")),
        offer(auth="334 "),
        [CONNECTED, "SMTPAuthenticationError 334", AUTH_PLAIN],
        [CONNECTED, "235 in", AUTH_PLAIN, in_base64("\0user\0secret")],
    ),
    "login-at-once": Difference(
        "235 means that the client is logged in.",
        calls(call("auth_login", "user", "secret")),
        offer(auth="235 in"),
        [CONNECTED, "SMTPAuthenticationError 235", f"AUTH LOGIN {USER}"],
        [CONNECTED, "235 in", f"AUTH LOGIN {USER}"],
    ),
    "null-path": Difference(
        "It is the sender of bounces, as RFC 5321 writes it.",
        mails("<>"),
        offer(),
        [CONNECTED, "ValueError"],
        [CONNECTED, "250 ok", "MAIL FROM:<>"],
    ),
    "two-addresses": Difference(
        "The others would get nothing, and nobody would know.",
        mails("a@x.test, b@x.test"),
        offer(),
        [CONNECTED, "250 ok", MAIL],
        [CONNECTED, "ValueError"],
        by_parser=True,
    ),
    "text-behind-an-address": Difference(
        "It was meant for something.",
        mails("<a@x.test> SIZE=3"),
        offer(),
        [CONNECTED, "250 ok", MAIL],
        [CONNECTED, "ValueError"],
        by_parser=True,
    ),
    "half-an-address": Difference(
        "The parser stops at what it does not understand, and mail goes to somebody else.",
        mails("a>@x.test"),
        offer(),
        [CONNECTED, "250 ok", "MAIL FROM:<a>"],
        [CONNECTED, "ValueError"],
        by_parser=True,
    ),
    "line-break-in-an-address": Difference(
        "Somebody wants to send commands.",
        calls(call("vrfy", f"{SENDER}\r\nRSET")),
        offer(),
        [CONNECTED, "250 ok", f"VRFY {SENDER}"],
        [CONNECTED, "ValueError"],
        by_parser=True,
    ),
    "text-not-ascii": Difference(
        "Nothing is sent of a message that can't be, and no transaction is left open.",
        calls(call("sendmail", SENDER, RECIPIENTS, "Grüße")),
        offer(),
        [CONNECTED, "UnicodeEncodeError", MAIL, RCPT, RCPT2],
        [CONNECTED, "UnicodeEncodeError"],
    ),
    "arguments-first": Difference(
        "A mistake of the program is one also if there is no connection.",
        unconnected,
        offer(),
        ["SMTPServerDisconnected, closed"],
        ["ValueError, closed"],
    ),
    "empty-group": Difference(
        "It names nobody, least of all the null address.",
        sends(compat32(From=SENDER, To="undisclosed-recipients:;", Cc="c@x.test")),
        offer(),
        [CONNECTED, "sent queued", MAIL, "RCPT TO:<>", RCPT2, "DATA"],
        [CONNECTED, "sent queued", MAIL, RCPT2, "DATA"],
    ),
    "header-of-two-charsets": Difference(
        "The display name is no address.",
        sends(with_header(compat32(To="b@x.test"), "From", named_in_utf8())),
        offer("SMTPUTF8"),
        [CONNECTED, "sent queued", "MAIL FROM:<Jörg> SMTPUTF8", RCPT, "DATA"],
        [CONNECTED, "sent queued", MAIL, RCPT, "DATA"],
    ),
    "from-at-the-start-of-a-line": Difference(
        "It matters to mbox files, not to SMTP, and the signature holds.",
        sends(compat32("From here\n", **FIELDS)),
        offer(),
        [b">From here\r\n"],
        [b"From here\r\n"],
        bodies,
    ),
    "line-length-of-the-policy": Difference(
        "The message has a policy, which says how its lines are folded.",
        sends(
            modern(
                policy=email.policy.default.clone(max_line_length=20),
                From=SENDER,
                To="b@x.test",
                Subject="word " * 5 + "word",
            )
        ),
        offer(),
        [b"word word word word word word"],
        [b"word word"],
        subjects,
    ),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_what_differs(name: str, context: ssl.SSLContext) -> None:
    difference = DIFFERENCES[name]
    theirs, ours = run_both(difference.program, difference.script, context=context, debug=True)
    if not (difference.by_parser and HAS_STRICT_PARSER):
        assert difference.shown(theirs) == difference.theirs
    assert difference.shown(ours) == difference.ours


MALFORMED = ["what do you want", "", "25", "150 wait", MIXED, "x" * 9000]


@pytest.mark.parametrize("reply", MALFORMED, ids=lambda reply: ascii(reply[:20]))
@pytest.mark.parametrize("place", ["greeting", *PLACES])
def test_a_malformed_reply_closes_the_connection(place: str, reply: str) -> None:
    _, ours = run_both(calls(SEND), {**offer("SIZE"), place: reply})
    error = errors(ours)[0]
    assert (error["class"], error.get("code")) == ("SMTPResponseException", -1)
    state = ours.story[ours.story.index(error) + 1]
    assert isinstance(state, dict)
    assert not state["is_connected"]
