"""An `email.message.Message` as mail: its envelope from its headers, its bytes for DATA."""

from __future__ import annotations

import copy
import email.errors
import email.generator
import email.utils
import io
import re

from .. import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from email.message import Message
    from typing import Any

# Whatever some part of the email package takes for the end of a line.
_LINE_BREAK = re.compile("[\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
# A line end that no folding white space follows ends the header; a lone CR or LF ends it for some
# parsers.
_UNFOLDED_BREAK = re.compile(rb"\r\n(?![ \t])|\r(?!\n)|(?<!\r)\n")
_NO_HEADER_NAME = re.compile("[\0- :\x7f]|^$")
# A line that may have been meant as Bcc, whatever precedes the name.
_BCC_LINE = re.compile(rb"(?:\A|(?<=[\r\n]))[^\w\r\n]*(?:Resent-)?Bcc[ \t]*:", re.IGNORECASE)
# As in "undisclosed-recipients:;", which names nobody.
EMPTY_GROUP = re.compile(r'[^:;@<>"]*:\s*;\s*')

# Defects after which the parser takes the rest of the header for body text.
_CUT_SHORT = (
    email.errors.MissingHeaderBodySeparatorDefect,
    email.errors.FirstHeaderLineIsContinuationDefect,
)

# HeaderWriteError exists since Python checks headers itself (CVE-2024-6923, CVE-2026-1299).
_HeaderError: type[Exception] = getattr(email.errors, "HeaderWriteError", ValueError)


def envelope_addresses(
    message: Message[Any, Any],
    from_addr: str | None,
    to_addrs: str | Sequence[str] | None,
    *,
    every_field: bool = False,
) -> tuple[str, str | Sequence[str]]:
    """Return sender and recipients of a message: what is given, else what its headers say (RFC 5322
    section 3.6.2 and 3.6.3; those of the Resent- block if it has one).

    every_field: read all fields of a name, where smtplib reads the first of them, and in the order
    To, Cc, Bcc. Raises ValueError if there is more than one Resent- block, or no sender.
    """
    resent = message.get_all("Resent-Date")
    if resent is not None and len(resent) > 1:
        raise ValueError("message has more than one 'Resent-' header block")
    prefix = "" if resent is None else "Resent-"
    if from_addr is None:
        header = message[prefix + "Sender"]
        if header is None:
            header = message[prefix + "From"]
        if header is None or not str(header).strip():
            raise ValueError(f"message has no {prefix}From header: add one or give from_addr")
        from_addr = email.utils.getaddresses([str(header)])[0][1]
    if to_addrs is None:
        if every_field:
            names = [prefix + name for name in ("To", "Cc", "Bcc")]
            fields = [field for name in names for field in message.get_all(name, ())]
        else:
            fields = [message[prefix + name] for name in ("To", "Bcc", "Cc")]
        # One by one: a field that can't be parsed must not take the others with it.
        to_addrs = [
            address
            for field in map(str, filter(None, fields))
            if field.strip() and not EMPTY_GROUP.fullmatch(field)
            for _, address in email.utils.getaddresses([field])
        ]
    return from_addr, to_addrs


def needs_smtputf8(from_addr: str, to_addrs: str | Sequence[str]) -> bool:
    """Return whether an address of the envelope is not ASCII (RFC 6531)."""
    recipients = [to_addrs] if isinstance(to_addrs, str) else to_addrs
    return not all(address.isascii() for address in (from_addr, *recipients))


def flatten(message: Message[Any, Any], *, utf8: bool | None, cte_type: str | None = None) -> bytes:
    """Return the bytes of a message, CR LF at every line's end, Bcc and Resent-Bcc left out.

    utf8: whether headers may be UTF-8 (SMTPUTF8). cte_type: "7bit" or "8bit", what the parts may
    be. None for either: what the message's policy says. Raises email.errors.HeaderWriteError
    (ValueError on Pythons that lack it) for a header that would begin another one; ValueError for a
    Bcc in a header that the email package could not read to its end.
    """
    outgoing = copy.copy(message)
    del outgoing["Bcc"]
    del outgoing["Resent-Bcc"]
    policy: Any = message.policy.clone(linesep="\r\n")  # what clone() takes depends on its class
    if utf8 is not None and hasattr(policy, "utf8"):
        policy = policy.clone(utf8=utf8)
    if cte_type is not None:
        policy = policy.clone(cte_type=cte_type)
    for part in outgoing.walk():
        _refuse_header_injection(part, policy)
    with io.BytesIO() as data:
        # Unmangled: "From " at the start of a line matters to mbox files, not to SMTP.
        generator = email.generator.BytesGenerator(data, mangle_from_=False, policy=policy)
        generator.flatten(outgoing)
        flattened = data.getvalue()
    # A Bcc in what the parser took for body text is still there.
    if not outgoing.keys() or any(isinstance(each, _CUT_SHORT) for each in outgoing.defects):
        refuse_bcc(flattened)
    return flattened


def refuse_bcc(message: bytes) -> None:
    """Raise ValueError if a message whose header can't be read to its end has a Bcc, which
    everybody would see."""
    if (found := _BCC_LINE.search(message)) is not None:
        line = message.count(b"\n", 0, found.start()) + 1
        raise ValueError(
            f"the message has a Bcc that is no header field and would stay in it (line {line}): "
            "correct the lines before it; a header begins on the first line, and ends with an "
            "empty line"
        )


def _refuse_header_injection(part: Message[Any, Any], policy: Any) -> None:
    for name, value in part.raw_items():
        if _NO_HEADER_NAME.search(name):
            raise _HeaderError(f"the header name {name!r} contains a character that ends it")
        if _LINE_BREAK.search(str(value)):
            # Harmless if it is encoded or followed by white space, which only folding shows.
            folded: bytes = policy.fold_binary(name, value)
            if _UNFOLDED_BREAK.search(folded.removesuffix(b"\r\n")):
                raise _HeaderError(f"the value of {name} holds an unfolded line break: {value!r}")


def quotedata(data: str) -> str:
    """Returns the text with all line ends as CR LF and leading dots doubled (smtplib.quotedata)."""
    quoted = kernel.fix_eols(data).replace("\n.", "\n..")
    return f".{quoted}" if quoted.startswith(".") else quoted
