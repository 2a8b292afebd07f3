"""Cases 36 to 44: what is sent, and what never may be, whatever the caller hands over."""

from __future__ import annotations

import email
import email.errors
import email.message
import itertools
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from csmtplib import SMTP, SMTPNotSupportedError, kernel
from csmtplib.aio import SMTP as SMTPClient
from csmtplib.aio import SMTPResponse
from csmtplib.protocol.mail_object import Unsendable
from csmtplib.protocol.server_url import Server

from .faces import BODY, RECIPIENT, SENDER, Async, AsyncSession, DropIn, Face, Strict
from .server import Peer, Script

CONTROLS = [chr(code) for code in (*range(0x20), 0x7F)]
WHITE_SPACE = "\t\r\n"

at_each_place = pytest.mark.parametrize(
    "place", ["a{}b@x.test", "a@x{}.test", "a@x.test{}", "{}a@x.test"]
)


def offers(*extensions: str) -> Script:
    """Says greeting and extensions; nothing but QUIT may follow."""

    def script(peer: Peer) -> None:
        peer.greet(*extensions)

    return script


HELLO = b"ehlo client.test\r\n"

# How a caller can get an address into a command, and other text.
ADDRESS_COMMANDS: dict[str, Callable[[SMTP, str], object]] = {
    "mail": lambda smtp, text: smtp.mail(text),
    "rcpt": lambda smtp, text: smtp.rcpt(text),
    "vrfy": lambda smtp, text: smtp.verify(text),
    "expn": lambda smtp, text: smtp.expn(text),
    "sendmail sender": lambda smtp, text: smtp.sendmail(text, [RECIPIENT], BODY),
    "sendmail recipient": lambda smtp, text: smtp.sendmail(SENDER, [RECIPIENT, text], BODY),
    "send_message sender": lambda smtp, text: smtp.send_message(message(), from_addr=text),
    "send_message recipient": lambda smtp, text: smtp.send_message(message(), to_addrs=[text]),
}
COMMANDS: dict[str, Callable[[SMTP, str], object]] = {
    **ADDRESS_COMMANDS,
    "mail option": lambda smtp, text: smtp.mail(SENDER, [f"SIZE={text}"]),
    "rcpt option": lambda smtp, text: smtp.rcpt(RECIPIENT, [f"NOTIFY={text}"]),
    "helo": lambda smtp, text: smtp.helo(text),
    "ehlo": lambda smtp, text: smtp.ehlo(text),
    "help": lambda smtp, text: smtp.help(text),
    "docmd command": lambda smtp, text: smtp.docmd(text),
    "docmd arguments": lambda smtp, text: smtp.docmd("NOOP", text),
    "putcmd": lambda smtp, text: smtp.putcmd("NOOP", text),
    "auth": lambda smtp, text: smtp.auth(text, lambda challenge=None: "x"),
    "sendmail mail option": lambda smtp, text: smtp.sendmail(
        SENDER, [RECIPIENT], BODY, mail_options=[text]
    ),
    "sendmail rcpt option": lambda smtp, text: smtp.sendmail(
        SENDER, [RECIPIENT], BODY, rcpt_options=[text]
    ),
}


def message() -> email.message.EmailMessage:
    made = email.message.EmailMessage()
    made["From"], made["To"], made["Subject"] = SENDER, RECIPIENT, "test"
    made.set_content("hello\n")
    return made


@pytest.mark.parametrize("command", COMMANDS)
@at_each_place
def test_case_36_control_characters(drop_in: DropIn, command: str, place: str) -> None:
    controls = CONTROLS
    if command in ADDRESS_COMMANDS and place.strip("{}") == "a@x.test":
        controls = [control for control in CONTROLS if control not in WHITE_SPACE]
    with drop_in.serve(offers("8BITMIME", "SIZE")) as server, drop_in:
        smtp = drop_in.open(server)
        for control in controls:
            with pytest.raises(ValueError, match="prohibited"):
                COMMANDS[command](smtp, place.format(control))
        drop_in.close()
        assert server.received == HELLO


