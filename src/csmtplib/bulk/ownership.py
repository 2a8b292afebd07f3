"""One owner at a time: a lock that the system releases when its process dies."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import IO

if sys.platform == "win32":
    import msvcrt

    # Far beyond what is read of the file: others can't read a locked part.
    _LOCKED_BYTE = 1 << 20

    def _lock(file: IO[bytes]) -> None:
        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


# The errors for a lock that somebody else has, on POSIX and on Windows.
_TAKEN = (BlockingIOError, PermissionError)


class Owned(Exception):
    """Another process is the owner. process: its id, or None if it is not known."""

    def __init__(self, process: int | None) -> None:
        super().__init__(process)
        self.process = process


class Ownership:
    """The ownership of a file, by a lock on another file next to it, "...-lock".

    The file itself can't be locked: if it is a database, closing any descriptor of it would release
    SQLite's own locks.

    give_up: gives up the ownership, any number of times, by one call in C, which no interrupt can
    split. It leaves the lock file there, which does no harm; release() removes it.
    """

    def __init__(self, path: str) -> None:
        """path: of the file to own, without symbolic links in it. Raises Owned, and OSError if the
        lock can't be acquired for another reason."""
        self._path = f"{path}-lock"
        while True:
            self._file = open(self._path, "a+b", buffering=0)  # noqa: SIM115
            try:
                self._take()
                if self._stands():
                    break
            except BaseException:
                self._file.close()
                raise
            # Its owner removed it between open() and the lock.
            self._file.close()
        self.give_up: Callable[[], None] = self._file.close
        # Only for the text of an error.
        with contextlib.suppress(OSError):
            self._file.truncate(0)
            self._file.write(b"%d\n" % os.getpid())

    def _take(self) -> None:
        try:
            _lock(self._file)
        except _TAKEN as error:
            self._file.seek(0)
            said = self._file.read(20).strip()
            raise Owned(int(said) if said.isdigit() else None) from error

    def _stands(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def __enter__(self) -> Ownership:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def release(self) -> None:
        """Give up the ownership. The lock file is removed while the lock is still held; if it can't
        be removed, it does no harm."""
        if sys.platform == "win32":
            # No file can be removed there while it is open: not before this process has closed it,
            # and not after the next owner has opened it.
            self._file.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        self._file.close()
