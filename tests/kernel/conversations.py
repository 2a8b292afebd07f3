"""Conversations in writing, and a pipeline that holds them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from csmtplib.kernel.errors import ReplyError
from csmtplib.kernel.transaction import Mode, Stage, Want

from .talking import EVERYTHING, Core, Talk

SEQUENTIAL, PIPELINING, CHUNKING = Mode

OK: tuple[object, ...] = (Stage.CONTENT, (250, b"queued"), {})


@dataclass
class Case:
    """A conversation. Each group of lines that begin with ">" is all that the client sends when it
    has heard what stands before; "! send content" lets content leave."""

    name: str
    script: str
    results: list[tuple[object, ...]]
    mode: Mode = PIPELINING
    messages: list[list[str]] = field(default_factory=lambda: [["r"]])
    failure: tuple[type[ReplyError], str, bytes] | None = None
    pieces: bool = True  # may what the server says come in pieces?
    lmtp: bool = False
    strict: bool = True
    proved: bool = False
    large: int = 1 << 20
    text: bytes = b"text\r\n"


def refused(stage: Stage, reply: str) -> tuple[object, ...]:
    return stage, told(reply), {}


def told(reply: str) -> tuple[int, bytes]:
    code, _, text = reply.partition(" ")
    return int(code), text.encode()


# What is sent for a message, with what is answered by a server that takes it.
SEQUENTIAL_TALK = """
> MAIL FROM:<s>
< 250 ok
> RCPT TO:<r>
< 250 ok
> DATA
< 354 go
> text
> .
< 250 queued
"""
PIPELINING_TALK = """
> MAIL FROM:<s>
> RCPT TO:<r>
> DATA
< 250 ok
< 250 ok
< 354 go
> text
> .
< 250 queued
"""
CHUNKING_TALK = """
> MAIL FROM:<s>
> RCPT TO:<r>
< 250 ok
< 250 ok
> BDAT 6 LAST
> text
< 250 queued
"""
WHOLE_TALK = """
> MAIL FROM:<s>
> RCPT TO:<r>
> BDAT 6 LAST
> text
< 250 ok
< 250 ok
< 250 queued
"""


def groups(script: str) -> list[tuple[str, bytes]]:
    """Who says what."""
    lines = [line.strip().partition(" ") for line in script.splitlines() if line.strip()]
    return [
        (mark, b"".join(text.encode() + b"\r\n" for _, _, text in group))
        for mark, group in itertools.groupby(lines, key=lambda line: line[0])
    ]


def converse(core: Core, case: Case, piece: int = EVERYTHING) -> Talk:
    """Plays a case, and returns the talk that it was."""
    talk = Talk(
        core,
        case.mode,
        lmtp=case.lmtp,
        strict=case.strict,
        proved=case.proved,
        large=case.large,
    )
    for number, recipients in enumerate(case.messages):
        talk.push(number, recipients, case.text)
    for mark, data in groups(case.script):
        if mark == ">":
            assert talk.pipeline.want() & Want.WRITE
            assert talk.sent(piece=piece) == data
        elif mark == "!":
            assert talk.pipeline.want() == Want.NOTHING
            assert talk.sent() == b""
            talk.pipeline.send_content()
        else:
            talk.hear(data, piece)
    assert talk.pipeline.want() == Want.NOTHING
    assert talk.sent() == b""
    assert (len(talk.pipeline), talk.pipeline.byte_count) == (0, 0)
    assert talk.told() == [(number, *result) for number, result in enumerate(case.results)]
    assert talk.told() == []
    failure = talk.pipeline.failure
    assert case.failure == (failure and (type(failure), failure.reason, failure.data))
    return talk
