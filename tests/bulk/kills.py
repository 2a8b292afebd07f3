"""A campaign whose process is killed again and again, and goes on each time.

    python -m tests.bulk.kills [--recipients N] [--kills N] [--in-doubt hold|resend]
        [--chunking | --sequential] [--calls]

starts a sink that logs what it accepts, kills the sender (SIGKILL) at random moments until that was
done so often, lets the last one come to its end, and compares journal and log. The sink offers
PIPELINING; with --chunking CHUNKING, too; with --sequential neither, so that each kill can leave
only one message per connection in doubt. With --calls, and killed_at_a_call.c preloaded, one small
campaign after the other is killed once: before its first call that writes, syncs, sends or
receives, before its second one, and so on.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from csmtplib.bulk import BulkSender, Job, Journal
from csmtplib.protocol.mail_object import MailObject

from .servers.logging_sink import LoggingSink, running_logging_sink

CONNECTIONS = 4
MAX_IN_FLIGHT = 5
SECONDS = 600.0
FEW = 4
BODY = b"dots\r\n.\r\n" * 20

InDoubt = Literal["hold", "resend"]
Mode = Literal["pipelining", "chunking", "sequential"]


@dataclass(frozen=True)
class Campaign:
    """Which recipients there are, and what is done with those that are in doubt."""

    url: str
    journal: Path
    recipients: int
    in_doubt: InDoubt

    def jobs(self) -> Iterator[Job]:
        """The messages: the same in every process."""
        for number, address in enumerate(self.addresses()):
            head = b"From: a@x.test\r\nX-Key: %d\r\nMessage-ID: <%d@x.test>\r\n\r\n"
            yield Job(number, MailObject("a@x.test", address, (head % (number, number), BODY)))

    def addresses(self) -> list[str]:
        """The recipients, whom no other campaign has."""
        return [f"b{number}@{self.journal.name}.test" for number in range(self.recipients)]

    def send(self) -> None:
        """One life of the sender."""
        with (
            Journal(self.journal, group_rows=10) as journal,
            BulkSender(
                f"{self.url}?name=client.test",
                connections=CONNECTIONS,
                max_in_flight=MAX_IN_FLIGHT,
                journal=journal,
                in_doubt=self.in_doubt,
            ) as sender,
        ):
            for _ in sender.send(self.jobs()):
                pass

    def start(self, kill_after: int = -1) -> int:
        """A life in a process of its own, which has nothing to import; its id. kill_after: so many
        calls."""
        process = os.fork()
        if process == 0:
            try:
                if kill_after >= 0:
                    ctypes.CDLL(None).kill_after(ctypes.c_long(kill_after))
                self.send()
            except BaseException as error:
                print(f"the sender failed: {error!r}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        return process


@dataclass(frozen=True)
class Account:
    """The findings in the end. doubled: messages beyond the first to a recipient. unaccounted:
    recipients that have none and are not in doubt, or the other way round."""

    mode: Mode
    kills: int
    accepted: int
    in_doubt: int
    doubled: int
    unaccounted: int

    def is_right(self, in_doubt: InDoubt) -> bool:
        """Whether nothing is lost, and no more is doubled or in doubt than may be."""
        is_bounded = self.in_doubt <= self.most_in_doubt(in_doubt)
        is_bounded = is_bounded and self.doubled <= self.most_doubled(in_doubt)
        return self.unaccounted == 0 and is_bounded

    def most_in_doubt(self, in_doubt: InDoubt) -> float:
        """How many may be left in doubt, by the policy for that. Sequentially it is one for each
        connection (T13); else it depends on how fast the server is."""
        if in_doubt == "resend":
            return 0
        return self.kills * CONNECTIONS if self.mode == "sequential" else math.inf

    def most_doubled(self, in_doubt: InDoubt) -> int:
        """How many may be doubled, by the policy for what is in doubt."""
        each = 1 if self.mode == "sequential" else MAX_IN_FLIGHT
        return self.kills * CONNECTIONS * each if in_doubt == "resend" else 0


def ended(process: int) -> bool:
    """Waits for a sender; whether it was killed. Raises AssertionError where it has failed."""
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.waitstatus_to_exitcode(status) != 0:
        raise AssertionError("the sender failed")
    return False


def wait_until_sent(log: Path, size: int, process: int) -> None:
    """Waits until the sink's log is so long, or the sender has ended."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if log.exists() and log.stat().st_size >= size:
            return
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.0002)
    raise TimeoutError("the campaign does not go on")


