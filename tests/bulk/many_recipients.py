"""Takes a large campaign through the journal that is the argument, and prints by how many megabytes
that made the process grow."""

from __future__ import annotations

import resource
import sys

from csmtplib.bulk.journal import Journal
from csmtplib.bulk.journal_view import JournalView

GROUP = 1000
GROUPS = 200


def main(path: str) -> None:
    """The work of a run, a run that resumes it, and a report."""
    before = peak()
    with Journal(path) as journal:
        for _ in range(GROUPS):
            ids = journal.new_ids(GROUP)
            new = [(at, f"people.csv:{at * 7919 % 199_999}", f"u{at}@a.example") for at in ids]
            journal.write(new=new, again=[], completed=[])
            journal.commit()
            completed = [
                ("deferred", 1.0, 450, "4.2.0", "mailbox busy", "mx.example:25", 2.0, at)
                for at in ids
            ]
            journal.write(new=[], again=[], completed=completed)
            journal.commit()
    with Journal(path) as journal:
        found = sum(len(journal.entries(f"people.csv:{line}")) for line in range(0, 199_999, 97))
        assert found >= 199_999 // 97
        journal.write(new=[], again=[(at, 2) for at in range(1, GROUP)], completed=[])
    with JournalView(path) as view:
        assert sum(1 for _ in view.rows()) == GROUP * GROUPS
        assert view.by_domain()[0].recipients == GROUP * GROUPS
    print(int(peak() - before))


def peak() -> float:
    """The most memory that the process ever had, in megabytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1_000_000 if sys.platform == "darwin" else 1000)


if __name__ == "__main__":
    main(sys.argv[1])
