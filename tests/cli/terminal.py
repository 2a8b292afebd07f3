"""A process on a terminal of its own, and what it has written there."""

from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import csmtplib

from ..faults.server import DEADLINE

ROWS, COLUMNS = 24, 80

# A process that is started in the background may have to be told to mind SIGINT.
PROGRAM = """\
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from csmtplib.cli.main import main
sys.exit(main())
"""


def _environment(colours: bool) -> dict[str, str]:
    """Return the variables of a process that is to believe its terminal about its size."""
    environment = os.environ | {"CSMTPLIB_IMPL": csmtplib.implementation, "TERM": "xterm"}
    for each in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(each, None)
    return environment if colours else environment | {"NO_COLOR": "1"}


class Terminal:
    """Runs `csmtplib` with a terminal for its standard error, and its standard output too if that
    is asked for; else that is in `out` at the end."""

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        with_stdout: bool = False,
        columns: int = COLUMNS,
        seconds: float = DEADLINE,
        colours: bool = False,
    ) -> None:
        """seconds: how long until() and end() wait."""
        import fcntl
        import pty
        import termios

        self._seconds = seconds
        self._ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
        streams: dict[str, Any] = {"stderr": its, "stdout": its if with_stdout else subprocess.PIPE}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=cwd,
            env=_environment(colours),
            stdin=subprocess.DEVNULL,
            text=True,
            **streams,
        )
        os.close(its)
        self.written = ""
        self.out = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self._ours)

    def until(self, text: str) -> None:
        """Reads until the text has been written."""
        end = time.monotonic() + self._seconds
        while text not in self.written:
            assert self._read(end), f"no {text!r} in {self.written!r}"

    def end(self) -> int:
        """Reads what else comes; the exit code."""
        end = time.monotonic() + self._seconds
        while self._read(end):
            pass
        self.out, _ = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode

    def screen(self) -> list[str]:
        """The lines that are to be seen, however often each was written over."""
        lines = []
        for written in self.written.replace("\r\n", "\n").split("\n"):
            shown = ""
            for each in written.split("\r"):
                shown = each + shown[len(each) :]
            lines.append(shown.rstrip())
        return lines

    def longest(self) -> int:
        """The columns of the longest line that was ever shown by a bar."""
        return max(len(each) for each in self.written.split("\r") if "%|" in each)

    def _read(self, end: float) -> bool:
        if not select.select([self._ours], [], [], max(end - time.monotonic(), 0))[0]:
            raise TimeoutError(f"nothing after {self.written!r}")
        try:
            data = os.read(self._ours, 65536)
        except OSError:
            # Linux says EIO where the other side has closed.
            return False
        # A letter may be cut in two; only bars have such letters.
        self.written += data.decode("utf-8", "replace")
        return bool(data)
