"""States and transitions of a journal, who may open it, and what may be opened."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from csmtplib.bulk import journal as journal_module
from csmtplib.bulk import journal_format, ownership
from csmtplib.bulk.journal import Completed, Entry, Journal, JournalError
from csmtplib.bulk.journal_view import JournalView, Recipient

from ..interrupting import ByStep
from ..requirements import needs_resource_limits, needs_symbolic_links

TIME = 1_764_000_000.25
LOST = "the sender ended before an outcome was recorded"


def completed(state: str, at: int, *, due: float | None = None, time: float = TIME) -> Completed:
    """An outcome as write() takes it."""
    return (state, due, 250, "2.1.5", "OK", "mx.example:25", time, at)


def record_sending(journal: Journal, *keys_and_addresses: tuple[str | int, str]) -> list[int]:
    """Records new recipients as sending, on disk; their ids."""
    new = [(journal.new_ids(1)[0], *each) for each in keys_and_addresses]
    journal.write(new=new, again=[], completed=[])
    journal.commit()
    return [each[0] for each in new]


def complete(journal: Journal, *outcomes: Completed) -> None:
    journal.write(new=[], again=[], completed=outcomes)
    journal.commit()


def rows(path: Path) -> list[Recipient]:
    with JournalView(path) as view:
        return list(view.rows())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "campaign.journal"


def test_what_is_new_is_sending(path: Path) -> None:
    with Journal(path) as journal:
        assert journal.recovered == 0
        assert record_sending(journal, ("a", "ann@a.example"), (7, "bob@b.example")) == [1, 2]
        assert rows(path)[0] == Recipient(
            1, "a", "ann@a.example", "sending", 1, None, None, None, None, None, None, None
        )
        assert journal.counts() == {"sending": 2}


@pytest.mark.parametrize("state", ["accepted", "rejected", "in doubt", "deferred"])
def test_an_outcome_is_recorded_with_all_that_is_known_of_it(path: Path, state: str) -> None:
    with Journal(path) as journal:
        [at] = record_sending(journal, ("a", "ann@a.example"))
        complete(journal, (state, 5.5, 450, "4.2.0", "later", "mx.example:25", TIME, at))
        assert journal.counts() == {state: 1}
    assert rows(path) == [
        Recipient(
            id=1,
            key="a",
            address="ann@a.example",
            state=state,
            attempts=1,
            first=TIME,
            due=5.5,
            code=450,
            enhanced="4.2.0",
            reply="later",
            host="mx.example:25",
            time=TIME,
        )
    ]


def test_what_is_given_back_unsent_had_no_first_attempt(path: Path) -> None:
    with Journal(path) as journal:
        [at] = record_sending(journal, ("a", "ann@a.example"))
        complete(journal, completed("queued", at))
    with Journal(path) as journal:
        assert journal.entries("a") == [
            Entry(1, "ann@a.example", "queued", 1, None, None, 250, "OK")
        ]


def test_the_first_attempt_stays_the_first(path: Path) -> None:
    with Journal(path) as journal:
        [at] = record_sending(journal, ("a", "ann@a.example"))
        complete(journal, completed("deferred", at, due=TIME + 60))
        journal.write(new=[], again=[(at, 2)], completed=[])
        journal.commit()
        [row] = rows(path)
        assert (row.state, row.attempts, row.first, row.due) == ("sending", 2, TIME, None)
        complete(journal, completed("accepted", at, time=TIME + 61))
    [row] = rows(path)
    assert (row.state, row.attempts, row.first, row.time) == ("accepted", 2, TIME, TIME + 61)


def test_completed_and_sent_again_in_one_group_is_sending(path: Path) -> None:
    with Journal(path) as journal:
        [at] = record_sending(journal, ("a", "ann@a.example"))
        journal.write(new=[], again=[(at, 2)], completed=[completed("deferred", at)])
        journal.commit()
        assert journal.counts() == {"sending": 1}


def test_new_and_completed_in_one_group_is_completed(path: Path) -> None:
    with Journal(path) as journal:
        at = journal.new_ids(1)[0]
        journal.write(new=[(at, 1, "a@a.example")], again=[], completed=[completed("rejected", at)])
        journal.commit()
        assert journal.counts() == {"rejected": 1}


def test_nothing_is_on_disk_before_the_commit(path: Path) -> None:
    with Journal(path) as journal:
        journal.write(new=[(1, "a", "ann@a.example")], again=[], completed=[])
        assert rows(path) == []
        journal.commit()
        assert len(rows(path)) == 1


def test_closing_commits_what_was_written(path: Path) -> None:
    with Journal(path) as journal:
        journal.write(new=[(1, "a", "ann@a.example")], again=[], completed=[])
    assert len(rows(path)) == 1


def test_a_commit_of_nothing_is_no_error(path: Path) -> None:
    with Journal(path) as journal:
        journal.commit()
        journal.write(new=[], again=[], completed=[])
        journal.commit()
        assert journal.counts() == {}


@pytest.mark.parametrize(
    ("again", "outcomes"),
    [([(9, 2)], []), ([], [completed("accepted", 9)])],
    ids=["again", "completed"],
)
def test_a_recipient_that_is_not_in_it_is_not_passed_over(
    path: Path, again: list[tuple[int, int]], outcomes: list[Completed]
) -> None:
    with Journal(path) as journal:
        record_sending(journal, ("a", "ann@a.example"))
        with pytest.raises(JournalError, match="not in it"):
            journal.write(new=[], again=again, completed=outcomes)


@pytest.mark.parametrize(
    "new",
    [
        (1, "taken", "ann@a.example"),
        (2, 1 << 64, "ann@a.example"),
        (2, "\udcff", "ann@a.example"),
        (2, None, "ann@a.example"),
    ],
    ids=["id", "integer", "text", "nothing"],
)
def test_what_cant_be_recorded_ends_the_journal(path: Path, new: tuple[int, str, str]) -> None:
    with Journal(path) as journal:
        record_sending(journal, ("a", "ann@a.example"))
        with pytest.raises(JournalError, match="nothing may be sent without it"):
            journal.write(new=[new], again=[], completed=[])
        with pytest.raises(JournalError, match="nothing may be sent without it"):
            journal.commit()
    assert len(rows(path)) == 1


def test_no_state_but_those_there_are(path: Path) -> None:
    with Journal(path) as journal:
        record_sending(journal, ("a", "ann@a.example"))
        with pytest.raises(JournalError):
            complete(journal, completed("sent", 1))
    assert rows(path)[0].state == "sending"


def test_a_failure_is_for_good(path: Path) -> None:
    with Journal(path) as journal:
        record_sending(journal, ("a", "ann@a.example"))
        with pytest.raises(JournalError):
            journal.write(new=[], again=[(9, 1)], completed=[])
        for call in (
            journal.commit,
            journal.counts,
            journal.parameters,
            lambda: journal.set_parameters({"a": "b"}),
            lambda: journal.write(new=[], again=[], completed=[]),
        ):
            with pytest.raises(JournalError, match="failed"):
                call()


def test_a_closed_journal_refuses_everything_and_closes_again(path: Path) -> None:
    journal = Journal(path)
    journal.close()
    with pytest.raises(JournalError, match="is closed"):
        journal.write(new=[(1, "a", "ann@a.example")], again=[], completed=[])
    with pytest.raises(JournalError, match="is closed"):
        journal.commit()
    journal.close()


# Resuming


def test_an_interrupt_while_it_closes_leaves_no_owner(path: Path) -> None:
    """Also where somebody keeps the object, as a thread or a traceback does: "in use by process",
    which was this one, was what the next run was told."""
    files = [journal_module.__file__, ownership.__file__, contextlib.__file__]
    kept = []
    for at in itertools.count(2):  # the first step is before close() has begun
        journal = Journal(path)
        journal.set_parameters({"at": str(at)})
        kept.append(journal)
        interrupter = ByStep(at, files)
        with contextlib.suppress(KeyboardInterrupt), interrupter:
            journal.close()
        with Journal(path) as again:
            assert again.parameters() == {"at": str(at)}
        if not interrupter.has_interrupted:
            break
    assert at > 20


def test_what_was_sending_is_in_doubt_after_a_restart(path: Path) -> None:
    with Journal(path) as journal:
        record_sending(journal, ("a", "ann@a.example"), ("b", "bob@b.example"))
        complete(journal, completed("accepted", 2))
    with Journal(path) as journal:
        assert journal.recovered == 1
        assert journal.counts() == {"in doubt": 1, "accepted": 1}
        # It is on disk at once, not with the next group.
        [ann, bob] = rows(path)
        assert (ann.state, ann.code) == ("in doubt", None)
        assert ann.reply == LOST
        assert (bob.state, bob.code) == ("accepted", 250)
    with Journal(path) as journal:
        assert journal.recovered == 0


def test_what_is_in_doubt_may_be_sent_again(path: Path) -> None:
    with Journal(path) as journal:
        record_sending(journal, ("a", "ann@a.example"))
    with Journal(path) as journal:
        [entry] = journal.entries("a")
        journal.write(new=[], again=[(entry.id, entry.attempts + 1)], completed=[])
        journal.commit()
        complete(journal, completed("accepted", entry.id))
    assert [(row.state, row.attempts) for row in rows(path)] == [("accepted", 2)]


def test_entries_are_those_of_former_runs_by_key(path: Path) -> None:
    with Journal(path) as journal:
        record_sending(journal, (1, "ann@a.example"), ("1", "bob@b.example"), (1, "cid@c.example"))
        complete(journal, completed("deferred", 1, due=TIME + 60))
        assert journal.entries(1) == []
        assert not journal.has_history
    with Journal(path) as journal:
        assert journal.has_history
        assert journal.entries(1) == [
            Entry(1, "ann@a.example", "deferred", 1, TIME + 60, TIME, 250, "OK"),
            Entry(3, "cid@c.example", "in doubt", 1, None, None, None, LOST),
        ]
        assert [entry.recipient for entry in journal.entries("1")] == ["bob@b.example"]
        assert journal.entries("2") == []
        assert record_sending(journal, ("2", "dan@d.example")) == [4]
        assert journal.entries("2") == []


def test_entries_do_not_wait_for_a_group_that_is_open(path: Path) -> None:
    with Journal(path) as journal:
        record_sending(journal, ("a", "ann@a.example"))
        complete(journal, completed("accepted", 1))
    with Journal(path) as journal:
        journal.write(new=[(journal.new_ids(1)[0], "b", "bob@b.example")], again=[], completed=[])
        assert [entry.state for entry in journal.entries("a")] == ["accepted"]
        journal.commit()


def test_another_thread_commits_while_entries_are_looked_up(path: Path) -> None:
    with Journal(path) as journal:
        ids = record_sending(journal, *((number, "ann@a.example") for number in range(500)))
        complete(journal, *(completed("accepted", at) for at in ids))
    with Journal(path) as journal, ThreadPoolExecutor(1) as thread:
        for number in range(0, 500, 10):
            new = [(journal.new_ids(1)[0], f"new {number}", "bob@b.example")]
            journal.write(new=new, again=[], completed=[])
            committed = thread.submit(journal.commit)
            for key in range(number, number + 10):
                assert [entry.state for entry in journal.entries(key)] == ["accepted"]
            committed.result(timeout=60)
        assert journal.counts() == {"accepted": 500, "sending": 50}


def test_parameters_last_and_may_be_changed(path: Path) -> None:
    with Journal(path) as journal:
        assert journal.parameters() == {}
        journal.set_parameters({"id": "1f", "template": "lettre d'été.txt"})
    with Journal(path) as journal:
        journal.set_parameters({"id": "2f"})
        assert journal.parameters() == {"id": "2f", "template": "lettre d'été.txt"}
    with JournalView(path) as view:
        assert view.parameters() == {"id": "2f", "template": "lettre d'été.txt"}


def test_parameters_may_be_replaced(path: Path) -> None:
    with Journal(path) as journal:
        journal.set_parameters({"id": "1f", "limit": "3"})
        journal.set_parameters({"id": "2f"}, replace=True)
        assert journal.parameters() == {"id": "2f"}


# What somebody decides

REFUSALS = [
    (550, "5.1.1"),
    (550, "5.7.1"),
    (554, "5.7.26"),
    (530, None),
    (451, "4.7.1"),
    (None, None),
    (521, "5.17.1"),
]


@pytest.mark.parametrize(
    ("code", "chosen"),
    [
        (None, [1, 2, 3, 4, 5, 6, 7]),
        ("550", [1, 2]),
        ("53x", [4]),
        ("5xx", [1, 2, 3, 4, 7]),
        ("4XX", [5]),
        ("5.7.1", [2]),
        ("5.7", [2, 3]),
        ("5.7.x", [2, 3]),
        ("x.7.1", [2, 5]),
        ("5.x.x", [1, 2, 3, 7]),
        ("5.7.2", []),
        ("421", []),
    ],
)
def test_refused_recipients_are_tried_again(
    path: Path, code: str | None, chosen: list[int]
) -> None:
    with Journal(path) as journal:
        record_sending(journal, *((at, f"r{at}@a.example") for at in range(1, 9)))
        for at, (basic, enhanced) in enumerate(REFUSALS, 1):
            journal.write(
                new=[],
                again=[],
                completed=[("rejected", None, basic, enhanced, "no", "mx:25", TIME, at)],
            )
        complete(journal, completed("accepted", 8))
    with Journal(path) as journal:
        assert journal.retry_rejected(code) == len(chosen)
        # On disk.
        assert [each.id for each in rows(path) if each.state == "deferred"] == chosen
        for at in chosen:
            [entry] = journal.entries(at)
            assert (entry.state, entry.due, entry.first) == ("deferred", None, None)
            assert (entry.attempts, entry.code) == (1, REFUSALS[at - 1][0])
        assert journal.counts()["accepted"] == 1


@pytest.mark.parametrize(
    "code", ["", "x", "5", "55", "5500", "650", "5.7.1.1", "3.1.1", "a.journal"]
)
def test_what_is_no_code(path: Path, code: str) -> None:
    with Journal(path) as journal:
        with pytest.raises(ValueError, match="is no code"):
            journal.retry_rejected(code)
        # It may be used on.
        assert journal.counts() == {}


def test_what_is_in_doubt_may_be_taken_as_accepted(path: Path) -> None:
    with Journal(path) as journal:
        record_sending(journal, (1, "ann@a.example"), (2, "bob@b.example"))
        complete(journal, completed("rejected", 2))
    with Journal(path) as journal:
        record_sending(journal, (3, "cid@c.example"))
        assert journal.accept_in_doubt(TIME + 9) == 1
        ann, bob, cid = rows(path)
        assert (ann.state, ann.time) == ("accepted", TIME + 9)
        assert ann.reply == f"was in doubt, and is taken as accepted; {LOST}"
        # What is under way at this moment is not.
        assert (bob.state, cid.state) == ("rejected", "sending")


# Groups


def test_a_group_is_due_by_its_number_or_by_its_oldest(path: Path) -> None:
    with Journal(path, group_rows=10, group_seconds=0.5) as journal:
        assert journal.due_in(100.0, 0, None) == math.inf
        assert journal.due_in(100.0, 9, 99.75) == 0.25
        assert journal.due_in(100.0, 9, 99.0) == 0.0
        assert journal.due_in(100.0, 10, 100.0) == 0.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"path": None}, "path must be the path of a file, as a str or a Path, not None"),
        ({"path": b"x"}, "path must be the path of a file"),
        ({"path": 5}, "path must be the path of a file"),
        ({"group_rows": "5"}, "group_rows must be a whole number of at least 1, not '5'"),
        ({"group_rows": 1.5}, "group_rows must be a whole number"),
        ({"group_seconds": "1s"}, "group_seconds must be a number of seconds, not '1s'"),
    ],
    ids=str,
)
def test_arguments_of_another_kind(path: Path, arguments: dict[str, Any], said: str) -> None:
    """T26"""
    with pytest.raises(TypeError, match=said):
        Journal(**{"path": path, **arguments})
    assert not path.exists()


@pytest.mark.parametrize("journal", [None, 5, b"x"])
def test_what_is_no_path_of_a_journal_to_read(journal: Any) -> None:
    """T26"""
    with pytest.raises(TypeError, match="path must be the path of a file, as a str or a Path, not"):
        JournalView(journal)


@pytest.mark.parametrize(("number", "seconds"), [(0, 1.0), (1, -1.0), (1, math.nan), (1, math.inf)])
def test_groups_that_cant_be(path: Path, number: int, seconds: float) -> None:
    with pytest.raises(ValueError, match=r"group_(rows|seconds) must be "):
        Journal(path, group_rows=number, group_seconds=seconds)
    assert not path.exists()


# Who may open what


def test_a_journal_has_one_owner(path: Path) -> None:
    with (
        Journal(path),
        pytest.raises(JournalError, match=f"in use by process {os.getpid()}: wait"),
    ):
        Journal(path)
    Journal(path).close()


@needs_symbolic_links
def test_a_journal_has_one_owner_by_whatever_name(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    with Journal(link), pytest.raises(JournalError, match="in use"):
        Journal(path)


# Case 69: two processes, one journal.
def test_another_process_keeps_it_until_it_dies(path: Path) -> None:
    hold = (
        "import sys; from csmtplib.bulk.journal import Journal\n"
        "journal = Journal(sys.argv[1])\n"
        "journal.write(new=[(1, 'a', 'ann@a.example')], again=[], completed=[])\n"
        "journal.commit(); print('sending', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline().strip() == b"sending"
            with pytest.raises(JournalError, match=f"in use by process {holder.pid}: wait"):
                Journal(path)
            # The refused one has changed nothing.
            assert [row.state for row in rows(path)] == ["sending"]
        finally:
            holder.kill()
    with Journal(path) as journal:
        assert journal.recovered == 1


def test_a_journal_of_a_newer_format_is_left_alone(path: Path) -> None:
    Journal(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {journal_format.VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    for opener in (Journal, JournalView):
        with pytest.raises(JournalError, match=r"has format 3, .*formats up to 2: update csmtplib"):
            opener(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_journal_of_the_first_version_is_updated(version_1: Path, tmp_path: Path) -> None:
    with Journal(version_1) as journal:
        assert journal.recovered == 1
        assert journal.counts() == {"accepted": 1, "deferred": 1, "in doubt": 1, "queued": 1}
        assert journal.parameters() == {"version": "0.1"}
        assert journal.entries("2") == [
            Entry(2, "b2@y.test", "deferred", 2, 1e9, 1e9, 451, "4.7.1 later")
        ]
        assert journal.new_ids(1) == [6]
        journal.write(new=[(6, 6, "b6@y.test")], again=[], completed=[])
    Journal(tmp_path / "new").close()
    assert schema(version_1) == schema(tmp_path / "new")
    assert [row.state for row in rows(version_1)][-1] == "sending"


def schema(path: Path) -> list[object]:
    connection = sqlite3.connect(path)
    try:
        # A table that was renamed may have its name quoted.
        found = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name")
        return [*found, *connection.execute("PRAGMA user_version")]
    finally:
        connection.close()


def test_a_journal_of_the_first_version_is_reported(version_1: Path) -> None:
    before = version_1.read_bytes()
    with JournalView(version_1) as view:
        assert view.counts() == {"accepted": 1, "deferred": 1, "sending": 1, "queued": 1}
        assert [row.state for row in view.rows()] == ["accepted", "deferred", "sending", "queued"]
        assert [row.id for row in view.rows("sending")] == [3]
        (domain,) = view.by_domain()
        assert (domain.recipients, domain.sending) == (4, 1)
        assert view.span() == (1e9, 1e9)
    assert version_1.read_bytes() == before


def test_an_update_that_fails_changes_nothing(
    version_1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(version_1)
    with monkeypatch.context() as patch:
        *statements, last = journal_format._UPDATE
        patch.setattr(journal_format, "_UPDATE", (*statements, "SELECT no_such_thing", last))
        with pytest.raises(JournalError, match="no_such_thing"):
            Journal(version_1)
    assert rows(version_1) == before
    with Journal(version_1) as journal:
        assert journal.recovered == 1


def test_a_database_of_somebody_else_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    before = path.read_bytes()
    for opener in (Journal, JournalView):
        with pytest.raises(JournalError, match="no journal of csmtplib: give another file"):
            opener(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"email\r\nann@a.example\r\n", b"x" * 9999, b"\0" * 9999])
def test_a_file_that_is_no_database_is_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for opener in (Journal, JournalView):
        with pytest.raises(JournalError, match="give another file"):
            opener(path)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.touch()
    Journal(path).close()
    assert rows(path) == []


def test_what_died_before_it_was_a_journal_becomes_one(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    with pytest.raises(JournalError, match="no campaign yet"):
        JournalView(path)
    Journal(path).close()
    assert rows(path) == []


def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"No such file.*: its directory has to exist"):
        Journal(tmp_path / "nowhere" / "campaign.journal")


def test_a_directory_in_the_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="can't be used"):
        Journal(tmp_path)


# Windows has no file names with the first two's signs in them.
POSIX_NAMES = [] if sys.platform == "win32" else [":memory:", "a?mode=memory"]


@pytest.mark.parametrize("name", [*POSIX_NAMES, "50%25", "#1", "été"])
def test_names_mean_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with Journal(name) as journal:
        record_sending(journal, ("a", "ann@a.example"))
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert len(rows(Path(name))) == 1


def test_closing_leaves_one_file(path: Path) -> None:
    with Journal(path) as journal:
        record_sending(journal, ("a", "ann@a.example"))
        assert path.with_name(f"{path.name}-wal").exists()
        with JournalView(path) as view:
            assert view.counts() == {"sending": 1}
    assert list(path.parent.iterdir()) == [path]
    # And resuming it does too, with what that looks up.
    with Journal(path) as journal:
        assert journal.entries("a")
    assert list(path.parent.iterdir()) == [path]


def test_the_shell_of_sqlite_shows_what_the_columns_are(path: Path) -> None:
    Journal(path).close()
    connection = sqlite3.connect(path)
    [(schema,)] = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'recipient'")
    connection.close()
    columns = re.findall(r"^    (\w+) .*--", schema, re.MULTILINE)
    assert columns == list(Recipient._fields)


# The log


def log_size(path: Path) -> int:
    return path.with_name(f"{path.name}-wal").stat().st_size


def fill(journal: Journal, numbers: Iterable[int]) -> int:
    """Records recipients as sending, in groups of a thousand; the bytes of their addresses."""
    room = 0
    for _ in numbers:
        new = [(journal.new_ids(1)[0], "k", "x" * 1000) for _ in range(1000)]
        room += 1_000_000
        journal.write(new=new, again=[], completed=[])
        journal.commit()
    return room


# Checkpoints come after a thousand pages, and a group may be on top.
LARGEST_LOG = 8_000_000


def test_the_log_does_not_grow_with_the_campaign(path: Path) -> None:
    with Journal(path) as journal:
        assert fill(journal, range(20)) > LARGEST_LOG
        assert log_size(path) < LARGEST_LOG


def test_the_log_does_not_grow_for_a_report_that_is_slow(path: Path) -> None:
    with Journal(path) as journal, JournalView(path) as view:
        fill(journal, range(2))
        shown = view.rows()
        for _ in range(1500):
            next(shown)
        assert fill(journal, range(20)) > LARGEST_LOG
        assert log_size(path) < LARGEST_LOG
        next(shown)


def test_the_log_shrinks_after_a_reader_that_held_it(path: Path) -> None:
    reader = sqlite3.connect(path, isolation_level=None)
    with Journal(path) as journal:
        fill(journal, range(1))
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM recipient").fetchall()
        fill(journal, range(20))
        assert log_size(path) > 20_000_000
        reader.execute("COMMIT")
        fill(journal, range(3))
        assert log_size(path) < 17_000_000
    reader.close()
    assert list(path.parent.iterdir()) == [path]


def test_closing_empties_the_log_for_a_reader_that_stays(path: Path) -> None:
    with Journal(path) as journal, JournalView(path) as view:
        record_sending(journal, ("a", "ann@a.example"))
        assert view.counts() == {"sending": 1}
        journal.close()
        assert log_size(path) == 0
        assert view.counts() == {"sending": 1}
    assert list(path.parent.iterdir()) == [path]


def test_closing_does_not_wait_for_a_reader_that_holds_the_log(path: Path) -> None:
    reader = sqlite3.connect(path, isolation_level=None)
    with Journal(path) as journal:
        record_sending(journal, ("a", "ann@a.example"))
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM recipient").fetchall()
        record_sending(journal, ("b", "bob@b.example"))
        begun = time.monotonic()
        journal.close()
        assert time.monotonic() - begun < journal_format.PATIENCE_SECONDS
    reader.execute("COMMIT")
    reader.close()
    assert len(rows(path)) == 2


@needs_resource_limits
def test_memory_does_not_grow_with_the_campaign(path: Path) -> None:
    program = Path(__file__).with_name("many_recipients.py")
    done = subprocess.run(
        [sys.executable, program, path],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    # Two hundred thousand rows are over 100 MB as tuples.
    assert int(done.stdout) < 40
