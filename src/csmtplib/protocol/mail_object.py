"""Mail objects: envelopes with their contents (RFC 5321 section 2.3.1), as callers have them."""

from __future__ import annotations

import email.message
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from . import message as messages

if TYPE_CHECKING:
    from email.message import Message

    Octets: TypeAlias = bytes | bytearray | memoryview
    Text: TypeAlias = "str | Octets | Message[Any, Any] | Iterable[Octets]"


class Unsendable(ValueError):
    """A message that can't be sent as it is. Nothing of it was."""


@dataclass(frozen=True)
class DSN:
    """Which delivery status notifications are asked for (RFC 3461), where the server offers DSN.

    ret: "FULL" or "HDRS", how much of the message a notification returns. envid: an identifier that
    it names. notify: "NEVER", or some of "SUCCESS", "FAILURE", "DELAY". orcpt: for recipients that
    were somebody else before, the address then.
    """

    ret: str | None = None
    envid: str | None = None
    notify: Sequence[str] = ()
    orcpt: Mapping[str, str] | None = None

    def mail_parameters(self) -> list[str]:
        """Parameters of MAIL. Raises ValueError for what RFC 3461 does not have."""
        parameters = []
        if self.ret is not None:
            if self.ret.upper() not in ("FULL", "HDRS"):
                raise ValueError(f"RET is FULL or HDRS, not {self.ret!r}")
            parameters.append(f"RET={self.ret.upper()}")
        if self.envid is not None:
            if not 0 < len(self.envid) <= 100:
                raise ValueError("ENVID has 1 to 100 characters")
            parameters.append(f"ENVID={xtext(self.envid)}")
        return parameters

    def rcpt_parameters(self, recipient: str) -> list[str]:
        """Parameters of RCPT. Raises ValueError for what RFC 3461 does not have."""
        parameters = []
        if self.notify:
            wanted = [self.notify] if isinstance(self.notify, str) else list(self.notify)
            wanted = [each.upper() for each in wanted]
            known = {"SUCCESS", "FAILURE", "DELAY"}
            if wanted != ["NEVER"] and not known.issuperset(wanted):
                raise ValueError(
                    f"NOTIFY is NEVER, or some of SUCCESS, FAILURE and DELAY, not {wanted}"
                )
            parameters.append(f"NOTIFY={','.join(wanted)}")
        original = (self.orcpt or {}).get(recipient)
        if original is not None:
            encoded = f"rfc822;{xtext(original)}" if original.isascii() else _utf8_xtext(original)
            parameters.append(f"ORCPT={encoded}")
        return parameters


def xtext(text: str) -> str:
    """The text with what may not stand in a parameter as "+XX" (RFC 3461 section 4). Raises
    ValueError for what is not ASCII."""
    if not text.isascii():
        raise ValueError(f"{text!r} is not ASCII, and can't stand in a parameter")
    return "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text)


def _utf8_xtext(address: str) -> str:
    """An address that is not ASCII as ORCPT has it, in ASCII (RFC 6533 section 3)."""
    return "utf-8;" + "".join(
        c if "!" <= c <= "~" and c not in "+=\\" else f"\\x{{{ord(c):X}}}" for c in address
    )


class MailObject(NamedTuple):
    """One message to be sent, in the order of the arguments of SMTP.sendmail().

    from_addr: the sender, "" for the null reverse-path. to_addrs: one address as a str, or several.
    msg: octets; a str, which must be ASCII; an email.message.Message; or buffers that are sent one
    behind the other, such as headers of its own and a body that many messages share. mail_options,
    rcpt_options: ESMTP parameters, the server has to offer them. SIZE, BODY and SMTPUTF8 are added
    where they are needed and offered.
    """

    from_addr: str
    to_addrs: str | Sequence[str]
    msg: Text
    mail_options: Sequence[str] = ()
    rcpt_options: Sequence[str] = ()
    dsn: DSN | None = None


_REST = ((), (), None)


def mail_object(item: object) -> MailObject:
    """An item as a mail object: one already, a tuple in its order, or an email.message.Message,
    whose envelope its headers give, as in SMTP.send_message().

    Raises TypeError and ValueError for what is none.
    """
    if type(item) is tuple and len(item) == 3:
        # Most are that, and this is how a named tuple makes itself.
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


def buffers_of(msg: Text, *, utf8: bool) -> Sequence[Octets] | bytes:
    """The octets of a message's content, cut anywhere.

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
        "the content of a message is octets, an ASCII str, an email.message.Message or a sequence "
        f"of buffers, not {type(msg).__name__}"
    )
