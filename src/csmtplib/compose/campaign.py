"""One letter to many recipients: one job per row, with the same bytes each time it is made."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from email.utils import format_datetime
from hashlib import blake2b

from ..bulk.delivery import Job
from ..protocol.mail_object import MailObject
from .addresses import envelope_address
from .addresses import verp as verp_sender
from .fields import Field, unsubscribe_field
from .letter import Letter
from .mime import BOUNDARY_PREFIX, ENCODINGS
from .rows import Row, RowError


class Campaign:
    """A letter for the rows of tables.

    sender: for the envelope, "" for the null sender. verp: whether each recipient gets a sender
    address of its own, so that a bounce identifies the recipient. id: identifies this campaign;
    Message-IDs are derived from it. date: the Date of all messages, with a time zone.
    list_unsubscribe: URIs separated by commas, each a template. Raises ValueError for invalid
    arguments, and TemplateError for invalid templates.
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
            raise ValueError("the date needs a time zone")
        if verp and not sender:
            raise ValueError("VERP needs a sender, not the null sender")
        self._letter = letter
        self._sender = envelope_address(sender) if sender else ""
        self._verp = verp
        self._id = id
        set_by_template = {field.name.lower() for field in letter.fields}
        fields = list(letter.fields)
        if "date" not in set_by_template:
            data = f"Date: {format_datetime(date)}\r\n".encode("ascii")
            fields.append(Field("Date", True, lambda _: data))
        if list_unsubscribe is not None:
            if "list-unsubscribe" in set_by_template:
                raise ValueError("List-Unsubscribe is already in the template: give it once")
            fields.append(unsubscribe_field(list_unsubscribe, letter.environment))
        self._head = _joined(fields)
        self._id_domain = None if "message-id" in set_by_template else self._domain()
        boundary = BOUNDARY_PREFIX + blake2b(id.encode(), digest_size=12).hexdigest()
        self._begin, self._between, self._end = _delimiters(boundary, len(letter.parts))
        self._part_headers = [_part_headers(part.subtype) for part in letter.parts]

    def job(self, source: str, row: Row) -> Job:
        """Return the job for a row of the table that is called `source`: key, envelope and content.

        The content is a sequence of buffers; messages share the objects that are the same in all of
        them. Raises RowError if the letter can't be made from the row.
        """
        key = f"{source}:{row.line}"
        try:
            sender = verp_sender(self._sender, row.address) if self._verp else self._sender
            return Job(key, MailObject(sender, row.address, self._content(key, sender, row)))
        except ValueError as error:
            raise RowError(row.line, str(error)) from error

    def _content(self, key: str, sender: str, row: Row) -> tuple[bytes, ...]:
        variables = self._letter.environment.variables(row.fields)
        head = [part if isinstance(part, bytes) else part.data(variables) for part in self._head]
        if self._id_domain is not None:
            head.append(self._message_id(key, row.address))
        head.append(self._begin)
        opening = b"".join(head)
        if not opening.isascii() and row.address.isascii() and sender.isascii():
            raise ValueError(
                "an address in the header is not ASCII, but those of the envelope are: the message "
                "would not be sent with SMTPUTF8"
            )
        buffers = []
        for part, headers in zip(self._letter.parts, self._part_headers, strict=True):
            encoding, data = part.encoded(variables)
            buffers.append(opening + headers[encoding])
            buffers += data
            opening = self._between
        if self._end:
            buffers.append(self._end)
        return tuple(buffers)

    def _message_id(self, key: str, address: str) -> bytes:
        named = "\0".join((self._id, key, address)).encode("utf-8", "surrogatepass")
        name = blake2b(named, digest_size=16).hexdigest()
        return f"Message-ID: <{name}@{self._id_domain}>\r\n".encode("ascii")

    def _domain(self) -> str:
        """Return the right side of message identifiers: the domain of From, if that is the same in
        all messages, else of the sender."""
        domain = (self._letter.author or self._sender).rpartition("@")[2]
        if not domain:
            raise ValueError(
                "there is no domain for Message-ID: give a sender, or a constant address in From"
            )
        return domain


def _joined(fields: Iterable[Field]) -> list[bytes | Field]:
    """Return the fields, with adjacent constant ones joined into one bytes object."""
    joined: list[bytes | Field] = []
    for field in fields:
        if not field.constant:
            joined.append(field)
        elif joined and isinstance(joined[-1], bytes):
            joined[-1] += field.data({})
        else:
            joined.append(field.data({}))
    return joined


def _delimiters(boundary: str, parts: int) -> tuple[bytes, bytes, bytes]:
    """Return what goes before the first part, between parts and after the last (RFC 2046 section
    5.1)."""
    version = "MIME-Version: 1.0\r\n"
    if parts == 1:
        return version.encode("ascii"), b"", b""
    kind = f'Content-Type: multipart/alternative; boundary="{boundary}"\r\n'
    begin = f"{version}{kind}\r\n--{boundary}\r\n"
    between, end = f"\r\n--{boundary}\r\n", f"\r\n--{boundary}--\r\n"
    return begin.encode("ascii"), between.encode("ascii"), end.encode("ascii")


def _part_headers(subtype: str) -> dict[str, bytes]:
    """Return the header of a part, with its empty line, for each encoding of the part."""
    kind = f'Content-Type: text/{subtype}; charset="utf-8"\r\n'
    return {
        encoding: f"{kind}Content-Transfer-Encoding: {encoding}\r\n\r\n".encode("ascii")
        for encoding in ENCODINGS
    }
