"""A run of a campaign: sends its messages with a BulkSender, and reports the results."""

from __future__ import annotations

import argparse
import io
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from smtplib import SMTPResponseException
from typing import IO, TYPE_CHECKING

from ..bulk.delivery import Delivery, Job
from ..bulk.journal import Journal, JournalError
from ..bulk.retry import Retry
from ..bulk.sender import BulkSender
from ..protocol.outcome import State
from . import metrics, results
from .addressing import read_suppressed
from .colours import coloured
from .conventions import Exit, Failure, doubt_advice, resume_advice, visible
from .destination import destination, no_session, sink_advice
from .display import Display, Ticker, WaitReporter
from .interrupt import Interrupt
from .jobs import Fault, Item
from .streams import abandon_stdout
from .tally import Tally

if TYPE_CHECKING:
    from .options import RunOptions

# How many failed recipients are reported one by one, unless all results are (--verbose).
_MAX_REPORTED = 20

_NOTICE = "stopping after the messages in progress; press Ctrl-C again to abort them"


class CampaignRun:
    """A run of a BulkSender, with its display, log, metrics, signals and exit code.

    Options and files are checked before the first message is sent: the constructor raises Failure.
    """

    def __init__(
        self,
        url: str,
        run_options: RunOptions,
        display: Display,
        options: argparse.Namespace,
        resources: ExitStack,
        *,
        id: str,
        journal: Journal | None,
        journal_name: str | None,
    ) -> None:
        """url: of the server. id: of the campaign. resources: closes what is opened."""
        opening, self._destination = destination(url)
        self._url = url
        self._display = display
        self._verbose: bool = options.verbose
        self._quiet: bool = options.quiet
        self._retry_for = run_options.retry_for
        self._journal = journal
        self._journal_name = journal_name
        server = resources.enter_context(opening)
        suppressed = (
            frozenset() if run_options.suppress is None else read_suppressed(run_options.suppress)
        )
        try:
            self._sender = BulkSender(
                server,
                connections=run_options.connections,
                max_in_flight=run_options.max_in_flight,
                max_per_connection=run_options.max_per_connection,
                max_connection_seconds=run_options.max_connection_seconds,
                rate=run_options.rate,
                domain_rates=run_options.domain_rates,
                retry=Retry(
                    first=run_options.retry_first,
                    longest=max(Retry.longest, run_options.retry_first),
                ),
                max_failed=run_options.max_failed,
                suppress=suppressed,
                journal=journal,
                in_doubt=run_options.in_doubt,
                chunking=run_options.chunking,
            )
        except ValueError as error:
            raise Failure(Exit.USAGE, str(error)) from error
        resources.enter_context(self._sender)
        self.tally = Tally(self._sender)
        self._log_name: str | None = options.log_json
        self._log = None if options.log_json is None else _log(options.log_json, resources)
        self._textfile = None
        if options.metrics is not None:
            self._textfile = metrics.Textfile(options.metrics, self.tally, id)
        self._interrupt = Interrupt(stop=self._stop, signals=(signal.SIGINT, signal.SIGTERM))
        self._waits = WaitReporter(display.say)
        self._all_taken = False
        self._reported = 0
        self._noticed = False
        self._idle_ticks = 0
        self._error: tuple[Exit, str] | None = None
        self._started = self._seconds = 0.0

    def send(self, items: Iterable[Item], total: int | None, *, stop_at_fault: bool) -> Exit:
        """Send what is left of a campaign, print the summary, and return the exit code. Call this
        once.

        total: recipients, if known. stop_at_fault: whether an item that can't be sent ends the run;
        else it is skipped. Raises Failure if there is no session to begin with.
        """
        self._started = time.perf_counter()
        self.tally.total = total
        calls: list[tuple[float, Callable[[], object]]] = [
            (self._display.seconds, self._display.tick),
            (0.0, self._tick),
        ]
        if self._textfile is not None:
            calls.append((metrics.SECONDS, self._textfile.write))
        try:
            with self._interrupt, Ticker(*calls):
                self._display.begin(self.tally)
                self._deliver(self._jobs(items, stop_at_fault))
        finally:
            self._display.end()
            self._seconds = time.perf_counter() - self._started
            # Closed first, so that the last metrics show no open connection.
            self._sender.close()
            if self._textfile is not None and (reason := self._textfile.write()):
                self._display.say(reason)
        return self._finish()

    def _deliver(self, jobs: Iterator[Job]) -> None:
        try:
            with closing(self._sender.send(jobs)) as deliveries:
                for delivery in deliveries:
                    self._record(delivery)
                    self._report(delivery)
        except KeyboardInterrupt:
            self._error = self._code_of_interrupt, "interrupted"
        except JournalError as error:
            self._error = Exit.IOERR, str(error)
        except (OSError, ValueError) as error:
            reason = no_session(self._sender.server, error)
            if not (self.tally.completed or self.tally.status.waiting):
                raise Failure(reason.code, f"{reason}{self._again}") from error
            # An unreachable server may be back when the run is resumed; a refusal names what has to
            # be corrected first.
            is_refused = isinstance(error, SMTPResponseException) and error.smtp_code >= 500
            self._error = reason.code if is_refused else Exit.TEMPFAIL, str(reason)
        try:
            sys.stdout.flush()
        except OSError as error:
            self._give_up_stdout(error)

    def _jobs(self, items: Iterable[Item], stop_at_fault: bool) -> Iterator[Job]:
        try:
            for item in items:
                if not isinstance(item, Fault):
                    yield item
                    continue
                self._display.say(f"{item.where}: {item.reason}")
                self.tally.leave_out(item)
                if stop_at_fault:
                    self._sender.stop(f"{item.where} can't be sent")
                    return
        except Failure as failure:
            # Not raised: the messages in progress are to finish.
            self._sender.stop(str(failure))
            return
        self._all_taken = True

    def _stop(self) -> None:
        self._sender.stop("interrupted", at_once=self._interrupt.insisted)

    def _tick(self) -> None:
        """Report an interrupt and long waits, and stop the run if only deferred recipients are left
        after --retry-for. Called at intervals in another thread."""
        if self._interrupt.requested and not self._noticed:
            self._noticed = True
            self._display.say(_NOTICE)
        if not self._quiet:
            self._waits.report(self._sender.waits(), time.monotonic())
        status = self.tally.status
        seconds = time.perf_counter() - self._started
        is_idle = self._all_taken and not status.queued and status.waiting > 0
        self._idle_ticks = self._idle_ticks + 1 if is_idle and seconds >= self._retry_for else 0
        # A recipient that is due leaves `waiting` within a tick or two.
        if self._idle_ticks > 2:
            self._sender.stop(f"{status.waiting} deferred, not retried in this run")

    def _record(self, delivery: Delivery) -> None:
        """Write a result to the log."""
        if self._log is None:
            return
        try:
            results.write_json(self._log, results.delivery_fields(delivery))
        except OSError as error:
            if self._log is sys.stdout:
                self._give_up_stdout(error)
            else:
                self._sender.stop(f"--log-json {self._log_name}: {error.strerror or error}")
                self._log = None

    def _report(self, delivery: Delivery) -> None:
        """Print a result if --verbose is given, or if it is rejected or in doubt."""
        state = delivery.state
        if not self._verbose and (state is State.ACCEPTED or state is State.DEFERRED):
            return
        code = "" if delivery.code is None else f"{delivery.code} "
        shown = results.state_of(delivery)
        line = f"{shown}  {delivery.recipient}  {code}{delivery.text}  {delivery.key}"
        if self._verbose:
            try:
                print(coloured(visible(line), sys.stdout))
            except OSError as error:
                self._give_up_stdout(error)
        elif self._reported < _MAX_REPORTED:
            self._reported += 1
            self._display.say(line)
            if self._reported == _MAX_REPORTED:
                self._display.say("more failures are only counted; --verbose prints every result")

    def _give_up_stdout(self, error: OSError) -> None:
        self._sender.stop(f"standard output: {error.strerror or error}")
        abandon_stdout()
        if self._log is sys.stdout:
            self._log = None
        self._verbose = False
        # The run ends. Standard error must not get what was meant for standard output.
        self._reported = _MAX_REPORTED

    def _finish(self) -> Exit:
        stopped = self.tally.status.stopped
        if self._error is not None:
            stopped = self._error[1]
        if stopped is not None:
            self._display.say(f"stopped: {stopped}")
        if not self._quiet:
            for line in self.tally.summary(self._destination, self._seconds):
                self._display.say(line)
        if self._verbose:
            for line in self._sender.learned:
                self._display.say(f"learned about the server: {line}")
        if self._error is not None and self._error[0] is Exit.IOERR:
            return Exit.IOERR
        counts = None if self._journal is None else self._journal.counts()
        is_rest = self._is_rest(counts)
        if not self._quiet:
            self._advise(counts, is_rest=is_rest)
        if self._interrupt.requested and self._journal is None:
            return Exit.INTERRUPTED
        code = self.tally.exit_code(counts)
        if is_rest:
            code = Exit.TEMPFAIL
        if self._error is not None and self._error[0] is not Exit.TEMPFAIL:
            code = self._error[0]
        return code

    def _is_rest(self, counts: Mapping[str, int] | None) -> bool:
        """Return whether there is something left to send, for this run or another. counts: those of
        the journal."""
        status = self.tally.status
        if status.queued or status.waiting:
            return True
        is_known = self.tally.total is not None and not self.tally.left_out
        if not self._all_taken and (self.tally.unsent or not is_known):
            return True
        return any((counts or {}).get(state) for state in ("queued", "sending", "deferred"))

    def _advise(self, counts: Mapping[str, int] | None, *, is_rest: bool) -> None:
        """Print what to do next."""
        name = self._journal_name
        if name is not None and is_rest:
            self._display.say(resume_advice(name))
        count = self.tally.in_doubt if counts is None else counts.get("in doubt", 0)
        for line in doubt_advice(count, name):
            self._display.say(line)
        if name is not None:
            self._display.say(f"all results: csmtplib report {shlex.quote(name)}")
        status = self.tally.status
        if status.accepted and not is_rest:
            is_resumed = status.completed_before or status.in_doubt_before
            can_resume = name is not None and not is_resumed
            for line in sink_advice(self._url, can_resume=can_resume):
                self._display.say(line)

    @property
    def _again(self) -> str:
        """The advice after the reason why nothing was sent."""
        name = self._journal_name
        return "" if name is None else f"; to retry: csmtplib resume {shlex.quote(name)}"

    @property
    def _code_of_interrupt(self) -> Exit:
        return Exit.INTERRUPTED if self._journal is None else Exit.TEMPFAIL


def _log(name: str, resources: ExitStack) -> IO[str]:
    if name == "-":
        if isinstance(sys.stdout, io.TextIOWrapper):
            # The reader of a pipe wants results as they come.
            sys.stdout.reconfigure(line_buffering=True)
        return sys.stdout
    try:
        file = open(name, "a", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    except OSError as error:
        raise Failure(Exit.IOERR, f"--log-json {name}: {error.strerror or error}") from error
    resources.callback(_close, file)
    return file


def _close(file: IO[str]) -> None:
    # A failed write was reported when it happened.
    with suppress(OSError):
        file.close()