def test_case_36_white_space_around_an_address(drop_in: DropIn) -> None:
    """Lines of files and folded headers are used as addresses; the standard library trims them."""
    addresses = [
        place.format(control) for place in ("a@x.test{}", "{}a@x.test") for control in WHITE_SPACE
    ]

    def script(peer: Peer) -> None:
        peer.greet()
        for _ in addresses:
            assert peer.expect("MAIL FROM:").endswith(b":<a@x.test>\r\n")
            peer.say("250 sender ok")

    with drop_in.serve(script) as server, drop_in:
        smtp = drop_in.open(server)
        for address in addresses:
            smtp.mail(address)


# The same of csmtplib.aio.
AIO_ADDRESS_COMMANDS: dict[str, Callable[[SMTPClient, str], Coroutine[Any, Any, object]]] = {
    "mail": lambda client, text: client.mail(text),
    "rcpt": lambda client, text: client.rcpt(text),
    "vrfy": lambda client, text: client.vrfy(text),
    "expn": lambda client, text: client.expn(text),
    "sendmail sender": lambda client, text: client.sendmail(text, [RECIPIENT], BODY),
    "sendmail recipient": lambda client, text: client.sendmail(SENDER, [RECIPIENT, text], BODY),
    "send_message sender": lambda client, text: client.send_message(message(), sender=text),
    "send_message recipient": lambda client, text: client.send_message(
        message(), recipients=[text]
    ),
}
AIO_COMMANDS: dict[str, Callable[[SMTPClient, str], Coroutine[Any, Any, object]]] = {
    **AIO_ADDRESS_COMMANDS,
    "mail option": lambda client, text: client.mail(SENDER, options=[f"SIZE={text}"]),
    "rcpt option": lambda client, text: client.rcpt(RECIPIENT, options=[f"NOTIFY={text}"]),
    "vrfy option": lambda client, text: client.vrfy(RECIPIENT, options=[text]),
    "expn option": lambda client, text: client.expn(RECIPIENT, options=[text]),
    "helo": lambda client, text: client.helo(hostname=text),
    "ehlo": lambda client, text: client.ehlo(hostname=text),
    "execute_command command": lambda client, text: client.execute_command(text.encode("ascii")),
    "execute_command arguments": lambda client, text: client.execute_command(
        b"NOOP", text.encode("ascii")
    ),
    "sendmail mail option": lambda client, text: client.sendmail(
        SENDER, [RECIPIENT], BODY, mail_options=[text]
    ),
    "sendmail rcpt option": lambda client, text: client.sendmail(
        SENDER, [RECIPIENT], BODY, rcpt_options=[text]
    ),
}


@pytest.mark.parametrize("command", AIO_COMMANDS)
@at_each_place
def test_case_36_control_characters_aio(aio: Async, command: str, place: str) -> None:
    controls = CONTROLS
    # As in aiosmtplib, white space around an address or a host name is no part of it.
    trims = command in AIO_ADDRESS_COMMANDS or command in ("helo", "ehlo")
    if trims and place.strip("{}") == "a@x.test":
        controls = [control for control in CONTROLS if not control.isspace()]
    with aio.serve(offers("8BITMIME", "SIZE")) as server, aio:
        client = aio.connect(server)
        for control in controls:
            with pytest.raises(ValueError):  # noqa: PT011
                aio.run(AIO_COMMANDS[command](client, place.format(control)))
        aio.close()
        assert server.received == HELLO.replace(b"ehlo", b"EHLO")


@pytest.mark.parametrize("control", ["\r", "\n", "\0", "\t", "\x7f", " "])
def test_case_36_control_characters_in_aio_name(control: str) -> None:
    with pytest.raises(ValueError, match="local_hostname"):
        SMTPClient(hostname="mx.test", local_hostname=f"client.test{control}NOOP")


