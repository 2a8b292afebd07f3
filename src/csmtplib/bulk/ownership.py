"""One owner at a time: a lock that the system lets go of when its process dies."""

from __future__ import annotations

import contextlib
import os
import sys
from types import TracebackType
from typing import IO

if sys.platform == "win32":
    import msvcrt

    # Far behind what is read of the file, as others can't read what is locked.
    _LOCKED_BYTE = 1 << 20

    def _lock(file: IO[bytes]) -> None:
        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


# What locks that somebody else has are called, by POSIX and by Windows.
_TAKEN = (BlockingIOError, PermissionError)


class Owned(Exception):
    """Somebody else is the owner. process: its id, None where that can't be told."""

    def __init__(self, process: int | None) -> None:
        super().__init__(process)
        self.process = process


class Ownership:
    """The ownership of a file, by a lock on another beside it, "...-lock".

    The file itself can't be locked: where it is a database, closing any descriptor of it would take
    SQLite's own locks away.
    """

    def __init__(self, path: str) -> None:
        """path: of the file that is to be owned, without symbolic links in it. Raises Owned, and
        OSError where the lock can't be had for another reason."""
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
            # Its owner took it away between open() and the lock.
            self._file.close()
        # For the text of an error only.
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        """Gives the file up. The lock is taken away while it is still held; what stays behind where
        that can't be is in nobody's way."""
        if sys.platform == "win32":
            # There no file can be taken away that somebody has open: not before this one has closed
            # it, and not once the next owner has opened it.
            self._file.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        self._file.close()
