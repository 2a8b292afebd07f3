"""Every kind of file that holds messages, and the odd ones among them."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from csmtplib.cli.conventions import Failure
from csmtplib.cli.sources import open_all, sendmail_input

from ..requirements import needs_named_pipes
from .conftest import message, refusal, write_maildir, write_mbox

FROM_A = b"From a Mon Jan  5 10:00:00 2026\n"
FROM_B = b"From b Mon Jan  5 11:00:00 2026\n"


@pytest.fixture
def resources() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["\n", "\r\n"], ids=["posix", "windows"])
def of_any_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Line ends as this system has them, and as others do."""
    monkeypatch.setattr(os, "linesep", request.param)


def read(path: str | Path, resources: ExitStack, stdin: bytes = b"") -> list[tuple[str, bytes]]:
    """Where the messages of a path come from, and their bytes."""
    (source,) = open_all([str(path)], io.BytesIO(stdin), resources)
    mails = [(mail.origin, mail.data()) for mail in source.mails]
    assert len(mails) == source.count
    return mails


@pytest.mark.parametrize(
    "data",
    [
        message(),
        b"no header, no line end",
        b"Subject: x\r\n\r\nCR LF\r\n",
        b"\n",
        b"From: a@x.test\n\nno mbox\n",
        b"\x00\xff\r\n.\r\n",
    ],
)
def test_a_file_is_a_message(tmp_path: Path, resources: ExitStack, data: bytes) -> None:
    path = tmp_path / "any name"
    path.write_bytes(data)
    assert read(path, resources) == [(str(path), data)]


def test_an_empty_file_holds_no_message(tmp_path: Path, resources: ExitStack) -> None:
    (tmp_path / "empty.mbox").touch()
    assert read(tmp_path / "empty.mbox", resources) == []


def test_messages_are_read_when_their_turn_comes(tmp_path: Path, resources: ExitStack) -> None:
    (tmp_path / "one.eml").write_bytes(message())
    maildir = write_maildir(tmp_path / "Maildir", message(2))
    sources = open_all([str(tmp_path / "one.eml"), maildir], io.BytesIO(), resources)
    mails = [mail for source in sources for mail in source.mails]
    (tmp_path / "one.eml").write_bytes(message(3))
    (tmp_path / "Maildir" / "new" / "000000.host").unlink()
    assert mails[0].data() == message(3)
    with pytest.raises(OSError, match="No such file"):
        mails[1].data()


@pytest.mark.usefixtures("of_any_system")
def test_an_mbox(tmp_path: Path, resources: ExitStack) -> None:
    messages = [
        message(1),
        message(2, b"> From here\n>From there\n>>From everywhere\n"),
        message(3, b""),
        b"Subject: no body at all\n",
        message(5, b".\n..\n\n\n"),
        message(6, b"\xe9\r \x0c\x1c\x85 lines of other kinds\r\n"),
        b"\n",
    ]
    path = write_mbox(tmp_path / "box", *messages)
    assert read(path, resources) == [
        (f"{path}#{number}", data) for number, data in enumerate(messages, 1)
    ]


@pytest.mark.usefixtures("of_any_system")
@pytest.mark.parametrize("tail", [b"", b"\n", b"\n\n"])
def test_the_end_of_an_mbox(tmp_path: Path, resources: ExitStack, tail: bytes) -> None:
    (tmp_path / "box").write_bytes(
        b"%bSubject: 1\n\n1\n\n%bSubject: 2\n\n2%b" % (FROM_A, FROM_B, tail)
    )
    # The last empty line is the file's, as those between the messages are.
    assert [data for _, data in read(tmp_path / "box", resources)] == [
        b"Subject: 1\n\n1\n",
        b"Subject: 2\n\n2" + tail.replace(b"\n\n", b"\n"),
    ]


@pytest.mark.usefixtures("of_any_system")
def test_an_mbox_with_crlf(tmp_path: Path, resources: ExitStack) -> None:
    (tmp_path / "box").write_bytes(
        b"%bSubject: 1\n\n1\n\n%bSubject: 2\n\n\n2\n".replace(b"\n", b"\r\n")
        % (FROM_A.replace(b"\n", b"\r\n"), FROM_B.replace(b"\n", b"\r\n"))
    )
    assert [data for _, data in read(tmp_path / "box", resources)] == [
        b"Subject: 1\r\n\r\n1\r\n",
        b"Subject: 2\r\n\r\n\r\n2\r\n",
    ]


