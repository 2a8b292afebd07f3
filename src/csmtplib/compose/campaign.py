"""One letter to many: a job for each row, the same octets whenever it is made."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from email.utils import format_datetime
from hashlib import blake2b

from ..bulk.delivery import Job
from ..protocol.mail_object import MailObject
from .addresses import envelope_address
from .fields import Field, unsubscribe_field
from .letter import Letter
from .mime import BOUNDARY_PREFIX, ENCODINGS
from .rows import Row, RowError
from .verp import verp as verp_sender


class Campaign:
    """A letter that is sent to the rows of tables.

    sender: for the envelope, "" for the null sender. verp: whether each recipient has a sender of
    his own, so that bounces name him. id: tells this campaign from others; message identifiers are
    made of it. date: when it began, with a time zone; all messages have it. list_unsubscribe: URIs
    separated by commas, a template each. Raises ValueError for arguments that can't be used,
    TemplateError among them.
    """

    def __init__(
        self,
        *,
        letter: Letter,
        sender: str,
        id: str,
        date: datetime,
        verp: bool = False,
        list_unsubscribe: str | None = None,
    ) -> None:
        if date.tzinfo is None:
            raise ValueError("the date has no time zone")
        if verp and not sender:
            raise ValueError("VERP wants a sender, and there is the null sender")
        self._letter = letter
        self._sender = envelope_address(sender) if sender else ""
        self._verp = verp
        self._id = id
        set_by_template = {field.name.lower() for field in letter.fields}
        fields = list(letter.fields)
        if "date" not in set_by_template:
            octets = f"Date: {format_datetime(date)}\r\n".encode("ascii")
            fields.append(Field("Date", True, lambda _: octets))
        if list_unsubscribe is not None:
            if "list-unsubscribe" in set_by_template:
                raise ValueError("List-Unsubscribe is in the template already")
            fields.append(unsubscribe_field(list_unsubscribe, letter.environment))
        self._head = _joined(fields)
        self._id_domain = None if "message-id" in set_by_template else self._domain()
        boundary = BOUNDARY_PREFIX + blake2b(id.encode(), digest_size=12).hexdigest()
        self._begin, self._between, self._end = _delimiters(boundary, len(letter.parts))
        self._part_headers = [_part_headers(part.subtype) for part in letter.parts]

    def job(self, source: str, row: Row) -> Job:
        """The job for a row of a table that is called `source`: its key, envelope and content.

        The content comes in buffers; those that all messages share are the same objects. Raises
        RowError where the letter can't be made of the row.
        """
        key = f"{source}:{row.line}"
        try:
            sender = verp_sender(self._sender, row.address) if self._verp else self._sender
            return Job(key, MailObject(sender, row.address, self._content(key, sender, row)))
        except ValueError as error:
            raise RowError(row.line, str(error)) from error

    def _content(self, key: str, sender: str, row: Row) -> tuple[bytes, ...]:
        variables = self._letter.environment.variables(row.fields)
        head = [part if isinstance(part, bytes) else part.octets(variables) for part in self._head]
        if self._id_domain is not None:
            head.append(self._message_id(key, row.address))
        head.append(self._begin)
        opening = b"".join(head)
        if not opening.isascii() and row.address.isascii() and sender.isascii():
            raise ValueError(
                "an address in the header is not ASCII, and none of the envelope is: the message "
                "would not be sent with SMTPUTF8"
            )
        buffers = []
        for part, headers in zip(self._letter.parts, self._part_headers, strict=True):
            encoding, octets = part.encoded(variables)
            buffers.append(opening + headers[encoding])
            buffers += octets
            opening = self._between
        if self._end:
            buffers.append(self._end)
        return tuple(buffers)

    def _message_id(self, key: str, address: str) -> bytes:
        named = "\0".join((self._id, key, address)).encode("utf-8", "surrogatepass")
        name = blake2b(named, digest_size=16).hexdigest()
        return f"Message-ID: <{name}@{self._id_domain}>\r\n".encode("ascii")

    def _domain(self) -> str:
        """The right side of message identifiers: the domain of From, which has all messages alike,
        or of the sender."""
        domain = (self._letter.author or self._sender).rpartition("@")[2]
        if not domain:
            raise ValueError(
                "there is no domain for Message-ID: give a sender, or write an address into From"
            )
        return domain


def _joined(fields: Iterable[Field]) -> list[bytes | Field]:
    """The fields, with the octets of those that are constant and stand together in one."""
    joined: list[bytes | Field] = []
    for field in fields:
        if not field.constant:
            joined.append(field)
        elif joined and isinstance(joined[-1], bytes):
            joined[-1] += field.octets({})
        else:
            joined.append(field.octets({}))
    return joined


def _delimiters(boundary: str, parts: int) -> tuple[bytes, bytes, bytes]:
    """What stands before the first part, between parts and behind the last (RFC 2046 section
    5.1)."""
    version = "MIME-Version: 1.0\r\n"
    if parts == 1:
        return version.encode("ascii"), b"", b""
    kind = f'Content-Type: multipart/alternative; boundary="{boundary}"\r\n'
    begin = f"{version}{kind}\r\n--{boundary}\r\n"
    between, end = f"\r\n--{boundary}\r\n", f"\r\n--{boundary}--\r\n"
    return begin.encode("ascii"), between.encode("ascii"), end.encode("ascii")


def _part_headers(subtype: str) -> dict[str, bytes]:
    """The header of a part, and its empty line, by the encoding of the part."""
    kind = f'Content-Type: text/{subtype}; charset="utf-8"\r\n'
    return {
        encoding: f"{kind}Content-Transfer-Encoding: {encoding}\r\n\r\n".encode("ascii")
        for encoding in ENCODINGS
    }
