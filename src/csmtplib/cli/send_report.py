"""The report of `csmtplib send`: outcomes, progress bar, summary, exit code."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..protocol.outcome import Outcome, State
from .colours import coloured
from .conventions import Exit, doubt_advice, visible
from .sources import Mail

if TYPE_CHECKING:
    from tqdm import tqdm

# From this many messages on, a run takes long enough for a progress bar.
_LONG = 200
_BAR_SECONDS = 0.5


class Report:
    """Counts the outcomes of messages, and prints them: with --verbose each one on standard output;
    on standard error failures, progress and the summary.

    destination: follows "3 messages " in the summary.
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
        self._stopped: Exit | None = None

    def watch(self, mails: Iterable[Mail], count: int) -> Iterable[Mail]:
        """Return the mails; iterating over many shows a progress bar on a terminal."""
        lines_instead = self._verbose and sys.stdout.isatty()
        if count < _LONG or self._quiet or lines_instead or not sys.stderr.isatty():
            return mails
        try:
            from tqdm import tqdm
        except ImportError:
            return mails
        # As an iterator, tqdm does not look at the clock for each item.
        self._bar = tqdm(
            mails, total=count, unit=" messages", mininterval=_BAR_SECONDS, leave=False
        )
        return self._bar

    def completed(self, mail: Mail, outcomes: Sequence[Outcome]) -> None:
        """Record the outcomes of a message. Raises OSError if standard output fails."""
        self._sent += 1
        self._outcomes.update(outcome.state for outcome in outcomes)
        for outcome in outcomes:
            said = outcome.reply or outcome.fault
            line = f"{outcome.state.value}  {outcome.recipient}  {said}  {mail.origin}"
            if self._verbose:
                print(coloured(visible(line), sys.stdout), flush=True)
            elif outcome.state is not State.ACCEPTED:
                self.say(line)

    def unsendable(self, mail: Mail, reason: Exception) -> None:
        """Record a message that can't be sent as it is."""
        self._unsendable += 1
        self.say(f"{mail.origin}: {reason}")

    def unreadable(self, mail: Mail, reason: OSError) -> None:
        """Record a message that could not be read when its turn came."""
        self._unreadable += 1
        self.say(f"{mail.origin}: {reason.strerror or reason}")

    def stopped(self, where: str, reason: str, code: Exit = Exit.TEMPFAIL) -> None:
        """Record the early end of the run. where: "before" or "after" a message."""
        self._stopped = code
        self.say(f"stopped {where}: {reason}")

    def end_progress(self) -> None:
        """Remove the progress bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def summarise(self) -> None:
        """Print the counts of all messages, unless --quiet is given."""
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
        self.say("; ".join(parts))
        for line in doubt_advice(self._outcomes[State.IN_DOUBT], None):
            self.say(line)

    @property
    def exit_code(self) -> Exit:
        """The exit code of the most urgent state: mail that can still get through comes first."""
        if self._stopped is not None:
            # The code of a refused session means that nothing was sent.
            return Exit.TEMPFAIL if self._outcomes[State.ACCEPTED] else self._stopped
        if self._outcomes[State.DEFERRED]:
            return Exit.TEMPFAIL
        if self._outcomes[State.IN_DOUBT]:
            return Exit.IN_DOUBT
        if self._unreadable:
            return Exit.NOINPUT
        if self._unsendable:
            return Exit.DATAERR
        return Exit.REFUSED if self._outcomes[State.REJECTED] else Exit.OK

    def say(self, line: str) -> None:
        """Print a line above the progress bar. May be called in another thread."""
        shown = coloured(f"csmtplib: {visible(line)}", sys.stderr)
        if self._bar is None:
            print(shown, file=sys.stderr)
        else:
            self._bar.write(shown, file=sys.stderr)


def _messages(count: int) -> str:
    return f"{count} message" if count == 1 else f"{count} messages"
