"""Mail objects: envelopes with their contents (RFC 5321 section 2.3.1), as callers pass them."""

from __future__ import annotations

import email.message
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from . import message as messages
from .arguments import check_kind, refuse_type, refuse_value

if TYPE_CHECKING:
    from email.message import Message

    from typing_extensions import Unpack

    BytesLike: TypeAlias = bytes | bytearray | memoryview
    Text: TypeAlias = "str | BytesLike | Message[Any, Any] | Iterable[BytesLike]"

    # A message with its envelope, as callers hand it over: a tuple is in the order of MailObject.
    Sendable: TypeAlias = (
        "MailObject | tuple[str, str | Sequence[str], Text, Unpack[tuple[Any, ...]]]"
        "| Message[Any, Any]"
    )


Item = TypeVar("Item")


class Unsendable(ValueError):
    """A message that can't be sent as it is. Nothing of it was sent."""


@dataclass(frozen=True)
class DSN:
    """Delivery status notifications to ask for (RFC 3461), if the server offers DSN.

    ret: "FULL" or "HDRS", how much of the message a notification returns. envid: an identifier that
    it quotes. notify: "NEVER", or some of "SUCCESS", "FAILURE", "DELAY". orcpt: maps recipients to
    their original addresses. Raises TypeError and ValueError for what RFC 3461 does not allow.
    """

    ret: str | None = None
    envid: str | None = None
    notify: Sequence[str] = ()
    orcpt: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        wanted = '"FULL" or "HDRS"'
        check_kind("ret", self.ret, str, wanted, optional=True)
        if self.ret is not None and self.ret.upper() not in ("FULL", "HDRS"):
            refuse_value("ret", self.ret, wanted)
        wanted = "1 to 100 ASCII characters"
        check_kind("envid", self.envid, str, wanted, optional=True)
        if self.envid is not None and not (0 < len(self.envid) <= 100 and self.envid.isascii()):
            refuse_value("envid", self.envid, wanted)
        wanted = '"NEVER", or some of "SUCCESS", "FAILURE" and "DELAY"'
        check_kind("notify", self.notify, Collection, wanted)
        for each in self.notify:
            check_kind("notify", each, str, wanted)
        notify = self._notify()
        if notify != ["NEVER"] and not {"SUCCESS", "FAILURE", "DELAY"}.issuperset(notify):
            refuse_value("notify", self.notify, wanted)
        wanted = "a mapping of recipients to their original addresses"
        check_kind("orcpt", self.orcpt, Mapping, wanted, optional=True)
        for recipient, original in (self.orcpt or {}).items():
            if not (isinstance(recipient, str) and isinstance(original, str)):
                refuse_type("orcpt", self.orcpt, wanted)

    def _notify(self) -> list[str]:
        wanted = [self.notify] if isinstance(self.notify, str) else self.notify
        return [each.upper() for each in wanted]

    def mail_parameters(self) -> list[str]:
        """Returns the parameters of MAIL."""
        parameters = []
        if self.ret is not None:
            parameters.append(f"RET={self.ret.upper()}")
        if self.envid is not None:
            parameters.append(f"ENVID={xtext(self.envid)}")
        return parameters

    def rcpt_parameters(self, recipient: str) -> list[str]:
        """Returns the parameters of RCPT."""
        parameters = []
        if self.notify:
            parameters.append(f"NOTIFY={','.join(self._notify())}")
        original = (self.orcpt or {}).get(recipient)
        if original is not None:
            encoded = f"rfc822;{xtext(original)}" if original.isascii() else _utf8_xtext(original)
            parameters.append(f"ORCPT={encoded}")
        return parameters


def xtext(text: str) -> str:
    """Return the text with characters that a parameter can't contain as "+XX" (RFC 3461 section 4).
    Raises ValueError if it is not ASCII."""
    if not text.isascii():
        raise ValueError(f"{text!r} is not ASCII, so it can't be used in a parameter")
    return "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text)


def _utf8_xtext(address: str) -> str:
    """Return a non-ASCII address in the ASCII form for ORCPT (RFC 6533 section 3)."""
    return "utf-8;" + "".join(
        c if "!" <= c <= "~" and c not in "+=\\" else f"\\x{{{ord(c):X}}}" for c in address
    )


