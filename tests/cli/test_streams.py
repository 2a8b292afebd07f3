"""T22: standard streams that are closed, full, or read by nobody any more, in every command."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import csmtplib
from csmtplib.bulk.journal import Journal
from csmtplib.cli import streams

from ..bulk.servers.throttling import ThrottlingServer
from ..faults.server import DEADLINE
from ..requirements import needs_full_device, needs_signals
from .campaigns import addresses, write
from .conftest import Command, message, write_mbox

pytestmark = needs_signals


def environment(unbuffered: str) -> dict[str, str]:
    implementation = csmtplib.implementation
    return os.environ | {"CSMTPLIB_IMPL": implementation, "PYTHONUNBUFFERED": unbuffered}


UNBUFFERED = pytest.mark.parametrize("unbuffered", ["", "1"], ids=["", "unbuffered"])


class Run:
    """`csmtplib` as a process whose streams are a shell's redirections, such as "2>&-"."""

    def __init__(self, redirection: str, *arguments: str, cwd: Path, unbuffered: str = "") -> None:
        command = ["sh", "-c", f'exec "$@" {redirection}', "sh"]
        done = subprocess.run(
            [*command, sys.executable, "-m", "csmtplib", *arguments],
            cwd=cwd,
            env=environment(unbuffered),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr


def write_until_the_reader_is_gone(
    *arguments: str, cwd: Path, unbuffered: str = "", **streams: Any
) -> tuple[int, str]:
    """`csmtplib` with a pipe that nobody reads for one stream; its exit code and standard error."""
    ours, its = os.pipe()
    os.close(ours)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "csmtplib", *arguments],
            cwd=cwd,
            env=environment(unbuffered),
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=DEADLINE,
            **(pipes | dict.fromkeys(streams, its)),
        )
    finally:
        os.close(its)
    return done.returncode, done.stderr or ""


def prepare(directory: Path) -> dict[str, list[str]]:
    """Commands that write to standard output, by name."""
    arguments = write(directory, addresses(3))
    write_mbox(directory / "box", *map(message, range(3)))
    with Journal(directory / "j") as journal:
        journal.set_parameters({"id": "x"})
        journal.write(new=[(at, at, f"r{at}@x.test") for at in range(1, 4)], again=[], completed=[])
    return {
        "help": ["--help"],
        "version": ["--version"],
        **{
            f"{name} help": [name, "--help"] for name in ("send", "bulk", "resume", "report", "run")
        },
        "dry run": ["bulk", "--dry-run", *arguments],
        "report": ["report", "j"],
        "rows": ["report", "--format", "csv", "j"],
    }


COMMANDS = [
    *("help", "version", "send help", "bulk help", "resume help", "report help", "run help"),
    *("dry run", "report", "rows"),
]


@UNBUFFERED
@pytest.mark.parametrize("name", COMMANDS)
def test_a_reader_who_has_seen_enough(tmp_path: Path, name: str, unbuffered: str) -> None:
    command = prepare(tmp_path)[name]
    code, err = write_until_the_reader_is_gone(
        *command, cwd=tmp_path, unbuffered=unbuffered, stdout=True
    )
    assert (code, err) == (74, "")