def test_case_36_white_space_around_an_address_aio(aio: Async) -> None:
    addresses = [
        place.format(control) for place in ("a@x.test{}", "{}a@x.test") for control in WHITE_SPACE
    ]

    def script(peer: Peer) -> None:
        peer.greet()
        for _ in addresses:
            assert peer.expect("MAIL FROM:").endswith(b":<a@x.test>\r\n")
            peer.say("250 sender ok")

    with aio.serve(script) as server, aio:
        client = aio.connect(server)
        for address in addresses:
            aio.run(client.mail(address))


def envelope(place: str, address: str) -> tuple[str, list[str]]:
    """An envelope with the address as its sender, or as its second recipient."""
    return (address, [RECIPIENT]) if place == "sender" else (SENDER, [RECIPIENT, address])


@pytest.mark.parametrize("command", ["sender", "recipient"])
@at_each_place
def test_case_36_control_characters_strict(strict: Strict, command: str, place: str) -> None:
    with strict.serve(offers("8BITMIME", "SIZE")) as server, strict:
        session = strict.open(server)
        for control in CONTROLS:
            with pytest.raises(Unsendable, match="prohibited"):
                session.sendmail(*envelope(command, place.format(control)), BODY)
        strict.close()
        assert server.received.lower() == HELLO


@pytest.mark.parametrize("control", ["\r", "\n", "\0", "\t", "\x7f"])
def test_case_36_control_characters_in_strict_name(control: str) -> None:
    """It is refused where it is given, so that there is no connection to send it over."""
    with pytest.raises(ValueError, match="prohibited"):
        Server(host="mx.test", name=f"client.test{control}NOOP")


not_ascii = pytest.mark.parametrize(
    "address",
    [
        # Narrowed to bytes, the two characters are CR LF.
        pytest.param("a\u760d\u760ab@x.test", id="case_37"),
        pytest.param("\u00fc@x.test", id="case_43"),
    ],
)


@not_ascii
@pytest.mark.parametrize("command", COMMANDS)
def test_case_37_43_not_ascii(drop_in: DropIn, command: str, address: str) -> None:
    is_message = command.startswith("send_message")
    with drop_in.serve(offers("8BITMIME", "SIZE")) as server, drop_in:
        smtp = drop_in.open(server)
        with pytest.raises(SMTPNotSupportedError if is_message else UnicodeEncodeError):
            COMMANDS[command](smtp, address)
        drop_in.close()
        assert server.received == HELLO


@not_ascii
@pytest.mark.parametrize("command", AIO_COMMANDS)
def test_case_37_43_not_ascii_aio(aio: Async, command: str, address: str) -> None:
    is_message = command.startswith("send_message")
    with aio.serve(offers("8BITMIME", "SIZE")) as server, aio:
        client = aio.connect(server)
        with pytest.raises(SMTPNotSupportedError if is_message else UnicodeEncodeError):
            aio.run(AIO_COMMANDS[command](client, address))
        aio.close()
        assert server.received.lower() == HELLO


@not_ascii
@pytest.mark.parametrize("command", ["sender", "recipient"])
def test_case_37_43_not_ascii_strict(strict: Strict, command: str, address: str) -> None:
    with strict.serve(offers("8BITMIME", "SIZE")) as server, strict:
        session = strict.open(server)
        with pytest.raises(SMTPNotSupportedError):
            session.sendmail(*envelope(command, address), BODY)
        strict.close()
        assert server.received.lower() == HELLO


