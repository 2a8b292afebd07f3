"""The addresses of a message, from the command line or its header; suppression lists."""

from __future__ import annotations

import codecs
import email.utils
import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser

from ..compose.addresses import bare_address, envelope_address
from ..protocol import envelope
from ..protocol.mail_object import Unsendable
from ..protocol.message import EMPTY_GROUP, refuse_bcc
from .conventions import Exit, Failure

# Lines as they will be on the wire, where a lone CR is a line end too and may precede a field.
_LINE_START = rb"(?:\A|(?<=[\r\n]))"
_LINE_BREAK = re.compile(rb"\r\n|\r|\n")
_REST_OF_LINE = rb"[^\r\n]*(?:\r\n|\r|\n|\Z)"
# Space before the colon is obsolete syntax (RFC 5322 section 4.5), and must not hide a Bcc.
_NAME = rb"[!-9;-~]+"
_HEADER = re.compile(rb"(?:(?:%b[ \t]*:|[ \t])%b)*" % (_NAME, _REST_OF_LINE))
# Some programs write it at the beginning of a UTF-8 file. It is not part of the message.
_BOM = codecs.BOM_UTF8
_OBSOLETE_COLON = re.compile(rb"%b(%b)[ \t]+:" % (_LINE_START, _NAME))
_BCC_FIELD = re.compile(
    rb"%b(?i:(?:Resent-)?Bcc)[ \t]*:%b(?:[ \t]%b)*" % (_LINE_START, _REST_OF_LINE, _REST_OF_LINE)
)

# Strict parsing rejects a whole list for a domain literal in it, or for a comma at its end.
_LENIENTLY = {"strict": False} if getattr(email.utils, "supports_strict_parsing", False) else {}


@dataclass(frozen=True, slots=True)
class Envelope:
    """The sender, "" for the null reverse-path, and at least one recipient."""

    sender: str
    recipients: Sequence[str]


