"""Where messages come from: files, mbox files, Maildir directories, standard input."""

from __future__ import annotations

import itertools
import mailbox
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

from .conventions import Exit, Failure

# Of the line that mbox files have before each message. It is no part of the message.
_FROM_LINE = b"From "

STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class Mail:
    """A message: where it comes from, and its octets, read when `octets` is called.

    `octets` raises OSError where they can't be read.
    """

    origin: str
    octets: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Source:
    """The messages of one path, and how many they are."""

    count: int
    mails: Iterable[Mail]


def open_all(paths: Sequence[str], stdin: IO[bytes], resources: ExitStack) -> list[Source]:
    """The sources that paths name; "-" is standard input.

    What is opened is closed with `resources`. Raises Failure for the first path that can't be read.
    """
    sources = []
    for name in paths:
        try:
            sources.append(_open(name, stdin, resources))
        except OSError as error:
            hint = ""
            if "@" in name and isinstance(error, FileNotFoundError):
                hint = "; recipients are named by --to, or after -i or -t as for sendmail"
            raise Failure(Exit.NOINPUT, f"{name}: {error.strerror or error}{hint}") from error
    return sources


def _open(name: str, stdin: IO[bytes], resources: ExitStack) -> Source:
    if name == STANDARD_INPUT:
        return _stream(name, stdin, resources)
    # Of the name as it is: a Path of "" or "file/" is another.
    mode = os.stat(name).st_mode
    path = Path(name)
    if stat.S_ISDIR(mode):
        return _maildir(path)
    with path.open("rb") as file:
        if not stat.S_ISREG(mode):
            # A pipe, as a shell's <(command), can be read once.
            return _stream(name, file, resources)
        head = file.read(len(_FROM_LINE))
    if head == _FROM_LINE:
        return _mbox(name, path, resources)
    if not head:
        # What mail programs leave of an mbox whose messages are all deleted.
        return Source(0, [])
    return Source(1, [Mail(name, path.read_bytes)])


def _stream(name: str, stream: IO[bytes], resources: ExitStack) -> Source:
    head = stream.read(len(_FROM_LINE))
    if not head:
        return Source(0, [])
    if head != _FROM_LINE:
        octets = head + stream.read()
        return Source(1, [Mail(name, lambda: octets)])
    # The mailbox module reads by name, and more than once.
    spool = Path(resources.enter_context(tempfile.TemporaryDirectory()), "mbox")
    with spool.open("wb") as file:
        file.write(head)
        shutil.copyfileobj(stream, file)
    return _mbox(name, spool, resources)


def _mbox(name: str, path: Path, resources: ExitStack) -> Source:
    box = mailbox.mbox(path, create=False)
    resources.callback(box.close)
    mails = (
        Mail(f"{name}#{number}", partial(_mbox_message, box, key))
        for number, key in enumerate(box.iterkeys(), 1)
    )
    return Source(len(box), mails)


def _mbox_message(box: mailbox.mbox, key: str) -> bytes:
    # get_bytes() would make other line ends of the system's own.
    from_line, _, message = box.get_file(key, from_=True).read().partition(b"\n")
    # The empty line before the next "From " is the file's. `mailbox` knows that of this system.
    line_end = b"\r\n" if from_line.endswith(b"\r") else b"\n"
    if line_end != os.linesep.encode() and (
        message.endswith(b"\n" + line_end) or message == line_end
    ):
        message = message.removesuffix(line_end)
    return message


def _maildir(path: Path) -> Source:
    folders = [path / "new", path / "cur"]
    if not all(folder.is_dir() for folder in folders):
        raise IsADirectoryError(0, "a directory, and no Maildir: it lacks new/ or cur/")
    # Names begin with the time of delivery. What is flagged in them (seen, trashed) is no matter
    # here.
    files = sorted(
        (file for folder in folders for file in folder.iterdir() if not file.name.startswith(".")),
        key=lambda file: file.name,
    )
    return Source(len(files), (Mail(str(file), file.read_bytes) for file in files))


def sendmail_input(stdin: IO[bytes], *, dot_ends: bool) -> Source:
    """The one message that sendmail reads: up to the end or, by `dot_ends`, up to a line with a
    single dot; without the "From " line that some programs put first."""
    lines: Iterator[bytes] = iter(stdin)
    if dot_ends:
        lines = itertools.takewhile(lambda line: line.rstrip(b"\r\n") != b".", lines)
    first = next(lines, b"")
    octets = b"".join([b"" if first.startswith(_FROM_LINE) else first, *lines])
    return Source(1, [Mail(STANDARD_INPUT, lambda: octets)])