class MailObject(NamedTuple):
    """One message to be sent, in the order of the arguments of SMTP.sendmail().

    from_addr: the sender, "" for the null reverse-path. to_addrs: one address as a str, or several.
    msg: bytes; a str, which must be ASCII; an email.message.Message; or buffers that are sent one
    after the other, such as headers of its own and a body that many messages share. mail_options,
    rcpt_options: ESMTP parameters, which the server must offer. SIZE, BODY and SMTPUTF8 are added
    if they are needed and offered.
    """

    from_addr: str
    to_addrs: str | Sequence[str]
    msg: Text
    mail_options: Sequence[str] = ()
    rcpt_options: Sequence[str] = ()
    dsn: DSN | None = None


_REST = ((), (), None)


def mail_object(item: object) -> MailObject:
    """Return an item as a mail object. It is one already, a tuple in its order, or an
    email.message.Message, whose envelope comes from its headers, as in SMTP.send_message().

    Raises TypeError and ValueError for anything else.
    """
    if type(item) is tuple and len(item) == 3:
        # The usual case. This is how a named tuple creates itself.
        return tuple.__new__(MailObject, item + _REST)
    if type(item) is MailObject:
        return item
    if isinstance(item, tuple) and 3 <= len(item) <= len(MailObject._fields):
        return MailObject(*item)
    if isinstance(item, email.message.Message):
        from_addr, to_addrs = messages.envelope_addresses(item, None, None)
        return MailObject(from_addr, to_addrs, item)
    raise TypeError(
        "a message is a tuple (from_addr, to_addrs, msg[, mail_options[, rcpt_options[, dsn]]]), "
        f"a MailObject or an email.message.Message, not {type(item).__name__}"
    )


_ONE_MESSAGE = (MailObject, email.message.Message, str, bytes, bytearray, memoryview)


def iterator_of(argument: str, messages: Iterable[Item]) -> Iterator[Item]:
    """Return an iterator over messages. Raises TypeError, which names the argument, for what is not
    iterable, and for one message: many of these are iterable, too, but not over messages."""
    is_one = (
        isinstance(messages, _ONE_MESSAGE)
        or (isinstance(messages, tuple) and bool(messages) and isinstance(messages[0], str))
        or hasattr(messages, "readline")
    )
    kind = type(messages).__name__
    if is_one:
        raise TypeError(
            f"{argument} must be an iterable of messages, not one message ({kind}): pass a list, "
            "[message]"
        )
    try:
        return iter(messages)
    except TypeError:
        raise TypeError(f"{argument} must be an iterable of messages, not {kind}") from None


def recipients_of(to_addrs: object) -> list[str]:
    """Return the recipients of an envelope: one address, or several. Raises TypeError for anything
    else, ValueError if there is none."""
    if isinstance(to_addrs, str):
        return [to_addrs]
    wanted = "an address as a str, or a sequence of these"
    if not isinstance(to_addrs, (list, tuple)) and (
        not isinstance(to_addrs, Iterable) or isinstance(to_addrs, (bytes, bytearray))
    ):
        refuse_type("to_addrs", to_addrs, wanted)
    recipients = list(to_addrs)
    for each in recipients:
        if not isinstance(each, str):
            refuse_type("to_addrs", each, wanted)
    if not recipients:
        raise Unsendable("the message has no recipients")
    return recipients


def check_parameters(mail: MailObject) -> None:
    """Raise TypeError if the options of a mail object, or its DSN, have the wrong type."""
    for name in ("mail_options", "rcpt_options"):
        options = getattr(mail, name)
        wanted = "a sequence of ESMTP parameters as str"
        if isinstance(options, (str, bytes)) or not isinstance(options, Collection):
            refuse_type(name, options, wanted)
        for each in options:
            check_kind(name, each, str, wanted)
    check_kind("dsn", mail.dsn, DSN, "a DSN", optional=True)


def buffers_of(msg: Text, *, utf8: bool) -> Sequence[BytesLike] | bytes:
    """Return the bytes of a message's content, in any number of pieces.

    utf8: headers may be UTF-8. Raises TypeError for what is no content, UnicodeEncodeError for a
    str that is not ASCII, and what message.flatten() raises.
    """
    if isinstance(msg, bytes):
        return msg
    if isinstance(msg, (tuple, list)) and all(type(each) is bytes for each in msg):
        return msg
    if isinstance(msg, str):
        return msg.encode("ascii")
    if isinstance(msg, (bytearray, memoryview)):
        return [msg]
    if isinstance(msg, email.message.Message):
        return messages.flatten(msg, utf8=utf8)
    if isinstance(msg, Iterable):
        buffers = list(msg)
        if all(isinstance(each, (bytes, bytearray, memoryview)) for each in buffers):
            return buffers
    raise TypeError(
        "the content of a message is bytes, an ASCII str, an email.message.Message or a sequence "
        f"of buffers, not {type(msg).__name__}"
    )
