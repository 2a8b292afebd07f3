"""The counts of a campaign's run, its summary and exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .conventions import Exit

if TYPE_CHECKING:
    from ..bulk.sender import BulkSender
    from ..bulk.status import Status
    from .jobs import Fault


@dataclass(slots=True)
class Tally:
    """The counts of BulkSender, and of what it does not see.

    total: recipients of the campaign, None if unknown. left_out: rows and messages that can't be
    sent as they are. unreadable: messages that could not be read.
    """

    sender: BulkSender
    total: int | None = None
    left_out: int = 0
    unreadable: int = 0

    @property
    def status(self) -> Status:
        """The counts of the sender."""
        return self.sender.status

    @property
    def completed(self) -> int:
        """Recipients that got a result in this run."""
        status = self.status
        return status.accepted + status.rejected + status.in_doubt

    @property
    def in_doubt(self) -> int:
        """Recipients in doubt, of this run and of earlier ones."""
        return self.status.in_doubt + self.status.in_doubt_before

    @property
    def done(self) -> int:
        """Recipients of the total that are finished with."""
        status = self.status
        before = status.completed_before + status.in_doubt_before
        return self.completed + before + status.suppressed + self.left_out + self.unreadable

    @property
    def unsent(self) -> int:
        """Recipients that nothing was sent to, as far as is known."""
        status = self.status
        if self.total is None:
            return status.queued
        return max(self.total - self.done - status.waiting, 0)

    def leave_out(self, fault: Fault) -> None:
        """Count a row or message that is not sent because of a fault."""
        if fault.unreadable:
            self.unreadable += 1
        else:
            self.left_out += 1

    def states(self) -> list[tuple[int, str]]:
        """Return the number of recipients in each state."""
        status = self.status
        return [
            (status.accepted, "accepted"),
            (status.rejected, "rejected"),
            (status.waiting, "deferred"),
            (self.in_doubt, "in doubt"),
        ]

    def summary(self, destination: str, seconds: float) -> list[str]:
        """Return the summary of a run, in lines. destination: follows "3 recipients "."""
        status = self.status
        others = [
            (self.unsent, "not sent"),
            (status.completed_before, "completed before"),
            (status.suppressed, "suppressed"),
            (self.left_out, "left out"),
            (self.unreadable, "unreadable"),
        ]
        states = [*self.states(), *(other for other in others if other[0])]
        count, completed = sum(count for count, _ in states), self.completed
        recipients = f"{count} recipient" if count == 1 else f"{count} recipients"
        if completed != count:
            recipients = f"{completed} of {recipients}"
        return [
            f"{recipients} {destination} in {seconds:.2f} s ({self.completed / seconds:.0f}/s)",
            ", ".join(f"{count} {what}" for count, what in states),
        ]

    def exit_code(self, counts: Mapping[str, int] | None) -> Exit:
        """Return the exit code of the most urgent state: mail that can still get through comes
        first.

        counts: those of the journal, which include other runs of the campaign.
        """
        if counts is None:
            counts = {state: count for count, state in self.states()}
        if any(counts.get(state) for state in ("queued", "sending", "deferred")):
            return Exit.TEMPFAIL
        if counts.get("in doubt"):
            return Exit.IN_DOUBT
        if self.unreadable:
            return Exit.NOINPUT
        if self.left_out:
            return Exit.DATAERR
        return Exit.REFUSED if counts.get("rejected") else Exit.OK