def test_an_mbox_is_not_written_to(tmp_path: Path) -> None:
    path = write_mbox(tmp_path / "box", message(1), message(2))
    before = (tmp_path / "box").read_bytes(), (tmp_path / "box").stat().st_mtime_ns
    with ExitStack() as resources:
        assert len(read(path, resources)) == 2
    assert before == ((tmp_path / "box").read_bytes(), (tmp_path / "box").stat().st_mtime_ns)
    assert [each.name for each in tmp_path.iterdir()] == ["box"]


def test_a_maildir(tmp_path: Path, resources: ExitStack) -> None:
    for folder in ("new", "cur", "tmp", ".Sent/new", ".Sent/cur"):
        (tmp_path / folder).mkdir(parents=True)
    files = {
        "cur/1.a.host:2,S": message(1),
        "new/2.b.host": message(2, b"no line end"),
        "cur/3.c.host:2,": message(3),
        "cur/4.d.host:2,DFRST": message(4, b"From here\r\n"),
    }
    others = ["tmp/0.x.host", "cur/.hidden", "dovecot-uidlist", ".Sent/cur/9.z.host:2,S"]
    for name in [*files, *others]:
        (tmp_path / name).write_bytes(files.get(name, b"no message"))
    assert read(tmp_path, resources) == [
        (str(tmp_path / name), data) for name, data in files.items()
    ]


def test_several_paths_in_their_order(tmp_path: Path, resources: ExitStack) -> None:
    (tmp_path / "one.eml").write_bytes(message(1))
    paths = [
        write_mbox(tmp_path / "box", message(2), message(3)),
        str(tmp_path / "one.eml"),
        "-",
        write_maildir(tmp_path / "Maildir", message(5)),
    ]
    sources = open_all(paths, io.BytesIO(message(4)), resources)
    assert [mail.data() for source in sources for mail in source.mails] == [
        message(number) for number in (2, 3, 1, 4, 5)
    ]


def test_standard_input(resources: ExitStack) -> None:
    assert read("-", resources, message()) == [("-", message())]
    assert read("-", resources, b"Hi") == [("-", b"Hi")]
    assert read("-", resources, b"") == []
    mbox = FROM_A + message(1) + b"\n" + FROM_B + message(2) + b"\n"
    assert read("-", resources, mbox) == [("-#1", message(1)), ("-#2", message(2))]


@needs_named_pipes
def test_a_pipe_is_read_once(tmp_path: Path, resources: ExitStack) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    mbox = FROM_A + message(1) + b"\n" + FROM_B + message(2) + b"\n"
    writer = threading.Thread(target=path.write_bytes, args=[mbox])
    writer.start()
    assert read(path, resources) == [(f"{path}#1", message(1)), (f"{path}#2", message(2))]
    writer.join()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", None),
        ("one.eml/", None),
        ("", None),
        ("directory", "not a Maildir"),
        ("half", "not a Maildir"),
        ("bob@x.test", "--to"),
    ],
)
def test_what_can_not_be_read_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    resources: ExitStack,
    name: str,
    reason: str | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one.eml").write_bytes(message())
    Path("directory").mkdir()
    Path("half/new").mkdir(parents=True)
    with pytest.raises(Failure) as caught:
        open_all(["one.eml", name], io.BytesIO(), resources)
    assert caught.value.code == 66
    error = str(caught.value)
    assert error.startswith(f"{name}: ")
    assert (refusal(os.stat, name) if reason is None else reason) in error


@pytest.mark.parametrize(
    ("stdin", "dot_ends", "data"),
    [
        (message(), True, message()),
        (b"a\n.\nb\n", True, b"a\n"),
        (b"a\n.\nb\n", False, b"a\n.\nb\n"),
        (b"a\r\n.\r\nb", True, b"a\r\n"),
        (b"a\n..\n. \n .\n.b\n.", True, b"a\n..\n. \n .\n.b\n"),
        (b".\nb\n", True, b""),
        (b"From a Mon\nSubject: x\n\nFrom b\n", True, b"Subject: x\n\nFrom b\n"),
        (b"From a Mon Jan  5 10:00:00 2026\n.\nb", False, b".\nb"),
        (b"From a Mon Jan  5 10:00:00 2026\n", True, b""),
        # T16: it lost the first line of a text.
        (b"From now on\nall is well.\n", True, b"From now on\nall is well.\n"),
        (b"From: a\n", True, b"From: a\n"),
        (b"", True, b""),
    ],
)
def test_what_sendmail_reads(stdin: bytes, dot_ends: bool, data: bytes) -> None:
    source = sendmail_input(io.BytesIO(stdin), dot_ends=dot_ends)
    assert source.count == 1
    assert [(mail.origin, mail.data()) for mail in source.mails] == [("-", data)]