@not_ascii
def test_case_37_43_smtputf8_offered(face: Face, address: str) -> None:
    """Where it may be sent, every byte of it is UTF-8."""

    def script(peer: Peer) -> None:
        peer.greet("8BITMIME", "SMTPUTF8")
        data = peer.expect("MAIL FROM:<")
        assert data[len("MAIL FROM:") :].startswith(b"<%s> " % address.encode())
        assert b"SMTPUTF8" in data.upper()
        peer.say("250 sender ok")
        assert peer.expect("RCPT TO:<").endswith(b"<%s>\r\n" % address.encode())
        peer.say("250 recipient ok")
        peer.expect("DATA\r\n")
        peer.say("354 go on")
        peer.read_body()
        peer.say("250 queued")

    with face.serve(script) as server, face:
        session = face.open(server)
        if isinstance(session, SMTP):
            session.sendmail(address, [address], BODY, mail_options=["SMTPUTF8"])
            # And only for that transaction.
            with pytest.raises(UnicodeEncodeError):
                session.mail(address)
        elif isinstance(session, AsyncSession):
            session.sendmail(address, [address], BODY, mail_options=["SMTPUTF8"])
        else:
            session.sendmail(address, [address], BODY)


def accepts_into(received: list[bytes], count: int) -> Script:
    """Accepts so many messages, and appends their bodies as they came."""

    def script(peer: Peer) -> None:
        peer.greet("8BITMIME")
        for _ in range(count):
            received.append(peer.accept_message())

    return script


def on_the_wire(face: Face, *bodies: bytes) -> list[bytes]:
    """The bodies of messages, sent one behind the other, as the server got them."""
    received: list[bytes] = []
    with face.serve(accepts_into(received, len(bodies))) as server, face:
        session = face.open(server)
        for body in bodies:
            session.sendmail(SENDER, [RECIPIENT], body)
    return received


SMUGGLING = [b"a\r.\r\nMAIL FROM:", b"a\n.\nMAIL FROM:", b"a\n.\r\nMAIL FROM:"]
DOT_STUFFED = b"a\r\n..\r\nMAIL FROM:\r\n.\r\n"


def test_case_38_smuggling_strict(strict: Strict) -> None:
    assert on_the_wire(strict, *SMUGGLING) == [DOT_STUFFED] * len(SMUGGLING)


def test_case_38_nul_strict(strict: Strict) -> None:
    with strict.serve(offers("8BITMIME", "SIZE")) as server, strict:
        session = strict.open(server)
        with pytest.raises(Unsendable, match="NUL"):
            session.sendmail(SENDER, [RECIPIENT], b"a\r\n\0.\r\nMAIL FROM:")
        strict.close()
        assert server.received.lower() == HELLO


def test_case_38_smuggling_dropin_str(drop_in: DropIn) -> None:
    received: list[bytes] = []
    with drop_in.serve(accepts_into(received, len(SMUGGLING))) as server, drop_in:
        smtp = drop_in.open(server)
        for body in SMUGGLING:
            smtp.sendmail(SENDER, [RECIPIENT], body.decode())
    assert received == [DOT_STUFFED] * len(SMUGGLING)


def test_case_38_smuggling_aio(aio: Async) -> None:
    """As with aiosmtplib, every line end becomes CR LF."""
    assert on_the_wire(aio, *SMUGGLING) == [DOT_STUFFED] * len(SMUGGLING)


def test_case_38_smuggling_aio_str(aio: Async) -> None:
    received: list[bytes] = []
    with aio.serve(accepts_into(received, len(SMUGGLING))) as server, aio:
        session = aio.open(server)
        for body in SMUGGLING:
            session.sendmail(SENDER, [RECIPIENT], body.decode())
    assert received == [DOT_STUFFED] * len(SMUGGLING)


@pytest.mark.parametrize("by_methods", [False, True])
def test_case_38_nul_aio(aio: Async, by_methods: bool) -> None:
    """As with aiosmtplib, it is sent."""

    class Client(SMTPClient):
        async def rset(self, **options: Any) -> SMTPResponse:
            return await super().rset(**options)

    received: list[bytes] = []
    with aio.serve(accepts_into(received, 1)) as server, aio:
        client = aio.connect(server, kind=Client if by_methods else SMTPClient)
        aio.run(client.sendmail(SENDER, [RECIPIENT], b"a\r\n\0.\r\n.\rb"))
    assert received == [b"a\r\n\0.\r\n..\r\nb\r\n.\r\n"]


