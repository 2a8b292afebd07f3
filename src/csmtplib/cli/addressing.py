"""Who a message is from and for: by the command line, else by its header."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser

from ..protocol import envelope
from ..protocol.mail_object import Unsendable
from ..protocol.message import EMPTY_GROUP

# Lines as they will be on the wire, where a lone CR is a line end too and may begin a field.
_LINE_START = rb"(?:\A|(?<=[\r\n]))"
_REST_OF_LINE = rb"[^\r\n]*(?:\r\n|\r|\n|\Z)"
# The space before the colon is obsolete syntax (RFC 5322 section 4.5), and hides nobody's Bcc.
_NAME = rb"[!-9;-~]+"
_HEADER = re.compile(rb"(?:(?:%b[ \t]*:|[ \t])%b)*" % (_NAME, _REST_OF_LINE))
_OBSOLETE_COLON = re.compile(rb"%b(%b)[ \t]+:" % (_LINE_START, _NAME))
_BCC_FIELD = re.compile(
    rb"%b(?i:(?:Resent-)?Bcc)[ \t]*:%b(?:[ \t]%b)*" % (_LINE_START, _REST_OF_LINE, _REST_OF_LINE)
)

# Strict parsing gives a whole list up for a domain literal in it, or for a comma at its end.
_LENIENTLY = {"strict": False} if getattr(email.utils, "supports_strict_parsing", False) else {}


@dataclass(frozen=True, slots=True)
class Envelope:
    """The sender, "" for the null reverse-path, and at least one recipient."""

    sender: str
    recipients: Sequence[str]


@dataclass(frozen=True, slots=True)
class Addressing:
    """What the command line says of envelopes: a sender, or None; recipients; whether those of the
    header come on top, as sendmail -t has it."""

    sender: str | None
    recipients: Sequence[str]
    add_those_of_header: bool

    def envelope(self, message: bytes) -> Envelope:
        """The envelope of a message. What is not given comes from its header: Sender or From, and
        To, Cc and Bcc, or those of its Resent- block (RFC 5322 section 3.6.6).

        Raises Unsendable where that gives no sender or no recipient, or can't be read. Unlike
        `protocol.message.envelope_addresses`, which does as smtplib's send_message(), no address is
        lost for being in a second field, badly written, or UTF-8.
        """
        sender, recipients = self.sender, list(self.recipients)
        if sender is None or not recipients or self.add_those_of_header:
            header = _parse_header(message)
            prefix = _prefix(header)
            if sender is None:
                sender = _sender(header, prefix)
            if not recipients or self.add_those_of_header:
                for name in ("To", "Cc", "Bcc"):
                    recipients += _addresses(header, prefix + name)
            if not recipients:
                raise Unsendable(
                    f"no recipient in {prefix}To, {prefix}Cc or {prefix}Bcc: give some by --to"
                )
        return Envelope(sender, list(dict.fromkeys(recipients)))


def parse_addresses(text: str) -> list[str]:
    """The addresses in a list as headers and sendmail's arguments have it ("Ann <ann@a.example>,
    bob@b.example"). Raises ValueError for what can't be read."""
    if not text.strip() or EMPTY_GROUP.fullmatch(text):
        return []
    addresses = [address for _, address in email.utils.getaddresses([text], **_LENIENTLY)]
    if not all(addresses):
        raise ValueError(f"no list of addresses: {text!r}")
    return addresses


def parse_argument(text: str) -> list[str]:
    """The addresses in an argument, one at least. Raises ValueError for what can't be read."""
    # Before it is parsed, which would take a line break for a space.
    envelope.check_command(text)
    addresses = parse_addresses(text)
    if not addresses:
        raise ValueError(f"no address: {text!r}")
    return addresses


def parse_sender(text: str) -> str:
    """The one address in an argument; "" and "<>" are the null reverse-path. Raises ValueError."""
    addresses = [""] if text in ("", "<>") else parse_argument(text)
    if len(addresses) != 1:
        raise ValueError(f"one address is a sender, not {text!r}")
    return addresses[0]


def without_bcc(message: bytes) -> bytes:
    """The message without its Bcc and Resent-Bcc fields, and with every other octet."""
    end = _header_end(message)
    header = message[:end]
    stripped = _BCC_FIELD.sub(b"", header)
    return message if stripped == header else stripped + message[end:]


def _header_end(message: bytes) -> int:
    found = _HEADER.match(message)
    assert found is not None
    return found.end()


def _parse_header(message: bytes) -> Message:
    end = _header_end(message)
    if message[end : end + 1] not in (b"", b"\r", b"\n"):
        # A field that comes later could be the Bcc that somebody relies on.
        line = message[end : end + 60].splitlines()[0]
        raise Unsendable(
            f"{line!r} is no header field, and no empty line is before it: correct that, or give "
            "the addresses by --from and --to"
        )
    fields = _OBSOLETE_COLON.sub(rb"\1:", message[:end])
    return HeaderParser().parsestr(fields.decode("utf-8", "replace"))


def _prefix(header: Message) -> str:
    blocks = len(header.get_all("Resent-Date", ()))
    if blocks > 1:
        raise Unsendable("more than one Resent- block: give the addresses by --from and --to")
    return "Resent-" if blocks else ""


def _sender(header: Message, prefix: str) -> str:
    for name in (prefix + "Sender", prefix + "From"):
        if addresses := _addresses(header, name):
            return addresses[0]
    raise Unsendable(f"no address in {prefix}Sender or {prefix}From: give one by --from")


def _addresses(header: Message, name: str) -> list[str]:
    addresses: list[str] = []
    # A header has each once, by RFC 5322 section 3.6; real ones repeat them.
    for field in header.get_all(name, ()):
        try:
            addresses += parse_addresses(field)
        except ValueError as error:
            raise Unsendable(f"{name} is {error}") from error
    if any("\N{REPLACEMENT CHARACTER}" in address for address in addresses):
        raise Unsendable(f"{name} holds an address that is neither ASCII nor UTF-8")
    return addresses
