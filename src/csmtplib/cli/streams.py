"""Standard input, output and error, which may be closed, full, or without a reader."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from .conventions import Exit, Failure

# How long to wait for standard error if another program has made it non-blocking.
_PATIENCE_SECONDS = 1.0

# How /dev/null is opened in place of a closed stream. Reading standard input and writing standard
# output fail, as they would have; writing standard error does not, as nothing may depend on it.
_INSTEAD = (os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)


@contextmanager
def prepared() -> Iterator[None]:
    """Make sure that the three streams exist, and that writing to standard error does not fail,
    while the context lasts: what can't be written there is lost, and changes neither what is sent
    nor the exit code."""
    before = sys.stdin, sys.stdout, sys.stderr
    _open_missing()
    sys.stderr = _forgiving(sys.stderr)
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before


@contextmanager
def writing_stdout() -> Iterator[None]:
    """Raise Failure if the output of the context can't be written: for commands whose result is
    what they print."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        abandon_stdout()
        raise _lost(error) from error


@contextmanager
def flushing_stdout() -> Iterator[None]:
    """Flush standard output after the context, and raise Failure if that fails. Otherwise the
    interpreter would report it at exit, with an exit code of its own."""
    try:
        yield
    except SystemExit:
        # For example after --help.
        _flush()
        raise
    except BaseException:
        # The exception matters more than the output that was not written.
        with suppress(Failure):
            _flush()
        raise
    _flush()


def lenient_stdout() -> None:
    """Write characters that the encoding lacks as escapes, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def abandon_stdout() -> None:
    """Stop using standard output, after it failed."""
    # The interpreter would fail again when it flushes the buffer at exit.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        abandon_stdout()
        raise _lost(error) from error


def _lost(error: OSError) -> Failure:
    # For example "| head": the reader has seen enough, and needs no message.
    is_enough = isinstance(error, BrokenPipeError)
    return Failure(Exit.IOERR, "" if is_enough else f"standard output: {error.strerror or error}")


def _open_missing() -> None:
    # Otherwise the next file or connection would get the number of the closed descriptor, and the
    # output that is meant for the stream.
    for number, flags in enumerate(_INSTEAD):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, flags)
    # Python has no stream for a descriptor that was closed when it started.
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _forgiving(stream: IO[str]) -> IO[str]:
    """Return another stream to the same file, whose writes do not fail."""
    if not isinstance(stream, io.TextIOWrapper):
        # A program has replaced the stream.
        return stream
    # With PYTHONUNBUFFERED there is no buffer in between.
    raw = getattr(stream.buffer, "raw", stream.buffer)
    if not isinstance(raw, io.FileIO):
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(_Forgiving(raw, stream)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )


class _Forgiving(io.RawIOBase):
    def __init__(self, raw: io.FileIO, owner: IO[str]) -> None:
        self._raw = raw
        # Kept alive: its finaliser would close `raw`.
        self._owner = owner

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()

    def write(self, data: Any, /) -> int:
        with suppress(OSError, ValueError):
            written = self._raw.write(data)
            if written is None:
                select.select([], [self._raw], [], _PATIENCE_SECONDS)
                written = self._raw.write(data)
            if written is not None:
                return written
        return len(data)
