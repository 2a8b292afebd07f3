"""The remains of a journal when its process, or its disk, comes to an end: cases 67 and 68."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from csmtplib.bulk.journal import Journal
from csmtplib.bulk.journal_view import JournalView, Recipient

from ..c.building import preloadable
from ..requirements import needs_resource_limits
from .journal_writer import GROUP, WAYS, new

WRITER = Path(__file__).with_name("journal_writer.py")
SHIM = Path(__file__).with_name("failing_disk.c")

pytestmark = pytest.mark.long


def written_until_killed(path: Path, groups: int) -> int:
    """Let a process write, and kill it while it does more than so many groups; how many it told to
    be on disk."""
    with subprocess.Popen(
        [sys.executable, WRITER, "write_for_ever", path], stdout=subprocess.PIPE
    ) as writer:
        try:
            assert writer.stdout is not None
            told = [writer.stdout.readline() for _ in range(groups)]
        finally:
            writer.kill()
        told += writer.stdout.readlines()
    assert [int(group) for group in told] == list(range(len(told)))
    return len(told)


def read(path: Path) -> list[Recipient]:
    with JournalView(path) as view:
        return list(view.rows())


def groups_in(path: Path) -> int:
    """How many groups there are; each is whole, and so are the outcomes of all but the last, which
    is in doubt when the journal is opened again."""
    rows = read(path)
    groups, rest = divmod(len(rows), GROUP)
    assert not rest
    named = [each for group in range(groups) for each in new(group)]
    assert [(row.id, row.key, row.address) for row in rows] == named
    for row in rows[:-GROUP]:
        assert (row.state, row.code, row.enhanced) == ("accepted", 250, "2.0.0")
        assert (row.reply, row.host) == (f"queued as {row.id}", "mx.example:25")
        assert row.first == row.time == row.id
    assert {row.state for row in rows[-GROUP:]} <= {"sending"}
    with Journal(path) as journal:
        assert journal.recovered == (GROUP if groups else 0)
    again = read(path)
    assert again[:-GROUP] == rows[:-GROUP]
    assert {row.state for row in again[-GROUP:]} <= {"in doubt"}
    return groups


# Case 67.
@pytest.mark.parametrize("seed", range(20))
def test_what_was_committed_survives_a_kill(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "campaign.journal"
    told = written_until_killed(path, random.Random(seed).randrange(1, 800))
    # The one that was not told may have been there a moment before.
    assert told <= groups_in(path) <= told + 1


def test_a_log_that_is_cut_off_leaves_the_commits_before_it(tmp_path: Path) -> None:
    path, log = tmp_path / "campaign.journal", tmp_path / "campaign.journal-wal"
    told = written_until_killed(path, 60)
    last, data = path.read_bytes(), log.read_bytes()
    chance = random.Random(told)
    found = []
    for size in sorted([0, 1, len(data), *(chance.randrange(len(data)) for _ in range(40))]):
        path.write_bytes(last)
        log.write_bytes(data[:size])
        path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
        found.append(groups_in(path))
    assert found[0] == 0
    assert found == sorted(found)
    assert told <= found[-1] <= told + 1


def test_a_log_with_an_byte_changed_leaves_the_commits_before_it(tmp_path: Path) -> None:
    path, log = tmp_path / "campaign.journal", tmp_path / "campaign.journal-wal"
    told = written_until_killed(path, 60)
    last, data = path.read_bytes(), log.read_bytes()
    chance = random.Random(told)
    for _ in range(20):
        torn = bytearray(data)
        torn[chance.randrange(len(torn))] ^= 1 << chance.randrange(8)
        path.write_bytes(last)
        log.write_bytes(torn)
        path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
        assert groups_in(path) <= told + 1


# Case 68.
@needs_resource_limits
def test_a_file_that_cant_grow_ends_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "campaign.journal"
    done = subprocess.run(
        [sys.executable, WRITER, "fill_up", path, "500000"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    committed, refuses, reason = done.stdout.split(maxsplit=2)
    assert int(committed) > 0
    assert refuses == "True"
    assert "nothing may be sent without it" in reason
    assert int(committed) <= groups_in(path) <= int(committed) + 1


@pytest.fixture(scope="module")
def failing_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes the disk fail a process that it is preloaded to."""
    return preloadable(SHIM, tmp_path_factory.mktemp("disk"))


def test_a_disk_that_fails_at_any_moment_ends_the_journal(
    tmp_path: Path, failing_disk: Path
) -> None:
    groups = 4
    done = subprocess.run(
        [sys.executable, WRITER, "fail", tmp_path, str(groups)],
        env=os.environ | {"LD_PRELOAD": str(failing_disk)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    failures = set()
    for line in done.stdout.splitlines():
        name, told, refused, failure = line.split(" ", maxsplit=3)
        committed = int(told)
        if failure:
            failures.add((name.rpartition("-")[0], "can't be used" in failure, committed))
        if "can't be used" in failure:
            # It was not begun. The next one is, in its place.
            Journal(tmp_path / name).close()
        elif failure:
            assert refused == "True"
            assert "nothing may be sent without it" in failure
        else:
            assert committed == groups
        assert committed <= groups_in(tmp_path / name) <= committed + 1
    # In each way it failed at its beginning, and in every group: so each waits for the disk.
    for way, *_ in WAYS:
        for committed in range(groups):
            assert (way, False, committed) in failures
        assert (way, True, 0) in failures