def test_case_38_dropin_bytes_gain_dots_only(drop_in: DropIn) -> None:
    bodies = {
        b"a\r.\r\nb": b"a\r.\r\nb\r\n.\r\n",
        b"a\n.\nb": b"a\n..\nb\r\n.\r\n",
        b"a\n.\r\nb": b"a\n..\r\nb\r\n.\r\n",
        b"a\r\n\0.b": b"a\r\n\0.b\r\n.\r\n",
    }
    assert on_the_wire(drop_in, *bodies) == [*bodies.values()]


def chunkings(data: bytes) -> Iterator[list[bytes]]:
    """Every way to cut bytes into chunks."""
    for count in range(len(data)):
        for cuts in itertools.combinations(range(1, len(data)), count):
            borders = [0, *cuts, len(data)]
            yield [data[a:b] for a, b in itertools.pairwise(borders)]


@pytest.mark.parametrize("body", [b"a\r\n.\r\nb", b".\r\n.\r", b"\r\n.\r\n", b"a\n.\r.\r\r\n."])
def test_case_39_every_chunking(strict: Strict, body: bytes) -> None:
    expected = on_the_wire(strict, body)
    for chunks in chunkings(body):
        encoder = kernel.BodyEncoder()
        encoded = b"".join([encoder.encode(chunk) for chunk in chunks]) + encoder.finish()
        assert [encoded] == expected, chunks


