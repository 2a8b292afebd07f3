"""Writes journals until it is killed, or the disk fails it.

A group records GROUP recipients as sending, and completes those of the group before; what commit()
has returned for is told on standard output, a line each.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from csmtplib.bulk.journal import Completed, Journal, JournalError

GROUP = 7

# Ways for a disk to fail: with what error, whether from then on or once, whether in syncs only.
WAYS = [
    ("full", errno.ENOSPC, True, False),
    ("full-once", errno.ENOSPC, False, False),
    ("broken", errno.EIO, True, False),
    ("broken-once", errno.EIO, False, False),
    ("unsynced", errno.EIO, True, True),
    ("unsynced-once", errno.EIO, False, True),
]


def new(group: int) -> list[tuple[int, str, str]]:
    """The recipients that a group records as sending. Ids are 1 and up."""
    first = 1 + group * GROUP
    return [(at, f"people.csv:{at}", f"u{at}@a.example") for at in range(first, first + GROUP)]


def completed(group: int) -> list[Completed]:
    """Their outcomes."""
    return [
        ("accepted", None, 250, "2.0.0", f"queued as {at}", "mx.example:25", float(at), at)
        for at, _, _ in new(group)
    ]


def write(journal: Journal, group: int) -> None:
    """Bring a group to disk."""
    journal.write(new=new(group), again=[], completed=completed(group - 1) if group else [])
    journal.commit()


def tell(line: str) -> None:
    """Says a line at once, whatever kills the process next."""
    os.write(1, f"{line}\n".encode())


def write_for_ever(path: str) -> None:
    """Tells the number of each group."""
    journal = Journal(path)
    group = 0
    while True:
        write(journal, group)
        tell(str(group))
        group += 1


def fill_up(path: str, limit: str) -> None:
    """Tells how many groups fit where no file may be larger than so many bytes, and why there are
    no more."""
    import resource
    import signal

    journal = Journal(path)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    group = 0
    try:
        while True:
            write(journal, group)
            group += 1
    except JournalError as error:
        tell(f"{group} {refuses(journal)} {error}")
    os._exit(0)


def fail(directory: str, groups: str) -> None:
    """Let the disk fail in each way, at each moment of a journal of so many groups. Tells of each:
    the name of the journal, how many groups were committed, whether it refused what came after the
    failure, and the failure."""
    disk = ctypes.CDLL(os.environ["LD_PRELOAD"])
    disk.fail_after.restype = ctypes.c_long
    abandoned = []
    for name, *way in WAYS:
        for calls in itertools.count():
            path = Path(directory, f"{name}-{calls}")
            journal, committed, failure = None, 0, ""
            disk.fail_after(calls, *way)
            try:
                journal = Journal(path)
                for group in range(int(groups)):
                    write(journal, group)
                    committed += 1
            except JournalError as raised:
                failure = str(raised)
            refused = journal is not None and failure != "" and refuses(journal)
            # Every second one is closed on the failing disk; the others die with the process.
            if journal is not None and calls % 2:
                with suppress(JournalError):
                    journal.close()
            abandoned.append(journal)
            all_well = disk.fail_after(-1, 0, 0, 0) > 0
            tell(f"{path.name} {committed} {refused} {failure}")
            if calls % 2 and all_well:
                break
    os._exit(0)


def refuses(journal: Journal) -> bool:
    """Whether a journal that failed takes nothing more."""
    try:
        write(journal, 10**6)
    except JournalError:
        pass
    else:
        return False
    try:
        journal.commit()
    except JournalError:
        return True
    return False


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    commands: dict[str, Callable[..., None]] = {
        "write_for_ever": write_for_ever,
        "fill_up": fill_up,
        "fail": fail,
    }
    commands[command](*arguments)
