"""A run of a campaign: messages into a BulkSender, and what becomes of them told."""

from __future__ import annotations

import argparse
import io
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from typing import IO, TYPE_CHECKING

from ..bulk.delivery import Delivery, Job
from ..bulk.journal import Journal, JournalError
from ..bulk.retry import Retry
from ..bulk.sender import BulkSender
from ..protocol.outcome import State
from . import json_log, metrics, suppression
from .conventions import Exit, Failure, abandon_stdout, visible
from .destination import destination, no_session
from .display import Display
from .interrupt import Interrupt
from .jobs import Fault, Item
from .tally import Tally
from .ticker import Ticker

if TYPE_CHECKING:
    from .run_options import Run

# Results that went wrong and are told one by one, where not all are.
_TOLD = 20

_NOTICE = "stopping after those under way; Ctrl-C again leaves them in doubt"


class Sending:
    """Runs a BulkSender, and tells what comes of it.

    Whatever may be wrong with options and files shows before the first message is sent: making one
    raises Failure for it.
    """

    def __init__(
        self,
        url: str,
        run: Run,
        display: Display,
        options: argparse.Namespace,
        resources: ExitStack,
        *,
        id: str,
        journal: Journal | None,
        journal_name: str | None,
    ) -> None:
        """url: of the server. id: of the campaign. What is opened is closed with `resources`."""
        opening, self._destination = destination(url)
        self._display = display
        self._verbose: bool = options.verbose
        self._quiet: bool = options.quiet
        self._retry_for = run.retry_for
        self._journal = journal
        self._journal_name = journal_name
        server = resources.enter_context(opening)
        suppressed = frozenset() if run.suppress is None else suppression.read(run.suppress)
        try:
            self._sender = BulkSender(
                server,
                connections=run.connections,
                max_in_flight=run.max_in_flight,
                max_per_connection=run.max_per_connection,
                max_connection_seconds=run.max_connection_seconds,
                rate=run.rate,
                domain_rates=run.domain_rates,
                retry=Retry(first=run.retry_first, longest=max(Retry.longest, run.retry_first)),
                max_failed=run.max_failed,
                suppress=suppressed,
                journal=journal,
                in_doubt=run.in_doubt,
                chunking=run.chunking,
            )
        except ValueError as error:
            raise Failure(Exit.USAGE, str(error)) from error
        resources.enter_context(self._sender)
        self.tally = Tally(self._sender)
        self._log = None if options.log_json is None else _log(options.log_json, resources)
        self._textfile = None
        if options.metrics is not None:
            self._textfile = metrics.Textfile(options.metrics, self.tally, id)
        self._interrupt = Interrupt(stop=self._stop, signals=(signal.SIGINT, signal.SIGTERM))
        self._all_taken = False
        self._told = 0
        self._noticed = False
        self._idle_ticks = 0
        self._error: tuple[Exit, str] | None = None
        self._started = 0.0

    def send(self, items: Iterable[Item], total: int | None, *, stop_at_fault: bool) -> Exit:
        """Sends what is left of a campaign, and says how it went; the exit code.

        total: recipients, where that is known. stop_at_fault: whether an item that can't be sent
        ends the run; else it is left out. Raises Failure where there was no session to begin with.
        """
        self._started = time.perf_counter()
        self.tally.total = total
        calls: list[tuple[float, Callable[[], object]]] = [
            (self._display.seconds, self._display.tick),
            (0.0, self._look),
        ]
        if self._textfile is not None:
            calls.append((metrics.SECONDS, self._textfile.write))
        try:
            with self._interrupt, Ticker(*calls):
                self._display.begin(self.tally)
                self._deliver(self._jobs(items, stop_at_fault))
        finally:
            self._display.end()
        if self._textfile is not None and (reason := self._textfile.write()):
            self._display.say(reason)
        return self._finish()

    def _deliver(self, jobs: Iterator[Job]) -> None:
        try:
            with closing(self._sender.send(jobs)) as deliveries:
                for delivery in deliveries:
                    try:
                        self._tell(delivery)
                    except OSError as error:
                        self._stop_telling(error)
        except KeyboardInterrupt:
            self._error = self._code_of_interrupt, "interrupted"
        except JournalError as error:
            self._error = Exit.IOERR, str(error)
        except (OSError, ValueError) as error:
            reason = no_session(self._sender.server, error)
            if not (self.tally.settled or self.tally.status.waiting):
                raise Failure(reason.code, f"{reason}{self._again}") from error
            self._error = Exit.TEMPFAIL, str(reason)
        try:
            sys.stdout.flush()
        except OSError as error:
            self._stop_telling(error)

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
            # Not raised: what is under way is to be brought to its end.
            self._sender.stop(str(failure))
            return
        self._all_taken = True

    def _stop(self) -> None:
        self._sender.stop("interrupted")

    def _look(self) -> None:
        """Looks, now and then, whether there is something to say or to do."""
        if self._interrupt.requested and not self._noticed:
            self._noticed = True
            self._display.say(_NOTICE)
        status = self.tally.status
        seconds = time.perf_counter() - self._started
        is_idle = self._all_taken and not status.queued and status.waiting > 0
        self._idle_ticks = self._idle_ticks + 1 if is_idle and seconds >= self._retry_for else 0
        # What is due is no more waiting after a moment.
        if self._idle_ticks > 2:
            self._sender.stop(f"{status.waiting} deferred, and not tried again in this run")

    def _tell(self, delivery: Delivery) -> None:
        if self._log is not None:
            json_log.write(self._log, json_log.of_delivery(delivery))
        state = delivery.state
        if not self._verbose and (state is State.ACCEPTED or state is State.DEFERRED):
            return
        code = "" if delivery.code is None else f"{delivery.code} "
        line = f"{state.value}  {delivery.recipient}  {code}{delivery.text}  {delivery.key}"
        if self._verbose:
            print(visible(line))
        elif self._told < _TOLD:
            self._told += 1
            self._display.say(line)
            if self._told == _TOLD:
                self._display.say("more like these are counted, and told by --verbose")

    def _stop_telling(self, error: OSError) -> None:
        self._sender.stop(f"--log-json or standard output: {error.strerror or error}")
        if self._log is None or self._log is sys.stdout:
            abandon_stdout()
        self._log = None
        self._verbose = False
        self._told = _TOLD

    def _finish(self) -> Exit:
        stopped = self.tally.status.stopped
        if self._error is not None:
            stopped = self._error[1]
        if stopped is not None:
            self._display.say(f"stopped: {stopped}")
        if not self._quiet:
            seconds = time.perf_counter() - self._started
            for line in self.tally.summary(self._destination, seconds):
                self._display.say(line)
        if self._error is not None and self._error[0] is Exit.IOERR:
            return Exit.IOERR
        code = self.tally.exit_code(None if self._journal is None else self._journal.counts())
        if self._error is not None:
            code = self._error[0]
        elif self._interrupt.requested:
            code = self._code_of_interrupt
        elif stopped is not None:
            code = Exit.TEMPFAIL
        self._point_to_journal(code)
        return code

    def _point_to_journal(self, code: Exit) -> None:
        name = self._journal_name
        if name is None or self._quiet:
            return
        if code is Exit.TEMPFAIL:
            self._display.say(f"to send the rest: csmtplib resume {name}")
        self._display.say(f"all results: csmtplib report {name}")

    @property
    def _again(self) -> str:
        """What follows the reason why nothing was sent."""
        name = self._journal_name
        return "" if name is None else f"; to try it again: csmtplib resume {name}"

    @property
    def _code_of_interrupt(self) -> Exit:
        return Exit.INTERRUPTED if self._journal is None else Exit.TEMPFAIL


def _log(name: str, resources: ExitStack) -> IO[str]:
    if name == "-":
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Who reads it from a pipe wants to see results as they come.
            sys.stdout.reconfigure(line_buffering=True)
        return sys.stdout
    try:
        file = open(name, "a", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    except OSError as error:
        raise Failure(Exit.IOERR, f"--log-json {name}: {error.strerror or error}") from error
    resources.callback(_close, file)
    return file


def _close(file: IO[str]) -> None:
    # What it could not write has been told.
    with suppress(OSError):
        file.close()
