"""`csmtplib bulk` and `csmtplib resume`, killed before one of their first calls; for test_kills.py.

    LD_PRELOAD=killed_at_a_call.so python -m tests.cli.begun_and_killed DIRECTORY IN_DOUBT

sends one small campaign after the other with the command itself, each in a directory of its own,
and kills it: before its first call that writes, syncs, sends or receives, before its second one,
and so on, up to that which comes to its end. Then it does what an operator would: resume, and bulk
again where resume says that the campaign never began. It prints a line of JSON for each.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import sys
from itertools import count
from pathlib import Path

from csmtplib.cli.main import main

from ..bulk.servers.logging_sink import running_logging_sink
from .campaigns import addresses, write

RECIPIENTS = 3


def run(*arguments: str, kill_after: int = -1) -> tuple[int | None, str]:
    """The exit code of a command, None where it was killed, and what it wrote on standard error."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        os.dup2(writer, 2)
        code = 99
        with contextlib.suppress(SystemExit):
            sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), line_buffering=True)
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            if kill_after >= 0:
                ctypes.CDLL(None).kill_after(ctypes.c_long(kill_after))
            code = main(arguments)
        os._exit(code)
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        err = file.read()
    _, status = os.waitpid(process, 0)
    return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status), err


def campaign(directory: Path, server: str, in_doubt: str, kill_after: int) -> dict[str, object]:
    """One campaign, killed and brought to its end; what was seen."""
    directory.mkdir()
    os.chdir(directory)
    arguments = write(directory, [f"{directory.name}{each}" for each in addresses(RECIPIENTS)])
    bulk = ["bulk", "--server", server, "--journal", "j", *arguments]
    killed, _ = run(*bulk, kill_after=kill_after)
    steps: list[tuple[str, int | None]] = []
    code: int | None = killed
    for _ in range(3):
        if code is not None and code not in (65, 66):
            break
        code, err = run("resume", "--in-doubt", in_doubt, "j")
        steps.append(("resume", code))
        assert "unknown" not in err, err
        assert code in (0, 65, 66, 76), (code, err)
        if code == 65:
            assert "never began, and nothing was sent" in err, err
        if code in (65, 66):
            code, err = run(*bulk)
            steps.append(("bulk", code))
            assert code == 0, (code, err)
    report, _ = run("report", "j")
    return {"killed": killed is None, "steps": steps, "code": code, "report": report}


def all_campaigns(directory: Path, in_doubt: str) -> None:
    with running_logging_sink(directory / "log", chunking=False) as sink:
        for calls in count():
            name = f"c{calls}-"
            found = campaign(directory / name, f"{sink.url}?name=client.test", in_doubt, calls)
            accepted = [each for each, _ in sink.accepted() if each.startswith(name)]
            found["accepted"] = len(set(accepted))
            found["doubled"] = len(accepted) - len(set(accepted))
            print(json.dumps(found), flush=True)
            if not found["killed"]:
                break


if __name__ == "__main__":
    # Imported once, and not in each process.
    import csmtplib.cli.bulk
    import csmtplib.cli.campaign_run
    import csmtplib.cli.report
    import csmtplib.cli.resume
    import csmtplib.compose.campaign  # noqa: F401

    all_campaigns(Path(sys.argv[1]), sys.argv[2])