@contextmanager
def running_sink(directory: Path, mode: Mode) -> Iterator[LoggingSink]:
    """A sink that offers what the mode takes."""
    log, chunking, pipelining = directory / "log", mode == "chunking", mode != "sequential"
    with running_logging_sink(log, chunking=chunking, pipelining=pipelining) as sink:
        yield sink


def kill_at_random(
    directory: Path, recipients: int, kills: int, in_doubt: InDoubt, mode: Mode
) -> Account:
    """Kills and resumes one campaign so often; the account of it."""
    chance = random.Random()
    with running_sink(directory, mode) as sink:
        campaign = Campaign(sink.url, directory / "journal", recipients, in_doubt)
        done = 0
        for _ in range(kills):
            process = campaign.start()
            sent = sink.log.stat().st_size if sink.log.exists() else 0
            # As many lives as kills, over the whole campaign; some end before their first message.
            share = 16 * recipients // kills
            wait_until_sent(sink.log, sent + chance.randrange(share), process)
            time.sleep(chance.random() ** 4 * 0.02)
            os.kill(process, signal.SIGKILL)
            if not ended(process):
                break
            done += 1
        ended(campaign.start())
        return account(sink, campaign, mode, done)


def kill_at_each_call(directory: Path, in_doubt: InDoubt, mode: Mode) -> list[Account]:
    """Kills small campaigns, each once and each one call later than the one before, up to that
    which comes to its end; the accounts of them."""
    accounts = []
    with running_sink(directory, mode) as sink:
        for calls in count():
            campaign = Campaign(sink.url, directory / f"journal{calls}", FEW, in_doubt)
            was_killed = ended(campaign.start(calls))
            ended(campaign.start())
            accounts.append(account(sink, campaign, mode, int(was_killed)))
            if not was_killed:
                break
    return accounts


def account(sink: LoggingSink, campaign: Campaign, mode: Mode, kills: int) -> Account:
    """Compares what the sink has logged with what the journal says."""
    logged = Counter(address for address, _ in sink.accepted())
    with Journal(campaign.journal) as journal:
        entries = [journal.entries(key) for key in range(campaign.recipients)]
    states = {each.recipient: each.state for found in entries for each in found}
    addresses = campaign.addresses()
    right = [
        logged[each] >= 1 if states.get(each) == "accepted" else states.get(each) == "in doubt"
        for each in addresses
    ]
    return Account(
        mode,
        kills,
        accepted=sum(state == "accepted" for state in states.values()),
        in_doubt=sum(state == "in doubt" for state in states.values()),
        doubled=sum(max(logged[each] - 1, 0) for each in addresses),
        unaccounted=right.count(False),
    )


def main() -> int:
    """Runs it from the command line; 1 where something was lost, or doubled against the rules."""
    parser = argparse.ArgumentParser(prog="python -m tests.bulk.kills", description=__doc__)
    parser.add_argument("--recipients", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--in-doubt", choices=("hold", "resend"), default="hold")
    modes = parser.add_mutually_exclusive_group()
    for each in ("chunking", "sequential"):
        modes.add_argument(f"--{each}", dest="mode", action="store_const", const=each)
    parser.add_argument("--calls", action="store_true")
    options = parser.parse_args()
    policy: InDoubt = options.in_doubt
    mode: Mode = options.mode or "pipelining"
    with TemporaryDirectory() as name:
        if options.calls:
            accounts = kill_at_each_call(Path(name), policy, mode)
        else:
            recipients, kills = options.recipients, options.kills
            accounts = [kill_at_random(Path(name), recipients, kills, policy, mode)]
    for found in accounts:
        print(
            found,
            "may be doubled:",
            found.most_doubled(policy),
            "may be in doubt:",
            found.most_in_doubt(policy),
        )
    return int(not all(found.is_right(policy) for found in accounts))


if __name__ == "__main__":
    sys.exit(main())
