"""Runs that are interrupted at any moment, and what they told, held against what the server has.

    python -m tests.bulk.interrupts [--face bulk|send_many] [--runs N] [--tls] [--chunking]
        [--steps | --calls]

sends a few messages again and again, to a sink that logs what it accepts. Each run is interrupted
once: by SIGINT at a random moment; with --steps at a random one of the places in this package, and
in what it uses of the standard library, where Python looks for signals; with --calls before or
behind each call that sends, receives, waits or writes to the journal, one after the other. A
campaign of BulkSender has a journal, is interrupted, and is then resumed to its end; in doubt stays
in doubt.
What the server has must be told as accepted or in doubt, and be there once; what is told as
accepted must be there.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import itertools
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType, SimpleNamespace
from typing import Any, Literal, TypeAlias

import trustme

import csmtplib
from csmtplib import kernel
from csmtplib.bulk import BulkSender, Job, Journal
from csmtplib.drive import transactions
from csmtplib.protocol import server_url
from csmtplib.protocol.mail_object import MailObject
from csmtplib.protocol.outcome import State

from ..interrupting import LIBRARY, ByStep
from .servers.logging_sink import HOST, LoggingSink, running_logging_sink

Face: TypeAlias = Literal["bulk", "send_many"]
Way: TypeAlias = Literal["signals", "steps", "calls"]

MESSAGES = {"bulk": 150, "send_many": 60}
FEW = 6
CONNECTIONS = 2
MAX_IN_FLIGHT = 10
BODY = b"dots\r\n.\r\n" * 20
# For the sink to read what has come before the client closed.
UNDISTURBED_SECONDS = 0.5

# What is called of sockets, select and sqlite3.
_NAMES = """send sendall recv recv_into settimeout close poll select write read
execute executemany fetchone"""
CALLS = frozenset(_NAMES.split())

# Also what is interrupted in the midst of the library has to come to its end.
FILES = (str(Path(csmtplib.__path__[0])), *LIBRARY)

# A run that takes so long hangs.
PATIENCE_SECONDS = 240.0


# Who interrupts


class ByTimer:
    """Raises by a signal, a moment after the block has begun, wherever the main thread is then."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, max(self._seconds, 1e-6))

    def __exit__(self, *exception: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


class ByThread:
    """The same by another thread, which gets its turn when the main one waits for the system: so
    the signal comes in the midst of a call."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        if not self._over.wait(self._seconds):
            os.kill(os.getpid(), signal.SIGINT)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()


class ByCall:
    """Raises before or behind the call of the package, to the system or to SQLite, before which
    there were so many; `calls` counts them."""

    def __init__(self, at: float, *, behind: bool) -> None:
        self._at = at
        self._event = "c_return" if behind else "c_call"
        self.calls = 0
        self._fd: Any = getattr(transactions, "_fd", None)

    def __enter__(self) -> None:
        if self._fd is not None:
            # Its calls are made in C, which looks for signals behind them.
            fake: Any = SimpleNamespace(
                Connection=self._fd.Connection,
                run=self._around(self._fd.run),
                run_together=self._around(self._fd.run_together),
            )
            transactions._fd = fake  # type: ignore[attr-defined]
        sys.setprofile(self._profile)

    def __exit__(self, *exception: object) -> None:
        sys.setprofile(None)
        if self._fd is not None:
            transactions._fd = self._fd  # type: ignore[attr-defined]

    def _around(self, function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            if self._event == "c_call":
                self._count()
            function(*arguments)
            if self._event == "c_return":
                self._count()

        return call

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == self._event and getattr(argument, "__name__", "") in CALLS:
            self._count()

    def _count(self) -> None:
        self.calls += 1
        if self.calls >= self._at:
            self._at = float("inf")
            sys.setprofile(None)
            raise KeyboardInterrupt


Interrupter: TypeAlias = "ByTimer | ByThread | ByStep | ByCall"


# What is interrupted


@dataclass
class Run:
    """A few messages, to recipients that no other run has, and what was told of each."""

    number: int
    count: int
    url: str
    directory: Path
    told: dict[str, State] = field(default_factory=dict)
    was_interrupted: bool = False

    @property
    def addresses(self) -> list[str]:
        return [f"b{number}@r{self.number}.test" for number in range(self.count)]

    def messages(self) -> Iterator[MailObject]:
        for address in self.addresses:
            head = b"From: a@x.test\r\nMessage-ID: <%b>\r\n\r\n" % address.encode()
            yield MailObject("a@x.test", address, (head, BODY))

    def send(self, interrupter: Interrupter | None) -> None:
        """Sends, and is interrupted."""
        try:
            with ExitStack() as stack:
                if interrupter is not None:
                    stack.enter_context(interrupter)
                self.send_once()
        except KeyboardInterrupt:
            self.was_interrupted = True
        except RuntimeError as error:
            # What becomes of it in the midst of threading.Condition.wait(), as by Thread.start().
            if str(error) != "release unlocked lock":
                raise
            self.was_interrupted = True

    def send_once(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Do what comes after the interrupt."""

    def final(self) -> dict[str, str]:
        """The states in the end, by recipient."""
        return {address: state.value for address, state in self.told.items()}


class SendMany(Run):
    """Messages by the drop-in's send_many()."""

    def send_once(self) -> None:
        server = server_url.parse(self.url, {})
        make = csmtplib.SMTP if server.tls is not server_url.TLS.IMPLICIT else csmtplib.SMTP_SSL
        smtp = make(HOST, server.port, "client.test", timeout=30)
        try:
            for result in smtp.send_many(self.messages(), max_in_flight=MAX_IN_FLIGHT):
                for outcome in result.outcomes:
                    self.told[outcome.recipient] = outcome.state
        finally:
            smtp.close()


class Bulk(Run):
    """Messages by a BulkSender with a journal."""

    @property
    def journal(self) -> Path:
        return self.directory / f"journal{self.number}"

    def send_once(self) -> None:
        with (
            Journal(self.journal, group_rows=10, group_seconds=0.002) as journal,
            BulkSender(
                f"{self.url}?name=client.test&verify=no",
                connections=CONNECTIONS,
                max_in_flight=MAX_IN_FLIGHT,
                journal=journal,
            ) as sender,
        ):
            jobs = (Job(str(mail.to_addrs), mail) for mail in self.messages())
            for delivery in sender.send(jobs):
                self.told[delivery.recipient] = delivery.state

    def finish(self) -> None:
        self.send_once()

    def final(self) -> dict[str, str]:
        with Journal(self.journal) as journal:
            found = [entry for each in self.addresses for entry in journal.entries(each)]
        return {each.recipient: each.state for each in found}


FACES: dict[Face, type[Run]] = {"bulk": Bulk, "send_many": SendMany}


# What is found


@dataclass
class Account:
    """The findings in the end, over all runs, in recipients. untold: by a face that raises the
    interrupt. misreported: told, or recorded, otherwise than it is. doubled: messages beyond the
    first to a recipient."""

    runs: int = 0
    interrupted: int = 0
    failed: int = 0
    accepted: int = 0
    in_doubt: int = 0
    untold: int = 0
    misreported: int = 0
    doubled: int = 0

    @property
    def is_right(self) -> bool:
        return not (self.failed or self.misreported or self.doubled)


def account(sink: LoggingSink, runs: list[Run], failures: list[str]) -> Account:
    """Compares what was told with what the sink has logged."""
    time.sleep(UNDISTURBED_SECONDS)
    logged = Counter(address for address, _ in sink.accepted())
    found = Account(len(runs), sum(run.was_interrupted for run in runs), len(failures))
    for run in runs:
        final = run.final()
        for address in run.addresses:
            count = logged[address]
            state = final.get(address)
            found.accepted += state == "accepted"
            found.in_doubt += state == "in doubt"
            found.untold += state is None
            is_there = state == "accepted"
            is_wrong = state not in (None, "in doubt") and is_there != bool(count)
            # Also what was told before the interrupt stands.
            told = run.told.get(address)
            is_wrong |= told is State.ACCEPTED and not count
            found.misreported += is_wrong
            found.doubled += max(count - 1, 0)
            if is_wrong or count > 1:
                print(f"{address}: told {told}, in the end {state}, logged {count}")
    return found


def duration(run: Run) -> float:
    """Seconds of a run that nobody interrupts."""
    begun = time.perf_counter()
    run.send(None)
    return time.perf_counter() - begun


def steps_of(run: Run) -> int:
    """How often Python looks for signals in a run that nobody interrupts."""
    counting = ByStep(float("inf"), FILES)
    run.send(counting)
    return counting.steps


def interrupters(run: Run, again: Run, way: Way, every: int) -> Iterator[Interrupter]:
    """Those of a run, over all of it; two runs are made for how long one is.

    every: with calls, interrupt only at every so many of them, from a random one on.
    """
    chance = random.Random()
    if way == "calls":
        for behind in (False, True):
            counting = ByCall(float("inf"), behind=behind)
            (again if behind else run).send(counting)
            for at in range(chance.randint(1, every), counting.calls + 1, every):
                yield ByCall(at, behind=behind)
        return
    if way == "steps":
        steps = steps_of(run)
        print(f"Python looks for signals {steps} times in a run", flush=True)
        while True:
            yield ByStep(chance.randrange(1, steps), FILES)
    duration(run)
    seconds = duration(again)
    while True:
        yield ByTimer(chance.random() * seconds)
        yield ByThread(chance.random() * seconds)


def interrupt(
    directory: Path, face: Face, runs: int, way: Way, *, chunking: bool, tls: bool, every: int = 1
) -> Account:
    """Goes on until so many runs were interrupted before they had ended, or as many as there are
    calls; the account of all runs."""
    certificate = None
    if tls:
        certificate = directory / "certificate.pem"
        trustme.CA().issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(certificate)
    count = MESSAGES[face] if way == "signals" else FEW
    done: list[Run] = []
    failures: list[str] = []
    with running_logging_sink(
        directory / "log", chunking=chunking, certificate=certificate
    ) as sink:
        numbered = (FACES[face](number, count, sink.url, directory) for number in itertools.count())
        found = interrupters(next(numbered), next(numbered), way, every)
        left = runs
        if way != "calls":
            found = itertools.islice(found, 4 * runs)
        for interrupter in found:
            if way != "calls" and left == 0:
                break
            run = next(numbered)
            done.append(run)
            faulthandler.dump_traceback_later(PATIENCE_SECONDS, exit=True)
            try:
                run.send(interrupter)
                left -= run.was_interrupted
                # What was left open in the midst of its own end.
                gc.collect()
                run.finish()
            except Exception as error:
                failures.append(f"run {run.number}: {error!r}")
                print(failures[-1], flush=True)
                traceback.print_exception(error)
            finally:
                faulthandler.cancel_dump_traceback_later()
        return account(sink, done, failures)


def main() -> int:
    """Runs it from the command line; 1 where something was told that is not so, or doubled."""
    parser = argparse.ArgumentParser(prog="python -m tests.bulk.interrupts", description=__doc__)
    parser.add_argument("--face", choices=tuple(FACES), default="bulk")
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--chunking", action="store_true")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--steps", dest="way", action="store_const", const="steps")
    ways.add_argument("--calls", dest="way", action="store_const", const="calls")
    parser.set_defaults(way="signals")
    options = parser.parse_args()
    # In the background, shells have it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with TemporaryDirectory() as name:
        found = interrupt(
            Path(name),
            options.face,
            options.runs,
            options.way,
            chunking=options.chunking,
            tls=options.tls,
        )
    print(kernel.implementation, found)
    return int(not found.is_right)


if __name__ == "__main__":
    sys.exit(main())
