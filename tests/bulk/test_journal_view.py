"""Reading a journal for reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from csmtplib.bulk.journal import Completed, Journal, JournalError
from csmtplib.bulk.journal_view import CodeTally, DomainTally, JournalView, Recipient

from ..requirements import needs_permissions

BEGUN = 1_764_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "campaign.journal"


def outcome(at: int, state: str, code: int | None, enhanced: str | None, time: float) -> Completed:
    return (state, None, code, enhanced, f"{state} by {at}", "mx.example:25", BEGUN + time, at)


@pytest.fixture
def campaign(path: Path) -> Iterator[Path]:
    """A journal with a recipient or two in each state, whose sender runs."""
    addresses = [
        "ann@A.example",
        "bob@b.example",
        "cid@a.EXAMPLE",
        '"d@n"@a.example',
        "eve@b.example",
        "local",
        "fay@b.example",
        "gus@c.example",
    ]
    with Journal(path) as journal:
        new = [(journal.new_ids(1)[0], f"key{n}", each) for n, each in enumerate(addresses, 1)]
        journal.write(new=new, again=[], completed=[])
        journal.write(
            new=[],
            again=[],
            completed=[
                outcome(1, "accepted", 250, "2.0.0", 0.5),
                outcome(2, "rejected", 550, "5.1.1", 1.0),
                outcome(3, "accepted", 250, "2.0.0", 11.0),
                outcome(4, "deferred", 450, "4.2.0", 12.0),
                outcome(5, "queued", None, None, 90.0),
                outcome(6, "in doubt", None, None, 29.0),
                outcome(7, "deferred", 450, "4.2.0", 13.0),
                outcome(8, "rejected", 550, None, 14.0),
            ],
        )
        journal.write(new=[], again=[(7, 2)], completed=[])
        journal.commit()
        yield path


def test_counts(campaign: Path) -> None:
    with JournalView(campaign) as view:
        assert view.counts() == {
            "accepted": 2,
            "rejected": 2,
            "deferred": 1,
            "in doubt": 1,
            "queued": 1,
            "sending": 1,
        }


def test_by_domain(campaign: Path) -> None:
    with JournalView(campaign) as view:
        tallies = view.by_domain()
        assert view.by_domain(2) == tallies[:2]
    assert tallies == [
        DomainTally("a.example", 3, 0, 0, 2, 0, 1, 0),
        DomainTally("b.example", 3, 1, 1, 0, 1, 0, 0),
        DomainTally("c.example", 1, 0, 0, 0, 1, 0, 0),
        DomainTally("local", 1, 0, 0, 0, 0, 0, 1),
    ]


def test_by_code_with_the_latest_as_an_example(campaign: Path) -> None:
    with JournalView(campaign) as view:
        tallies = view.by_code()
        assert view.by_code(1) == tallies[:1]
    assert tallies == [
        CodeTally(250, "2.0.0", "accepted", 2, "accepted by 3"),
        CodeTally(None, None, "in doubt", 1, "in doubt by 6"),
        CodeTally(450, "4.2.0", "deferred", 1, "deferred by 4"),
        CodeTally(550, None, "rejected", 1, "rejected by 8"),
        CodeTally(550, "5.1.1", "rejected", 1, "rejected by 2"),
    ]


def test_the_span_is_of_outcomes(campaign: Path) -> None:
    with JournalView(campaign) as view:
        assert view.span() == (BEGUN + 0.5, BEGUN + 29.0)


def test_over_time(campaign: Path) -> None:
    with JournalView(campaign) as view:
        assert view.over_time(10) == [
            (BEGUN, "accepted", 1),
            (BEGUN, "rejected", 1),
            (BEGUN + 10, "accepted", 1),
            (BEGUN + 10, "deferred", 1),
            (BEGUN + 10, "rejected", 1),
            (BEGUN + 20, "in doubt", 1),
        ]
        assert view.over_time(0.5)[0] == (BEGUN + 0.5, "accepted", 1)


def test_rows_come_in_their_order_however_many(path: Path) -> None:
    with Journal(path) as journal:
        ids = journal.new_ids(2500)
        journal.write(new=[(at, at, "ann@a.example") for at in ids], again=[], completed=[])
    with JournalView(path) as view:
        assert [row.id for row in view.rows()] == ids


def test_a_view_sees_what_is_committed_after_it_was_opened(path: Path) -> None:
    with Journal(path) as journal, JournalView(path) as view:
        assert view.counts() == {}
        assert list(view.rows()) == []
        assert view.span() == (None, None)
        journal.write(new=[(1, 7, "ann@a.example")], again=[], completed=[])
        assert view.counts() == {}
        journal.commit()
        assert view.counts() == {"sending": 1}
        assert [(row.key, row.state) for row in view.rows()] == [(7, "sending")]


def test_a_view_owns_nothing(path: Path) -> None:
    Journal(path).close()
    with JournalView(path), JournalView(path), Journal(path) as journal:
        assert journal.recovered == 0


def test_a_view_leaves_what_it_found(campaign: Path, tmp_path: Path) -> None:
    with JournalView(campaign) as view:
        before = list(view.rows())
    with JournalView(campaign) as view:
        assert list(view.rows()) == before
    assert "sending" in {row.state for row in before}


def test_a_view_of_a_closed_journal_leaves_one_file(path: Path) -> None:
    Journal(path).close()
    data = path.read_bytes()
    with JournalView(path) as view:
        assert view.counts() == {}
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == data


def test_there_has_to_be_a_journal(path: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal"):
        JournalView(path)
    assert not path.exists()


def test_a_damaged_journal_is_told(path: Path) -> None:
    with Journal(path) as journal:
        new = [(journal.new_ids(1)[0], n, "ann@a.example") for n in range(2000)]
        journal.write(new=new, again=[], completed=[])
    data = path.read_bytes()
    path.write_bytes(data[:8192] + b"\xff" * (len(data) - 8192))
    with JournalView(path) as view, pytest.raises(JournalError, match="damaged"):
        list(view.rows())


def test_the_columns_of_a_view_are_those_of_the_table(campaign: Path) -> None:
    with JournalView(campaign) as view:
        second = list(view.rows())[1]
    assert second == Recipient(
        id=2,
        key="key2",
        address="bob@b.example",
        state="rejected",
        attempts=1,
        first=BEGUN + 1.0,
        due=None,
        code=550,
        enhanced="5.1.1",
        reply="rejected by 2",
        host="mx.example:25",
        time=BEGUN + 1.0,
    )


@needs_permissions
def test_a_journal_where_nothing_may_be_written(path: Path) -> None:
    Journal(path).close()
    path.parent.chmod(0o500)
    try:
        with JournalView(path) as view:
            assert view.counts() == {}
        with pytest.raises(JournalError, match=r"Permission denied.*writable"):
            Journal(path)
    finally:
        path.parent.chmod(0o700)
