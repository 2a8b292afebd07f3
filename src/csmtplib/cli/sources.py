"""Sources of messages: files, mbox files, Maildirs, standard input."""

from __future__ import annotations

import codecs
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from . import mbox
from .conventions import Exit, Failure

STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class Mail:
    """A message: its origin, and a function that reads its bytes.

    data: raises OSError if they can't be read, and Unsendable if the end of the message is
    unknown.
    """

    origin: str
    data: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Source:
    """The messages of one path, and their number."""

    count: int
    mails: Iterable[Mail]


def open_all(paths: Sequence[str], stdin: IO[bytes], resources: ExitStack) -> list[Source]:
    """Open the sources that paths name; "-" is standard input.

    resources: closes what is opened. Raises Failure for the first path that can't be read.
    """
    sources = []
    for name in paths:
        try:
            sources.append(_open(name, stdin, resources))
        except OSError as error:
            hint = ""
            if "@" in name and isinstance(error, FileNotFoundError):
                hint = "; name recipients by --to, or as for sendmail after -i or -t"
            raise Failure(Exit.NOINPUT, f"{name}: {error.strerror or error}{hint}") from error
    return sources


def _open(name: str, stdin: IO[bytes], resources: ExitStack) -> Source:
    if name == STANDARD_INPUT:
        return _stream(name, stdin, resources)
    # stat() gets the name itself: Path would normalise "" and "file/".
    mode = os.stat(name).st_mode
    path = Path(name)
    if stat.S_ISDIR(mode):
        return _maildir(path)
    with path.open("rb") as file:
        if not stat.S_ISREG(mode):
            # A pipe, such as a shell's <(command), can be read only once.
            return _stream(name, file, resources)
        is_empty = not file.peek(1)
    # Mail programs leave an empty file when all messages of an mbox are deleted.
    return Source(0, []) if is_empty else _file(name, path, resources)


def _stream(name: str, stream: IO[bytes], resources: ExitStack) -> Source:
    head = stream.read(len(codecs.BOM_UTF8 + mbox.FROM))
    if not head:
        return Source(0, [])
    if not head.removeprefix(codecs.BOM_UTF8).startswith(mbox.FROM):
        data = head + stream.read()
        return Source(1, [Mail(name, lambda: data)])
    # An mbox is read in pieces, and more than once.
    spool = Path(resources.enter_context(tempfile.TemporaryDirectory()), "mbox")
    with spool.open("wb") as file:
        file.write(head)
        shutil.copyfileobj(stream, file)
    return _file(name, spool, resources)


def _file(name: str, path: Path, resources: ExitStack) -> Source:
    """Open a file, which is an mbox or one message."""
    with path.open("rb") as file:
        first = file.readline(mbox.LONGEST + 1).removeprefix(codecs.BOM_UTF8)
        if not mbox.is_separator(first, file.readline(mbox.LONGEST + 1)):
            return Source(1, [Mail(name, path.read_bytes)])
    box = mbox.Mbox(resources.enter_context(path.open("rb")))
    mails = (
        Mail(f"{name}#{number + 1}", partial(box.message, number)) for number in range(len(box))
    )
    return Source(len(box), mails)


def _maildir(path: Path) -> Source:
    folders = [path / "new", path / "cur"]
    if not all(folder.is_dir() for folder in folders):
        raise IsADirectoryError(0, "a directory but not a Maildir: new/ or cur/ is missing")
    # Names begin with the time of delivery. Their flags (seen, trashed) are ignored.
    files = sorted(
        (file for folder in folders for file in folder.iterdir() if not file.name.startswith(".")),
        key=lambda file: file.name,
    )
    return Source(len(files), (Mail(str(file), file.read_bytes) for file in files))


def sendmail_input(stdin: IO[bytes], *, dot_ends: bool) -> Source:
    """Read the one message that sendmail reads: to the end or, with `dot_ends`, to a line with a
    single dot; without a first line "From ADDRESS DATE", which some programs write."""
    lines: Iterator[bytes] = iter(stdin)
    if dot_ends:
        lines = itertools.takewhile(lambda line: line.rstrip(b"\r\n") != b".", lines)
    first, second = next(lines, b""), next(lines, b"")
    kept = [second] if mbox.is_separator(first, second) else [first, second]
    data = b"".join([*kept, *lines])
    return Source(1, [Mail(STANDARD_INPUT, lambda: data)])
