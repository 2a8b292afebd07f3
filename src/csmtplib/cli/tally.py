"""Where a run of a campaign stands, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .conventions import Exit

if TYPE_CHECKING:
    from ..bulk.sender import BulkSender, Status
    from .jobs import Fault


@dataclass(slots=True)
class Tally:
    """What BulkSender counts, and what it does not see.

    total: recipients of the campaign, None where that is not known. left_out: rows and messages
    that can't be sent as they are. unreadable: messages that could not be read.
    """

    sender: BulkSender
    total: int | None = None
    left_out: int = 0
    unreadable: int = 0

    @property
    def status(self) -> Status:
        """The sender's counts."""
        return self.sender.status

    @property
    def settled(self) -> int:
        """Recipients that have got a result in this run."""
        status = self.status
        return status.accepted + status.rejected + status.in_doubt

    @property
    def done(self) -> int:
        """Recipients of the total that nothing is to be done for any more."""
        status = self.status
        others = status.suppressed + status.settled_before + self.left_out + self.unreadable
        return self.settled + others

    def leave_out(self, fault: Fault) -> None:
        """Counts what is not sent for a fault of its own."""
        if fault.unreadable:
            self.unreadable += 1
        else:
            self.left_out += 1

    def states(self) -> list[tuple[int, str]]:
        """How many recipients are in which state."""
        status = self.status
        return [
            (status.accepted, "accepted"),
            (status.rejected, "rejected"),
            (status.waiting, "deferred"),
            (status.in_doubt, "in doubt"),
        ]

    def summary(self, destination: str, seconds: float) -> list[str]:
        """How a run went that took so long, in lines. destination: follows "3 recipients "."""
        status = self.status
        recipients = "1 recipient" if self.settled == 1 else f"{self.settled} recipients"
        unsent = status.queued
        if self.total is not None:
            unsent = max(self.total - self.done - status.waiting, 0)
        others = [
            (unsent, "not sent"),
            (status.settled_before, "settled before"),
            (status.suppressed, "suppressed"),
            (self.left_out, "left out"),
            (self.unreadable, "unreadable"),
        ]
        states = [*self.states(), *(other for other in others if other[0])]
        return [
            f"{recipients} {destination} in {seconds:.2f} s ({self.settled / seconds:.0f}/s)",
            ", ".join(f"{count} {what}" for count, what in states),
        ]

    def exit_code(self, counts: Mapping[str, int] | None) -> Exit:
        """The code of what most needs somebody: mail that may still get through comes first.

        counts: of the journal, whose campaign may have had other runs.
        """
        if counts is None:
            counts = {state: count for count, state in self.states()}
        if any(counts.get(state) for state in ("queued", "armed", "deferred", "in doubt")):
            return Exit.TEMPFAIL
        if self.unreadable:
            return Exit.NOINPUT
        if self.left_out:
            return Exit.DATAERR
        return Exit.REFUSED if counts.get("rejected") else Exit.OK
