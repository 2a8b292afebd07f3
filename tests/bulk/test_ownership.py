"""One owner at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from csmtplib.bulk.ownership import Owned, Ownership

# Owns the file that is its argument until its standard input ends.
HOLD = (
    "import sys; from csmtplib.bulk.ownership import Ownership\n"
    "owner = Ownership(sys.argv[1]); print('owned', flush=True); sys.stdin.read()"
)


def test_the_second_owner_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    with Ownership(path):
        with pytest.raises(Owned) as raised:
            Ownership(path)
        assert raised.value.process == os.getpid()
    Ownership(path).release()


def test_another_process_owns_until_it_dies(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline().strip() == b"owned"
            with pytest.raises(Owned) as raised:
                Ownership(path)
            assert raised.value.process == holder.pid
        finally:
            holder.kill()
    with Ownership(path):
        pass


def test_released_it_leaves_nothing_behind(tmp_path: Path) -> None:
    with Ownership(str(tmp_path / "file")):
        assert list(tmp_path.iterdir()) == [tmp_path / "file-lock"]
    assert not list(tmp_path.iterdir())


def test_a_lock_that_its_owner_took_away_meanwhile_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "file")
    first = Ownership(path)

    def take_late(second: Ownership) -> None:
        # The second has the file open when the first gives it up, and a third makes another.
        monkeypatch.undo()
        first.release()
        (tmp_path / "file-lock").touch()
        second._take()

    monkeypatch.setattr(Ownership, "_take", take_late)
    with Ownership(path), pytest.raises(Owned):
        Ownership(path)


def test_no_directory_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Ownership(str(tmp_path / "nowhere" / "file"))