@pytest.mark.parametrize(
    ("body", "by_drop_in", "by_strict"),
    [
        (b"", b"\r\n.\r\n", b".\r\n"),
        (b".", b"..\r\n.\r\n", b"..\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n", b"..\r\n.\r\n"),
        (b"a\r", b"a\r\r\n.\r\n", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n", b"a\r\n.\r\n"),
        (b"a\n", b"a\n\r\n.\r\n", b"a\r\n.\r\n"),
    ],
)
def test_case_40_one_terminator(
    face: Face, body: bytes, by_drop_in: bytes, by_strict: bytes
) -> None:
    # A terminator that is missing or doubled would show in the message behind.
    # Like smtplib, aiosmtplib ends the last line of a message without lines.
    ends_nothing = isinstance(face, Async) and not body
    expected = by_drop_in if isinstance(face, DropIn) or ends_nothing else by_strict
    assert on_the_wire(face, body, BODY) == [expected, BODY + b".\r\n"]


@pytest.mark.parametrize("before", [b"", b"a\r\nb\r\n"])
def test_case_41_line_of_998(face: Face, before: bytes) -> None:
    body = before + b"x" * 998 + b"\r\n"
    assert on_the_wire(face, body) == [body + b".\r\n"]


@pytest.mark.parametrize(
    "face", ["drop-in clear", "drop-in tls", "aio clear", "aio tls"], indirect=True
)
def test_case_41_line_of_999_dropin(face: Face) -> None:
    body = b"a\r\n" + b"x" * 999 + b"\r\n"
    assert on_the_wire(face, body) == [body + b".\r\n"]


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n", b""])
def test_case_41_line_of_999_strict(strict: Strict, line_end: bytes) -> None:
    with strict.serve(offers("8BITMIME", "SIZE")) as server, strict:
        session = strict.open(server)
        with pytest.raises(Unsendable, match=r"line 3 .*998"):
            session.sendmail(SENDER, [RECIPIENT], b"a\r\nb\n" + b"x" * 999 + line_end)
        strict.close()
        assert server.received.lower() == HELLO


@pytest.mark.parametrize("body", [b"x" * 99 + b"\r\n", b"\n" * 51], ids=["101", "51 LF"])
def test_case_42_too_large_strict(strict: Strict, body: bytes) -> None:
    with strict.serve(offers("SIZE 100")) as server, strict:
        session = strict.open(server)
        with pytest.raises(Unsendable, match="100"):
            session.sendmail(SENDER, [RECIPIENT], body)
        strict.close()
        assert server.received.lower() == HELLO


@pytest.mark.parametrize(
    ("face", "size"),
    [
        ("drop-in clear", 100),
        ("drop-in clear", 101),
        ("strict clear", 100),
        ("aio clear", 100),
        ("aio clear", 101),
    ],
    indirect=["face"],
)
def test_case_42_size_declared(face: Face, size: int) -> None:
    # The dot that is doubled on the wire does not count (RFC 1870 section 3).
    body = b"." + b"x" * (size - 3) + b"\r\n"

    def script(peer: Peer) -> None:
        peer.greet("SIZE 100")
        assert peer.expect("MAIL FROM:").upper().endswith(b" SIZE=%d\r\n" % size)
        peer.say("250 sender ok")
        peer.expect("RCPT TO:")
        peer.say("250 recipient ok")
        peer.expect("DATA\r\n")
        peer.say("354 go on")
        assert peer.read_body() == b"." + body + b".\r\n"
        peer.say("250 queued")

    with face.serve(script) as server, face:
        face.open(server).sendmail(SENDER, [RECIPIENT], body)


def compat_message(name: str = "X-Test", value: str = "test") -> email.message.Message:
    """A message that checks nothing by itself, as the email package's default policy has them."""
    made = email.message.Message()
    made["From"], made["To"] = SENDER, RECIPIENT
    # By its parser a name comes in that newer Pythons refuse to be given.
    made._headers.append((name, value))  # type: ignore[attr-defined]
    made["X-Last"] = "last"
    made.set_payload("hello\n")
    return made


def multipart_message(value: str) -> email.message.Message:
    made = compat_message()
    made["Content-Type"] = "multipart/mixed"
    made.set_payload([compat_message(value=value)])
    return made


HEADER_INJECTIONS = [
    "test\r\nBcc: victim@x.test",
    "test\nBcc: victim@x.test",
    "test\rBcc: victim@x.test",
    "test\r\n folded\r\nBcc: victim@x.test",
    "test\r\n\r\nbody",
    "test\n\nbody",
    "test\n.\nbody",
]


def messages_with(value: str) -> list[email.message.Message]:
    """Messages with the value in their headers, in several places."""
    return [
        compat_message(value=value),
        compat_message(name=value),
        compat_message(name=value.replace(" ", "").rstrip(":")),
        multipart_message(value),
    ]


@pytest.mark.parametrize("value", HEADER_INJECTIONS)
def test_case_44_header_injection(drop_in: DropIn, value: str) -> None:
    with drop_in.serve(offers("8BITMIME")) as server, drop_in:
        smtp = drop_in.open(server)
        for made in messages_with(value):
            with pytest.raises((email.errors.MessageError, ValueError)):
                smtp.send_message(made)
        drop_in.close()
        assert server.received == HELLO


@pytest.mark.parametrize("value", HEADER_INJECTIONS)
def test_case_44_header_injection_aio(aio: Async, value: str) -> None:
    with aio.serve(offers("8BITMIME")) as server, aio:
        client = aio.connect(server)
        for made in messages_with(value):
            with pytest.raises((email.errors.MessageError, ValueError)):
                aio.run(client.send_message(made))
        aio.close()
        assert server.received.lower() == HELLO


@pytest.mark.parametrize("value", ["test\r\n", "test\n", "test\r\n folded", "test\n\tfolded\r\n"])
def test_case_44_line_ends_that_inject_nothing(drop_in: DropIn, value: str) -> None:
    received: list[bytes] = []
    with drop_in.serve(accepts_into(received, 1)) as server, drop_in:
        drop_in.open(server).send_message(compat_message(value=value))
    parsed = email.message_from_bytes(received[0])
    assert parsed.keys() == ["From", "To", "X-Test", "X-Last"]
