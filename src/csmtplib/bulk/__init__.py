"""Many messages over many connections, with a journal that survives a crash.

from csmtplib.bulk import BulkSender

with BulkSender("submission://me@mail.example.org", journal="campaign.journal") as sender:
    for delivery in sender.send(messages):
        print(delivery.recipient, delivery.state.value, delivery.text)
"""

from __future__ import annotations

from .. import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .delivery import Delivery as Delivery
    from .delivery import Job as Job
    from .journal import Journal as Journal
    from .journal import JournalError as JournalError
    from .journal_view import JournalView as JournalView
    from .refusals import RunRefused as RunRefused
    from .retry import Retry as Retry
    from .sender import BulkSender as BulkSender
    from .status import Status as Status
    from .throttle import Rate as Rate

# Imported on first use: sqlite3 and ssl are slow to import.
_WHERE = {
    "BulkSender": "sender",
    "Delivery": "delivery",
    "Job": "delivery",
    "Journal": "journal",
    "JournalError": "journal",
    "JournalView": "journal_view",
    "Rate": "throttle",
    "Retry": "retry",
    "RunRefused": "refusals",
    "Status": "status",
}

__getattr__ = lazy.attributes(__name__, _WHERE)


__all__ = [
    "BulkSender",
    "Delivery",
    "Job",
    "Journal",
    "JournalError",
    "JournalView",
    "Rate",
    "Retry",
    "RunRefused",
    "Status",
]