@dataclass(frozen=True, slots=True)
class Addressing:
    """The addresses on the command line: a sender, or None; recipients; whether to add those of the
    header, like sendmail -t."""

    sender: str | None
    recipients: Sequence[str]
    add_those_of_header: bool

    def envelope(self, message: bytes) -> Envelope:
        """Return the envelope of a message. What is not given comes from its header: Sender or
        From, and To, Cc and Bcc, or those of its Resent- block (RFC 5322 section 3.6.6).

        Raises Unsendable if there is no sender or no recipient, or if the header can't be read.
        Unlike `protocol.message.envelope_addresses`, which behaves like smtplib's send_message(),
        this also finds addresses that are in a second field, badly written, or UTF-8.
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
                    f"no recipient in {prefix}To, {prefix}Cc or {prefix}Bcc: give one with --to"
                )
        by_mailbox: dict[str, str] = {}
        for each in recipients:
            by_mailbox.setdefault(envelope.mailbox_key(each), each)
        return Envelope(sender, list(by_mailbox.values()))


def parse_addresses(text: str) -> list[str]:
    """Parse a list of addresses, as in a header or an argument of sendmail ("Ann <ann@a.example>,
    bob@b.example"). Raises ValueError for an invalid list."""
    if not text.strip() or EMPTY_GROUP.fullmatch(text):
        return []
    addresses = [address for _, address in email.utils.getaddresses([text], **_LENIENTLY)]
    if not all(addresses):
        raise ValueError(f"not a list of addresses: {text!r}")
    return addresses


def fit(address: str) -> str:
    """Return an address in the form for an envelope.

    An address without a domain is kept: a server knows "root" on its own host. A non-ASCII domain
    is kept too: the header contains it as well, so the message needs SMTPUTF8 anyway. Raises
    ValueError for an invalid address.
    """
    bare = bare_address(address)
    if "@" not in bare:
        return bare
    checked = envelope_address(bare)
    return checked if bare.isascii() else bare


def parse_argument(text: str) -> list[str]:
    """Parse the addresses in an argument, at least one. Raises ValueError."""
    # Checked first, as the parser would treat a line break as a space.
    envelope.check_command(text)
    addresses = parse_addresses(text)
    if not addresses:
        raise ValueError(f"no address: {text!r}")
    return [fit(address) for address in addresses]


def parse_sender(text: str) -> str:
    """Parse the one address in an argument; "" and "<>" are the null sender. Raises ValueError."""
    addresses = [""] if text in ("", "<>") else parse_argument(text)
    if len(addresses) != 1:
        raise ValueError(f"the sender must be one address, not {text!r}")
    return addresses[0]


def without_bcc(message: bytes) -> bytes:
    """Return the message without its Bcc and Resent-Bcc fields, and otherwise unchanged.

    Raises Unsendable if it contains a Bcc, and its header can't be read to the end.
    """
    message = message.removeprefix(_BOM)
    end = _header_end(message)
    if not _is_whole(message, end):
        try:
            refuse_bcc(message)
        except ValueError as error:
            raise Unsendable(str(error)) from error
        return message
    header = message[:end]
    stripped = _BCC_FIELD.sub(b"", header)
    return message if stripped == header else stripped + message[end:]


class Suppressed(frozenset[str]):
    """Addresses in lower case with ASCII domains. A lookup converts non-ASCII ones likewise."""

    def __contains__(self, address: object) -> bool:
        if super().__contains__(address):
            return True
        if not isinstance(address, str) or address.isascii():
            return False
        try:
            return super().__contains__(envelope_address(address).lower())
        except ValueError:
            return False


def read_suppressed(path: str) -> Suppressed:
    """Read a suppression list, with one address per line, for BulkSender. Skips empty lines.

    Raises Failure if the file can't be read, and for a line that is not an address: somebody may
    rely on it.
    """
    addresses = set()
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.isspace():
                    try:
                        addresses.add(envelope_address(line.strip()).lower())
                    except ValueError as error:
                        raise Failure(Exit.DATAERR, f"{path}:{number}: {error}") from error
    except OSError as error:
        raise Failure(Exit.NOINPUT, f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Failure(Exit.DATAERR, f"{path}: not UTF-8: save it with that encoding") from error
    return Suppressed(addresses)


def _header_end(message: bytes) -> int:
    found = _HEADER.match(message)
    assert found is not None
    return found.end()


def _is_whole(message: bytes, end: int) -> bool:
    """Return whether the message begins with a header that ends there."""
    is_ended = message[end : end + 1] in (b"", b"\r", b"\n")
    return end > 0 and is_ended and not message.startswith((b" ", b"\t"))


def _parse_header(message: bytes) -> Message:
    message = message.removeprefix(_BOM)
    end = _header_end(message)
    if message[end : end + 1] not in (b"", b"\r", b"\n"):
        # A later field could be a Bcc that somebody relies on.
        number = len(_LINE_BREAK.findall(message[:end])) + 1
        line = message[end : end + 60].splitlines()[0]
        raise Unsendable(
            f"line {number}: {line!r} is neither a header field nor preceded by an empty line: "
            "correct that, or give the addresses with --from and --to"
        )
    fields = _OBSOLETE_COLON.sub(rb"\1:", message[:end])
    return HeaderParser().parsestr(fields.decode("utf-8", "replace"))


def _prefix(header: Message) -> str:
    blocks = len(header.get_all("Resent-Date", ()))
    if blocks > 1:
        raise Unsendable("more than one Resent- block: give the addresses with --from and --to")
    return "Resent-" if blocks else ""


def _sender(header: Message, prefix: str) -> str:
    for name in (prefix + "Sender", prefix + "From"):
        if addresses := _addresses(header, name):
            return addresses[0]
    raise Unsendable(f"no address in {prefix}Sender or {prefix}From: give one with --from")


def _addresses(header: Message, name: str) -> list[str]:
    addresses: list[str] = []
    # RFC 5322 section 3.6 allows each field once; real headers repeat them.
    for field in header.get_all(name, ()):
        try:
            addresses += parse_addresses(field)
        except ValueError as error:
            raise Unsendable(f"{name} is {error}") from error
    if any("\N{REPLACEMENT CHARACTER}" in address for address in addresses):
        raise Unsendable(f"{name} contains an address that is neither ASCII nor UTF-8")
    try:
        return [fit(address) for address in addresses]
    except ValueError as error:
        raise Unsendable(f"{name}: {error}") from error
