"""Mail from asyncio programs.

    import csmtplib.aio as aiosmtplib

has the names and the behaviour of aiosmtplib; its exceptions are also smtplib's. In addition there
are SMTP.send_many(), LMTP, SMTPPool and BulkSender.
"""

from __future__ import annotations

from .. import lazy
from .api import send
from .errors import (
    SMTPAuthenticationError,
    SMTPConnectError,
    SMTPConnectResponseError,
    SMTPConnectTimeoutError,
    SMTPDataError,
    SMTPException,
    SMTPHeloError,
    SMTPNotSupported,
    SMTPReadTimeoutError,
    SMTPRecipientRefused,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
    SMTPTimeoutError,
    result_of,
    results_of,
)
from .pool import SMTPPool
from .response import SMTPResponse, SMTPStatus
from .smtp import LMTP, SMTP
from .swap import install
from .typing import SMTPTokenGenerator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .bulk import BulkSender as BulkSender

# Imported on first use: sqlite3 is slow to import.
__getattr__ = lazy.attributes(__name__, {"BulkSender": "bulk"})

__all__ = [
    "LMTP",
    "SMTP",
    "BulkSender",
    "SMTPAuthenticationError",
    "SMTPConnectError",
    "SMTPConnectResponseError",
    "SMTPConnectTimeoutError",
    "SMTPDataError",
    "SMTPException",
    "SMTPHeloError",
    "SMTPNotSupported",
    "SMTPPool",
    "SMTPReadTimeoutError",
    "SMTPRecipientRefused",
    "SMTPRecipientsRefused",
    "SMTPResponse",
    "SMTPResponseException",
    "SMTPSenderRefused",
    "SMTPServerDisconnected",
    "SMTPStatus",
    "SMTPTimeoutError",
    "SMTPTokenGenerator",
    "install",
    "result_of",
    "results_of",
    "send",
]
