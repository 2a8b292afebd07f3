"""A drop-in for the standard library's smtplib with its hot paths in C.

    import csmtplib as smtplib

has the names, the behaviour and the exception classes (the very same objects) of smtplib.
`install()` replaces smtplib for a whole program; `implementation` says whether the compiled kernels
("c") or their Python twins ("python") are in use.
"""

from __future__ import annotations

# Programs reach modules through smtplib ("smtplib.socket", "smtplib.ssl"), and patch them there.
import base64 as base64
import copy as copy
import datetime as datetime
import email as email
import email.base64mime
import email.generator
import email.message
import email.utils
import hmac as hmac
import io as io
import re as re
import socket as socket
import sys as sys
from smtplib import (
    SMTPAuthenticationError,
    SMTPConnectError,
    SMTPDataError,
    SMTPException,
    SMTPHeloError,
    SMTPNotSupportedError,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
)

from . import kernel, lazy
from .kernel import implementation as implementation
from .protocol import envelope, features, limits
from .protocol.message import quotedata

try:
    import ssl as ssl
except ImportError:
    _have_ssl = False
else:
    _have_ssl = True

try:
    hmac.digest(b"", b"", "md5")
except ValueError:
    _have_cram_md5_support = False
else:
    _have_cram_md5_support = True

quoteaddr = envelope.quoteaddr
encode_base64 = email.base64mime.body_encode
_addr_only = envelope.address_only
_fix_eols = kernel.fix_eols
_quote_periods = kernel.quote_periods

CRLF = envelope.CRLF
bCRLF = CRLF.encode()
OLDSTYLE_AUTH = features.OLDSTYLE_AUTH
_MAXLINE = limits.REPLY_LINE_BYTES
_MAXCHALLENGE = 5

# Imported last, as the clients read the names above.
from .client.connection import SMTP_PORT as SMTP_PORT  # noqa: E402
from .client.lmtp import LMTP as LMTP  # noqa: E402
from .client.lmtp import LMTP_PORT as LMTP_PORT  # noqa: E402
from .client.smtp import SMTP as SMTP  # noqa: E402
from .client.smtp_ssl import SMTP_SSL_PORT as SMTP_SSL_PORT  # noqa: E402
from .swap import install as install  # noqa: E402
from .swap import uninstall as uninstall  # noqa: E402

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .protocol.mail_object import DSN as DSN
    from .protocol.mail_object import MailObject as MailObject
    from .protocol.outcome import Outcome as Outcome
    from .protocol.outcome import State as State
    from .protocol.result import Result as Result

# Imported on first use: only send_many() needs them, and they take longer to import than smtplib.
_LATER = {
    "DSN": "protocol.mail_object",
    "MailObject": "protocol.mail_object",
    "Outcome": "protocol.outcome",
    "Result": "protocol.result",
    "State": "protocol.outcome",
}

__getattr__ = lazy.attributes(__name__, _LATER)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


# As in the stdlib, so that "from smtplib import *" gives the same names.
__all__ = [
    "SMTP",
    "SMTPAuthenticationError",
    "SMTPConnectError",
    "SMTPDataError",
    "SMTPException",
    "SMTPHeloError",
    "SMTPNotSupportedError",
    "SMTPRecipientsRefused",
    "SMTPResponseException",
    "SMTPSenderRefused",
    "SMTPServerDisconnected",
    "quoteaddr",
    "quotedata",
]

if _have_ssl:
    from .client.smtp_ssl import SMTP_SSL as SMTP_SSL

    __all__ += ["SMTP_SSL"]
