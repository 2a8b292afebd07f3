"""What the reader of a run is told: outcomes, a progress bar, a summary, the exit code."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..protocol.outcome import Outcome, State
from .conventions import Exit, visible
from .sources import Mail

if TYPE_CHECKING:
    from tqdm import tqdm

# Messages from which on a run takes long enough to be watched.
_LONG = 200
_BAR_SECONDS = 0.5


class Report:
    """Counts what becomes of messages and says it: to standard output each outcome, where that is
    asked for; to standard error what went wrong, the progress and the summary.

    `destination` follows "3 messages " in the summary.
    """

    def __init__(self, destination: str, *, verbose: bool, quiet: bool) -> None:
        self._destination = destination
        self._verbose = verbose
        self._quiet = quiet
        self._started = time.perf_counter()
        self._bar: tqdm[Mail] | None = None
        self._sent = 0
        self._unsendable = 0
        self._unreadable = 0
        self._outcomes: Counter[State] = Counter()
        self._stopped = False

    def watch(self, mails: Iterable[Mail], count: int) -> Iterable[Mail]:
        """The mails, with a progress bar where there is somebody to watch and they are many."""
        lines_instead = self._verbose and sys.stdout.isatty()
        if count < _LONG or self._quiet or lines_instead or not sys.stderr.isatty():
            return mails
        try:
            from tqdm import tqdm
        except ImportError:
            return mails
        # As an iterator, it looks at the clock only now and then.
        self._bar = tqdm(
            mails, total=count, unit=" messages", mininterval=_BAR_SECONDS, leave=False
        )
        return self._bar

    def settled(self, mail: Mail, outcomes: Sequence[Outcome]) -> None:
        """Takes the outcomes of a message. Raises OSError where standard output fails."""
        self._sent += 1
        self._outcomes.update(outcome.state for outcome in outcomes)
        for outcome in outcomes:
            said = outcome.reply or outcome.fault
            line = f"{outcome.state.value}  {outcome.recipient}  {said}  {mail.origin}"
            if self._verbose:
                print(visible(line), flush=True)
            elif outcome.state is not State.ACCEPTED:
                self._say(line)

    def unsendable(self, mail: Mail, reason: Exception) -> None:
        """Takes a message that can't be sent as it is."""
        self._unsendable += 1
        self._say(f"{mail.origin}: {reason}")

    def unreadable(self, mail: Mail, reason: OSError) -> None:
        """Takes a message that could not be read when its turn came."""
        self._unreadable += 1
        self._say(f"{mail.origin}: {reason.strerror or reason}")

    def stopped(self, where: str, reason: str) -> None:
        """Takes the end of the run before its time, "before" or "after" a message."""
        self._stopped = True
        self._say(f"stopped {where}: {reason}")

    def end_progress(self) -> None:
        """Takes the progress bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def summarise(self) -> None:
        """Says what became of all messages, where it is not to be quiet."""
        if self._quiet:
            return
        seconds = time.perf_counter() - self._started
        recipients = ", ".join(f"{self._outcomes[state]} {state.value}" for state in State)
        parts = [
            f"{_messages(self._sent)} {self._destination} in {seconds:.2f} s "
            f"({self._sent / seconds:.0f}/s)",
            f"recipients: {recipients}",
        ]
        if self._unsendable:
            parts.append(f"{_messages(self._unsendable)} unsendable")
        if self._unreadable:
            parts.append(f"{_messages(self._unreadable)} unreadable")
        self._say("; ".join(parts))

    @property
    def exit_code(self) -> Exit:
        """The code of what most needs somebody: mail that may still get through comes first."""
        if self._stopped or self._outcomes[State.DEFERRED] or self._outcomes[State.IN_DOUBT]:
            return Exit.TEMPFAIL
        if self._unreadable:
            return Exit.NOINPUT
        if self._unsendable:
            return Exit.DATAERR
        return Exit.REFUSED if self._outcomes[State.REJECTED] else Exit.OK

    def _say(self, line: str) -> None:
        shown = f"csmtplib: {visible(line)}"
        if self._bar is None:
            print(shown, file=sys.stderr)
        else:
            self._bar.write(shown, file=sys.stderr)


def _messages(count: int) -> str:
    return f"{count} message" if count == 1 else f"{count} messages"