@needs_full_device
@UNBUFFERED
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_reported(tmp_path: Path, name: str, unbuffered: str) -> None:
    command = prepare(tmp_path)[name]
    run = Run("> /dev/full", *command, cwd=tmp_path, unbuffered=unbuffered)
    assert (run.code, run.err) == (74, "csmtplib: standard output: No space left on device\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_output_that_is_closed(tmp_path: Path, name: str) -> None:
    run = Run(">&-", *prepare(tmp_path)[name], cwd=tmp_path)
    assert (run.code, run.err) == (74, "csmtplib: standard output: Bad file descriptor\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_all_is_closed(tmp_path: Path, name: str) -> None:
    run = Run("<&- >&- 2>&-", *prepare(tmp_path)[name], cwd=tmp_path)
    assert (run.code, run.out, run.err) == (74, "", "")


FORMS = ["2>&-", pytest.param("2> /dev/full", marks=needs_full_device), "broken"]


def refusing_server() -> ThrottlingServer:
    return ThrottlingServer(refuse=lambda who: "550 5.1.1 no" if who.startswith("r2@") else None)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["send", "--server", "URL", "box"], 0),
        (["send", "-v", "--server", "URL", "box"], 0),
        (["send", "--server", "URL", "none"], 66),
        (["bulk", "--server", "URL", "--template", "letter.txt", "table.csv"], 1),
        (
            [
                "bulk",
                "--server",
                "URL",
                "--journal",
                "new",
                "--template",
                "letter.txt",
                "table.csv",
            ],
            1,
        ),
        (["resume", "none"], 66),
        (["report", "none"], 66),
        (["post"], 64),
        ([], 64),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nothing_depends_on_standard_error(
    tmp_path: Path, form: str, command: list[str], code: int
) -> None:
    """Not what is sent, not the exit code, and not what is on standard output."""
    prepare(tmp_path)
    with refusing_server() as server:
        arguments = [server.url if each == "URL" else each for each in command]
        if form == "broken":
            ended, _ = write_until_the_reader_is_gone(*arguments, cwd=tmp_path, stderr=True)
        else:
            run = Run(form, *arguments, cwd=tmp_path)
            ended = run.code
            assert "csmtplib" not in run.out
    assert ended == code
    if code < 64:
        expected = addresses(3) if command[0] == "bulk" else ["b0@y.test", "b1@y.test", "b2@y.test"]
        refused = ["r2@y.test"] if command[0] == "bulk" else []
        assert server.log.deliveries() == Counter(set(expected) - set(refused))


def test_the_notice_of_an_interrupt_goes_nowhere_else(tmp_path: Path) -> None:
    """Descriptor 2, if it is free, would be the next file's or connection's."""
    code = (
        "import os\n"
        "from csmtplib.cli import streams\n"
        "with streams.prepared():\n"
        "    file = os.open('file', os.O_WRONLY | os.O_CREAT)\n"
        "    assert file > 2, file\n"
        "    os.write(2, b'notice')\n"
    )
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"CSMTPLIB_IMPL": csmtplib.implementation},
        timeout=DEADLINE,
    )
    assert done.returncode == 0
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("command", [["send", "-"], ["send", "-t"]], ids=" ".join)
def test_input_that_is_closed(tmp_path: Path, command: list[str]) -> None:
    run = Run("<&-", *command, cwd=tmp_path)
    assert run.code == 66
    assert run.err.count("\n") == 1
    assert "Bad file descriptor" in run.err


@pytest.mark.parametrize("options", [["-v"], ["--log-json", "-"]], ids=" ".join)
@pytest.mark.parametrize(
    "redirection", [">&-", pytest.param("> /dev/full", marks=needs_full_device)]
)
def test_results_that_can_not_be_written_stop_a_campaign(
    tmp_path: Path, options: list[str], redirection: str
) -> None:
    arguments = write(tmp_path, addresses(300))
    with ThrottlingServer() as server:
        run = Run(
            redirection,
            *("bulk", "--server", server.url, "--rate", "300/s", *options, *arguments),
            cwd=tmp_path,
        )
    assert run.code == 75
    assert "Traceback" not in run.err
    assert "stopped: standard output: " in run.err


def test_a_program_keeps_its_own_streams(tmp_path: Path) -> None:
    """`csmtplib run` is as `python`, also in what becomes of a stream that is closed."""
    (tmp_path / "program.py").write_text("import sys\nsys.exit(7 if sys.stderr is None else 0)\n")
    assert Run("2>&-", "run", "program.py", cwd=tmp_path).code == 7


def test_without_arguments_there_is_help(cli: Command) -> None:
    done = cli()
    assert (done.code, done.out) == (64, "")
    assert done.err == cli("--help").out


def test_a_stream_of_another_make_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = io.StringIO()
    monkeypatch.setattr(sys, "stderr", mine)
    with streams.prepared():
        assert sys.stderr is mine


def test_standard_error_that_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a terminal is that another program has left so: what it can't take at once is waited
    for, but not for ever."""
    monkeypatch.setattr(streams, "_PATIENCE_SECONDS", 0.1)
    ours, its = os.pipe()
    os.set_blocking(its, False)
    with io.TextIOWrapper(io.BufferedWriter(io.FileIO(its, "wb"))) as stream:
        forgiving = streams._forgiving(stream)
        for _ in range(3):
            print("x" * 40_000, file=forgiving)
        assert len(os.read(ours, 200_000)) >= 40_001
    os.close(ours)
