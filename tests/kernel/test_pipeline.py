"""A pipeline: what it sends, what it makes of replies, and how it fails, compiled and pure."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from csmtplib.kernel.errors import (
    END_OF_CONNECTION,
    ChunkingRefused,
    ReplyMalformed,
    ReplyTooLong,
    ReplyUnexpected,
    SessionClosed,
)
from csmtplib.kernel.transaction import Mode, Phase, Stage, Step, Want

from .conversations import (
    CHUNKING,
    CHUNKING_TALK,
    OK,
    PIPELINING,
    PIPELINING_TALK,
    SEQUENTIAL,
    SEQUENTIAL_TALK,
    WHOLE_TALK,
    Case,
    converse,
    groups,
    refused,
)
from .talking import EVERYTHING, Core, Talk

SURPLUS = "the server sent a reply that answers no command"
PREMATURE = "the server refused a message before all of it was sent"
INVALID_CODE = "the server sent a reply with a code that SMTP does not use"
UNEXPECTED_SUCCESS = "the server sent a positive reply that does not fit the command"
CLOSED = "the server closes the session"
CLOSED_IN_CONTENT = "the server refuses a message before all of it was sent"
NO_BDAT = "the server does not know BDAT"

CASES = [
    # Messages that are accepted; test_steps.py has what is sent early.
    Case("sequential", SEQUENTIAL_TALK, [OK], SEQUENTIAL),
    Case("sequential, twice", SEQUENTIAL_TALK * 2, [OK, OK], SEQUENTIAL, [["r"], ["r"]]),
    Case(
        "pipelined, not proving by a refusal",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > DATA
        < 250 ok
        < 250 ok
        < 354 go
        > text
        > .
        > RSET
        < 554 spam
        < 250 reset
        """
        + PIPELINING_TALK,
        [refused(Stage.CONTENT, "554 spam"), OK],
        messages=[["r"], ["r"]],
    ),
    Case(
        "an empty chunk",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > BDAT 0 LAST
        < 250 ok
        < 250 ok
        < 250 queued
        """,
        [OK],
        CHUNKING,
        proved=True,
        text=b"",
    ),
    Case(
        "a large message waits for its recipients",
        CHUNKING_TALK,
        [OK],
        CHUNKING,
        proved=True,
        large=5,
    ),
    Case(
        "a message as large as may be does not wait",
        WHOLE_TALK,
        [OK],
        CHUNKING,
        proved=True,
        large=6,
    ),
    Case(
        "a large message for nobody is not sent",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        < 250 ok
        < 550 no
        > RSET
        < 250 reset
        """,
        [(Stage.RCPT, None, {0: (Stage.RCPT, (550, b"no"))})],
        CHUNKING,
        proved=True,
        large=5,
    ),
    # Refusals.
    Case(
        "sequential, MAIL refused",
        """
        > MAIL FROM:<s>
        < 550 no
        > RSET
        < 250 reset
        """,
        [refused(Stage.MAIL, "550 no")],
        SEQUENTIAL,
    ),
    Case(
        "MAIL refused",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > DATA
        < 550 no
        < 503 need MAIL
        < 503 need RCPT
        > RSET
        < 250 reset
        """,
        [refused(Stage.MAIL, "550 no")],
    ),
    Case(
        "MAIL refused, and the server wants a message all the same",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > DATA
        < 550 no
        < 503 need MAIL
        < 354 go
        > .
        < 554 no recipients
        """,
        [refused(Stage.MAIL, "550 no")],
    ),
    Case(
        "MAIL refused in a stream of chunks",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > BDAT 6 LAST
        > text
        > RSET
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > BDAT 6 LAST
        > text
        < 452 full
        < 503 need MAIL
        < 503 need RCPT
        < 250 reset
        < 250 ok
        < 250 ok
        < 250 queued
        > RSET
        < 250 reset
        """,
        [refused(Stage.MAIL, "452 full"), OK],
        CHUNKING,
        [["r"], ["r"]],
        proved=True,
    ),
    Case(
        "some recipients refused (45, 48)",
        """
        > MAIL FROM:<s>
        > RCPT TO:<a>
        > RCPT TO:<b>
        > RCPT TO:<c>
        > DATA
        < 250 ok
        < 250 ok
        < 550 no
        < 251 forwarded
        < 354 go
        > text
        > .
        < 250 queued
        """,
        [(Stage.CONTENT, (250, b"queued"), {1: (Stage.RCPT, (550, b"no"))})],
        messages=[["a", "b", "c"]],
    ),
    Case(
        "all recipients refused, sequentially",
        """
        > MAIL FROM:<s>
        < 250 ok
        > RCPT TO:<a>
        < 550 no
        > RCPT TO:<b>
        < 452 full
        > RSET
        < 250 reset
        > MAIL FROM:<s>
        < 550 no
        > RSET
        < 250 reset
        """,
        [
            (Stage.RCPT, None, {0: (Stage.RCPT, (550, b"no")), 1: (Stage.RCPT, (452, b"full"))}),
            refused(Stage.MAIL, "550 no"),
        ],
        SEQUENTIAL,
        [["a", "b"], ["r"]],
    ),
    Case(
        "all recipients refused, and DATA (49)",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > DATA
        < 250 ok
        < 550 no
        < 503 need RCPT
        > RSET
        < 250 reset
        """,
        [(Stage.RCPT, None, {0: (Stage.RCPT, (550, b"no"))})],
    ),
    *(
        Case(
            f"all recipients refused, but not DATA (47); {answer}",
            f"""
            > MAIL FROM:<s>
            > RCPT TO:<r>
            > DATA
            < 250 ok
            < 550 no
            < 354 go
            > .
            < {answer}
            """,
            [(Stage.RCPT, None, {0: (Stage.RCPT, (550, b"no"))})],
        )
        for answer in ("250 queued", "554 no recipients")
    ),
    Case(
        "DATA refused",
        """
        > MAIL FROM:<s>
        > RCPT TO:<a>
        > RCPT TO:<b>
        > DATA
        < 250 ok
        < 550 no
        < 250 ok
        < 451 later
        > RSET
        < 250 reset
        """,
        [(Stage.DATA, (451, b"later"), {0: (Stage.RCPT, (550, b"no"))})],
        messages=[["a", "b"]],
    ),
    Case(
        "the content refused",
        PIPELINING_TALK.replace("250 queued", "554 spam"),
        [refused(Stage.CONTENT, "554 spam")],
    ),
    Case(
        "a chunk refused: the transaction may be open still",
        CHUNKING_TALK.replace("250 queued", "554 spam") + "> RSET\n< 250 reset" + CHUNKING_TALK,
        [refused(Stage.CONTENT, "554 spam"), OK],
        CHUNKING,
        [["r"], ["r"]],
    ),
    Case(
        "one of several chunks refused (60)",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > BDAT 6 LAST
        > text
        > RSET
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > BDAT 6 LAST
        > text
        < 250 ok
        < 250 ok
        < 452 full
        < 250 reset
        < 250 ok
        < 250 ok
        < 250 queued
        > RSET
        < 250 reset
        """,
        [refused(Stage.CONTENT, "452 full"), OK],
        CHUNKING,
        [["r"], ["r"]],
        proved=True,
    ),
    Case(
        "the last of several chunks refused",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > BDAT 6 LAST
        > text
        < 250 ok
        < 250 ok
        < 452 full
        > RSET
        < 250 reset
        """,
        [refused(Stage.CONTENT, "452 full")],
        CHUNKING,
        proved=True,
    ),
    Case(
        "a chunk for nobody",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > BDAT 6 LAST
        > text
        < 250 ok
        < 550 no
        < 503 need RCPT
        > RSET
        < 250 reset
        """,
        [(Stage.RCPT, None, {0: (Stage.RCPT, (550, b"no"))})],
        CHUNKING,
        proved=True,
    ),
    # A server that offers CHUNKING but does not know BDAT.
    *(
        Case(
            f"BDAT is not known: {code}",
            CHUNKING_TALK.replace("250 queued", f"{code} what?\n< 500 what?"),
            [(Stage.LOST, None, {})] * 2,
            CHUNKING,
            [["r"], ["r"]],
            failure=(ChunkingRefused, NO_BDAT, b"%d what?" % code),
        )
        for code in range(500, 505)
    ),
    Case(
        "BDAT was known",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > BDAT 6 LAST
        > text
        < 250 ok
        < 250 ok
        < 500 what?
        > RSET
        < 250 reset
        > MAIL FROM:<s>
        < 250 ok
        > RCPT TO:<r>
        < 250 ok
        > BDAT 6 LAST
        > text
        < 500 what?
        > RSET
        < 250 reset
        """,
        [refused(Stage.CONTENT, "500 what?")],
        CHUNKING,
        proved=True,
    ),
    # LMTP.
    Case(
        "LMTP, an answer each",
        """
        > MAIL FROM:<s>
        > RCPT TO:<a>
        > RCPT TO:<b>
        > RCPT TO:<c>
        > DATA
        < 250 ok
        < 250 ok
        < 550 no
        < 250 ok
        < 354 go
        > text
        > .
        < 250 a
        < 452 c is full
        """,
        [
            (
                Stage.CONTENT,
                None,
                {
                    0: (Stage.CONTENT, (250, b"a")),
                    1: (Stage.RCPT, (550, b"no")),
                    2: (Stage.CONTENT, (452, b"c is full")),
                },
            )
        ],
        messages=[["a", "b", "c"]],
        lmtp=True,
    ),
    Case(
        "LMTP, one of two",
        """
        > MAIL FROM:<s>
        > RCPT TO:<a>
        > RCPT TO:<b>
        > DATA
        < 250 ok
        < 550 no
        < 250 ok
        < 354 go
        > text
        > .
        < 250 b
        """,
        [(Stage.CONTENT, (250, b"b"), {0: (Stage.RCPT, (550, b"no"))})],
        messages=[["a", "b"]],
        lmtp=True,
    ),
    Case(
        "LMTP, in chunks",
        """
        > MAIL FROM:<s>
        > RCPT TO:<a>
        > RCPT TO:<b>
        > BDAT 6 LAST
        > text
        < 250 ok
        < 250 ok
        < 250 ok
        < 250 a
        < 550 b
        > RSET
        < 250 reset
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > BDAT 6 LAST
        > text
        < 250 ok
        < 250 ok
        < 250 queued
        """,
        [
            (
                Stage.CONTENT,
                None,
                {0: (Stage.CONTENT, (250, b"a")), 1: (Stage.CONTENT, (550, b"b"))},
            ),
            OK,
        ],
        CHUNKING,
        [["a", "b"], ["r"]],
        lmtp=True,
        proved=True,
    ),
    Case(
        "not LMTP: one answer for all",
        """
        > MAIL FROM:<s>
        > RCPT TO:<a>
        > RCPT TO:<b>
        > DATA
        < 250 ok
        < 250 ok
        < 250 ok
        < 354 go
        > text
        > .
        < 250 queued
        """,
        [OK],
        messages=[["a", "b"]],
    ),
    # 421.
    Case(
        "421 to MAIL",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > DATA
        < 421 bye
        """,
        [refused(Stage.MAIL, "421 bye"), (Stage.LOST, None, {})],
        messages=[["r"], ["r"]],
        failure=(SessionClosed, CLOSED, b"421 bye"),
    ),
    Case(
        "421 to RCPT",
        """
        > MAIL FROM:<s>
        > RCPT TO:<a>
        > RCPT TO:<b>
        > DATA
        < 250 ok
        < 421 bye
        """,
        [(Stage.LOST, None, {0: (Stage.RCPT, (421, b"bye"))})],
        messages=[["a", "b"]],
        failure=(SessionClosed, CLOSED, b"421 bye"),
    ),
    Case(
        "421 to DATA",
        PIPELINING_TALK.replace("354 go\n> text\n> .\n< 250 queued", "421 bye"),
        [refused(Stage.DATA, "421 bye")],
        failure=(SessionClosed, CLOSED, b"421 bye"),
    ),
    Case(
        "421 to the content",
        PIPELINING_TALK.replace("250 queued", "421 bye"),
        [refused(Stage.CONTENT, "421 bye")],
        failure=(SessionClosed, CLOSED, b"421 bye"),
    ),
    Case(
        "421 in a stream: the server does not come to what is behind it",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > BDAT 6 LAST
        > text
        > RSET
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > BDAT 6 LAST
        > text
        > RSET
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > BDAT 6 LAST
        > text
        < 250 ok
        < 250 ok
        < 250 queued
        < 250 reset
        < 250 ok
        < 250 ok
        < 421 bye
        """,
        [OK, refused(Stage.CONTENT, "421 bye"), (Stage.LOST, None, {})],
        CHUNKING,
        [["r"], ["r"], ["r"]],
        failure=(SessionClosed, CLOSED, b"421 bye"),
        proved=True,
    ),
    Case(
        "421 to RSET",
        """
        > MAIL FROM:<s>
        < 250 ok
        > RCPT TO:<r>
        < 550 no
        > RSET
        < 421 bye
        """,
        [(Stage.RCPT, None, {0: (Stage.RCPT, (550, b"no"))}), (Stage.LOST, None, {})],
        SEQUENTIAL,
        [["r"], ["r"]],
        failure=(SessionClosed, CLOSED, b"421 bye"),
    ),
    # Replies that can't be the answer they would be taken for.
    Case(
        "surplus (16)",
        SEQUENTIAL_TALK.replace("< 250 ok\n> RCPT", "< 250 ok\n< 250 extra\n> RCPT").partition(
            "> RCPT"
        )[0],
        [(Stage.LOST, None, {})],
        SEQUENTIAL,
        failure=(ReplyUnexpected, SURPLUS, b"250 extra"),
        pieces=False,
    ),
    Case(
        "surplus, when all is done",
        PIPELINING_TALK + "< 250 extra",
        [OK],
        failure=(ReplyUnexpected, SURPLUS, b"250 extra"),
        pieces=False,
    ),
    Case(
        "421, when all is done",
        PIPELINING_TALK + "< 421 idle",
        [OK],
        failure=(SessionClosed, CLOSED, b"421 idle"),
        pieces=False,
    ),
    Case(
        "queued before the body (51)",
        PIPELINING_TALK.replace("354 go\n> text\n> .\n< 250 queued", "354 go\n< 250 queued"),
        [(Stage.LOST, None, {})],
        failure=(ReplyUnexpected, SURPLUS, b"250 queued"),
        pieces=False,
    ),
    *(
        Case(
            f"no SMTP: {reply}",
            f"""
            > MAIL FROM:<s>
            > RCPT TO:<r>
            > DATA
            < {reply}
            """,
            [(Stage.LOST, None, {})],
            failure=(ReplyUnexpected, INVALID_CODE, failed),
        )
        for reply, failed in (
            ("100 wait", b"100 wait"),
            ("199 wait", b"199 wait"),
            ("600 ?", b"600 ?"),
            ("999 ?", b"999 ?"),
            ("hello there", b"-1 o there"),
        )
    ),
    *(
        Case(
            f"{code} to MAIL",
            f"""
            > MAIL FROM:<s>
            > RCPT TO:<r>
            > DATA
            < {code} ?
            """,
            [(Stage.LOST, None, {})],
            failure=(ReplyUnexpected, UNEXPECTED_SUCCESS, b"%d ?" % code),
        )
        for code in (220, 221, 354)
    ),
    *(
        Case(
            f"{code} to RCPT",
            f"""
            > MAIL FROM:<s>
            > RCPT TO:<r>
            > DATA
            < 250 ok
            < {code} ?
            """,
            [(Stage.LOST, None, {})],
            failure=(ReplyUnexpected, UNEXPECTED_SUCCESS, b"%d ?" % code),
        )
        for code in (220, 221, 354)
    ),
    Case(
        "RCPT accepted behind a refused MAIL",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > DATA
        < 550 no
        < 250 ok
        """,
        [refused(Stage.MAIL, "550 no")],
        failure=(ReplyUnexpected, UNEXPECTED_SUCCESS, b"250 ok"),
    ),
    Case(
        "250 to DATA",
        PIPELINING_TALK.replace("354 go\n> text\n> .\n< 250 queued", "250 ?"),
        [(Stage.LOST, None, {})],
        failure=(ReplyUnexpected, UNEXPECTED_SUCCESS, b"250 ?"),
    ),
    Case(
        "354 to the content",
        PIPELINING_TALK.replace("250 queued", "354 go"),
        [(Stage.IN_DOUBT, None, {})],
        failure=(ReplyUnexpected, UNEXPECTED_SUCCESS, b"354 go"),
    ),
    Case(
        "354 to RSET",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > DATA
        < 250 ok
        < 250 ok
        < 451 later
        > RSET
        < 354 go
        """,
        [refused(Stage.DATA, "451 later")],
        failure=(ReplyUnexpected, UNEXPECTED_SUCCESS, b"354 go"),
    ),
    Case(
        "354 to the empty message",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > DATA
        < 250 ok
        < 550 no
        < 354 go
        > .
        < 354 go
        """,
        [(Stage.RCPT, None, {0: (Stage.RCPT, (550, b"no"))})],
        failure=(ReplyUnexpected, UNEXPECTED_SUCCESS, b"354 go"),
    ),
    Case(
        "garbage behind the terminator (55)",
        PIPELINING_TALK.replace("250 queued", "2500 ?\n< 250 queued"),
        [(Stage.IN_DOUBT, None, {})],
        failure=(ReplyMalformed, "malformed reply code", b"2500 ?\r\n"),
    ),
    Case(
        "two codes in one reply",
        PIPELINING_TALK.replace("250 queued", "250-queued\n< 550 not queued"),
        [(Stage.IN_DOUBT, None, {})],
        failure=(
            ReplyMalformed,
            "a reply whose lines have different codes",
            b"250-queued\r\n550 not queued\r\n",
        ),
    ),
    Case(
        "a reply with several lines",
        PIPELINING_TALK.replace("250 queued", "250-queued\n< 250 as 1"),
        [(Stage.CONTENT, (250, b"queued\nas 1"), {})],
    ),
    # Not strict, like smtplib.
    Case(
        "not strict: anything may refuse",
        """
        > MAIL FROM:<s>
        < what is this
        """,
        [(Stage.MAIL, (-1, b"is this"), {})],
        SEQUENTIAL,
        strict=False,
    ),
    Case(
        "not strict: anything may answer",
        PIPELINING_TALK.replace("DATA", "data")
        .replace("250 queued", "what is this")
        .replace("go", "go\n! send content"),
        [(Stage.CONTENT, (-1, b"is this"), {})],
        strict=False,
    ),
    Case(
        "not strict: no RCPT without MAIL",
        """
        > MAIL FROM:<s>
        > RCPT TO:<a>
        > RCPT TO:<b>
        > data
        < 300 ?
        < 250 ok
        < 550 no
        < 503 no
        """,
        [refused(Stage.MAIL, "300 ?")],
        messages=[["a", "b"]],
        strict=False,
    ),
    Case(
        "not strict: no message without MAIL",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > data
        < 550 no
        < 250 ok
        < 354 go
        """,
        [refused(Stage.MAIL, "550 no")],
        strict=False,
        failure=(ReplyUnexpected, UNEXPECTED_SUCCESS, b"354 go"),
    ),
    Case(
        "not strict: RCPT 252 is none of the two that accept",
        """
        > MAIL FROM:<s>
        < 250 ok
        > RCPT TO:<r>
        < 252 maybe
        """,
        [(Stage.RCPT, None, {0: (Stage.RCPT, (252, b"maybe"))})],
        SEQUENTIAL,
        strict=False,
    ),
    Case(
        "not strict: nobody gets an empty message",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > data
        < 250 ok
        < 252 maybe
        < 354 go
        """,
        [(Stage.RCPT, None, {0: (Stage.RCPT, (252, b"maybe"))})],
        strict=False,
        failure=(ReplyUnexpected, UNEXPECTED_SUCCESS, b"354 go"),
    ),
    Case(
        "not strict: DATA 250",
        PIPELINING_TALK.replace("DATA", "data").replace(
            "354 go\n> text\n> .\n< 250 queued", "250 ?"
        ),
        [refused(Stage.DATA, "250 ?")],
        strict=False,
    ),
    Case(
        "not strict: a preliminary reply is none all the same (15)",
        PIPELINING_TALK.replace("DATA", "data")
        .replace("250 queued", "150 wait")
        .replace("go", "go\n! send content"),
        [(Stage.IN_DOUBT, None, {})],
        strict=False,
        failure=(ReplyUnexpected, INVALID_CODE, b"150 wait"),
    ),
    Case(
        "not strict: the empty message is not held",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > data
        < 250 ok
        < 550 no
        < 354 go
        > .
        < 550 no recipients
        """,
        [(Stage.RCPT, None, {0: (Stage.RCPT, (550, b"no"))})],
        strict=False,
    ),
    Case(
        "not strict: no RSET, which is smtplib's business",
        """
        > MAIL FROM:<s>
        > RCPT TO:<r>
        > data
        < 250 ok
        < 550 no
        < 503 need RCPT
        """,
        [(Stage.RCPT, None, {0: (Stage.RCPT, (550, b"no"))})],
        strict=False,
    ),
    Case(
        "not strict: a refused chunk is not followed by RSET",
        CHUNKING_TALK.replace("250 queued", "554 spam").replace("> BDAT", "! send content\n> BDAT"),
        [refused(Stage.CONTENT, "554 spam")],
        CHUNKING,
        strict=False,
    ),
]


CASES += [
    Case(
        "the first digit counts (RFC 5321 section 4.3.2)",
        """
        > MAIL FROM:<s>
        > RCPT TO:<a>
        > RCPT TO:<b>
        > DATA
        < 200 ok
        < 252 maybe
        < 253 pending
        < 354 go
        > text
        > .
        < 299 queued
        """,
        [(Stage.CONTENT, (299, b"queued"), {})],
        messages=[["a", "b"]],
    ),
]


@pytest.mark.parametrize("piece", [EVERYTHING, 1, 3])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_conversation(core: Core, case: Case, piece: int) -> None:
    if not case.pieces and piece != EVERYTHING:
        pytest.skip("the first piece is a failure already")
    converse(core, case, piece)


@pytest.mark.parametrize("begun", [b"2", b"250", b"250 extra", b"250-extra\r\n", b"x"])
def test_what_begins_and_answers_nothing(core: Core, begun: bytes) -> None:
    # It must not be taken for the answer to the next command.
    for said in ("", "< 250 ok\n< 250 ok\n< 354 go"):
        talk = Talk(core, PIPELINING)
        if said:
            talk.push()
            talk.sent()
            talk.hear(groups(said)[0][1])
        talk.hear(begun)
        failure = talk.pipeline.failure
        assert (type(failure), failure.reason) == (ReplyUnexpected, SURPLUS)
        assert failure.data == begun
        assert talk.told() == ([("m", Stage.LOST, None, {})] if said else [])


def test_not_strict_what_begins_may_answer_what_is_sent_next(core: Core) -> None:
    talk = Talk(core, SEQUENTIAL, strict=False)
    talk.hear(b"250 o")
    talk.push()
    talk.sent()
    talk.hear(b"k\r\n")
    assert talk.pipeline.failure is None
    assert talk.sent() == b"RCPT TO:<r>\r\n"


@pytest.mark.parametrize("mode", Mode)
def test_what_is_wanted_and_waited_for(core: Core, mode: Mode) -> None:
    talk = Talk(core, mode)
    pipeline = talk.pipeline
    assert (pipeline.want(), pipeline.phase()) == (Want.NOTHING, Phase.BLOCK)
    talk.push()
    assert len(pipeline) == 1
    assert pipeline.byte_count == (6 if mode == CHUNKING else 9)
    assert (pipeline.want(), pipeline.phase()) == (Want.WRITE | Want.READ, Phase.BLOCK)
    if mode == SEQUENTIAL:
        for _ in range(2):
            talk.sent()
            assert (pipeline.want(), pipeline.phase()) == (Want.READ, Phase.COMMAND)
            talk.hear(b"250 ok\r\n")
        talk.sent()
    else:
        talk.sent()
        for _ in range(2):
            assert (pipeline.want(), pipeline.phase()) == (Want.READ, Phase.COMMAND)
            talk.hear(b"250 ok\r\n")
    if mode != CHUNKING:
        assert (pipeline.want(), pipeline.phase()) == (Want.READ, Phase.DATA)
        talk.hear(b"354 go\r\n")
    assert (pipeline.want(), pipeline.phase()) == (Want.WRITE | Want.READ, Phase.BLOCK)
    talk.sent(limit=pipeline.byte_count - 1)
    assert (pipeline.want(), pipeline.phase()) == (Want.WRITE | Want.READ, Phase.BLOCK)
    assert pipeline.proof == Step.ALONE
    talk.sent()
    assert (pipeline.want(), pipeline.phase()) == (Want.READ, Phase.CONTENT)
    talk.hear(b"250 queued\r\n")
    assert (pipeline.want(), pipeline.phase()) == (Want.NOTHING, Phase.BLOCK)
    assert pipeline.booked == (3 if mode == CHUNKING else 4)
    assert pipeline.proof == (Step.ALONE if mode == SEQUENTIAL else Step.FLIGHT)
    assert pipeline.failure is None


def test_the_empty_message_is_waited_for_like_one(core: Core) -> None:
    talk = Talk(core, PIPELINING)
    talk.push()
    talk.sent()
    talk.hear(b"250 ok\r\n550 no\r\n354 go\r\n")
    assert talk.sent() == b".\r\n"
    assert talk.pipeline.phase() == Phase.CONTENT
    assert talk.told() == []


def test_what_is_pulled_stays_until_it_is_written(core: Core) -> None:
    talk = Talk(core, CHUNKING, proved=True)
    talk.push()
    whole = talk.pipeline.pull(1000)
    assert whole == b"MAIL FROM:<s>\r\nRCPT TO:<r>\r\nBDAT 6 LAST\r\ntext\r\n"
    for done in range(len(whole)):
        for limit, given in ((0, 0), (20, 20), (1000, 20), (2, 2), (1000, 2), (1, 1)):
            # It returns no more of it than before.
            assert talk.pipeline.pull(limit) == whole[done : done + given]
        talk.pipeline.wrote(0)
        assert talk.pipeline.pull(1000) == whole[done : done + 1]
        talk.pipeline.wrote(1)
    assert talk.pipeline.pull(1000) == b""


def test_what_is_pulled_does_not_grow_before_it_is_written(core: Core) -> None:
    talk = Talk(core, CHUNKING, proved=True)
    talk.push()
    pulled = talk.pipeline.pull(1000)
    talk.push()
    assert talk.pipeline.pull(1000) == pulled
    talk.pipeline.wrote(3)
    assert talk.pipeline.pull(1000).startswith(pulled[3:])
    assert len(talk.pipeline.pull(1000)) > len(pulled)


@pytest.mark.parametrize("pulled", [6, 7, 8, 1000])
@pytest.mark.parametrize("wrote", [None, 0, 6, 7])
def test_what_was_pulled_may_have_left_until_it_is_written(
    core: Core, pulled: int, wrote: int | None
) -> None:
    """T1: an exception between the socket's send() and wrote() lost the count, and messages that
    the server had were reported as LOST."""
    talk = Talk(core, SEQUENTIAL)
    talk.push()
    for reply in (b"250 ok", b"250 ok", b"354 go"):
        talk.sent()
        talk.hear(reply + b"\r\n")
    left = len(talk.pipeline.pull(pulled))
    if wrote is not None:
        left = min(left, wrote)
        talk.pipeline.wrote(left)
    talk.pipeline.lose(InterruptedError())
    stage = Stage.IN_DOUBT if left > len(b"text\r\n") else Stage.LOST
    assert talk.told() == [("m", stage, None, {})]


@pytest.mark.parametrize("mode", [SEQUENTIAL, PIPELINING])
@pytest.mark.parametrize("left", range(10))
def test_lost_or_in_doubt_behind_data(core: Core, mode: Mode, left: int) -> None:
    talk = Talk(core, mode)
    talk.push("first", ["a", "b"])
    talk.push("second")
    for reply in (b"250 ok", b"550 no", b"250 ok", b"354 go"):
        talk.sent()
        talk.hear(reply + b"\r\n")
    assert talk.sent(left) == b"text\r\n.\r\n"[:left]
    error = OSError("reset")
    talk.pipeline.lose(error)
    assert talk.pipeline.failure is error
    # As soon as a byte of the terminator is sent, all of it may be.
    stage = Stage.IN_DOUBT if left > 6 else Stage.LOST
    assert talk.told() == [
        ("first", stage, None, {0: (Stage.RCPT, (550, b"no"))}),
        ("second", Stage.LOST, None, {}),
    ]
    assert (talk.pipeline.want(), talk.sent()) == (Want.NOTHING, b"")


def test_lost_or_in_doubt_in_a_stream(core: Core) -> None:
    talk = Talk(core, CHUNKING, proved=True)
    for number in range(3):
        talk.push(number)
    stream = talk.sent()
    ends = [len(piece) for piece in itertools.accumulate(stream.split(b"RSET\r\n"))]
    ends = [end + number * len(b"RSET\r\n") for number, end in enumerate(ends)]
    for left in range(len(stream) + 1):
        for answered in range(2):
            talk = Talk(core, CHUNKING, proved=True)
            for number in range(3):
                talk.push(number)
            talk.sent(left)
            wanted = [Stage.IN_DOUBT if left >= end else Stage.LOST for end in ends]
            if answered and left >= ends[0]:
                talk.hear(b"250 ok\r\n250 ok\r\n250 queued\r\n")
                wanted[0] = Stage.CONTENT
            talk.pipeline.lose(TimeoutError())
            assert [(tag, stage) for tag, stage, _, _ in talk.told()] == [*enumerate(wanted)]


@pytest.mark.parametrize("left", [0, 1, 10])
def test_an_empty_chunk_is_complete_with_its_command(core: Core, left: int) -> None:
    for done, stage in ((False, Stage.LOST), (True, Stage.IN_DOUBT)):
        talk = Talk(core, CHUNKING, proved=True)
        talk.push(text=b"")
        talk.sent(len(talk.pipeline.pull(1000)) - (not done) * (1 + left))
        talk.pipeline.lose(EOFError())
        assert talk.told() == [("m", stage, None, {})]


def test_lmtp_in_doubt_for_who_was_not_answered(core: Core) -> None:
    # Case 61.
    talk = Talk(core, PIPELINING, lmtp=True)
    talk.push(recipients=["a", "b", "c"])
    talk.sent()
    talk.hear(b"250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    talk.sent()
    talk.hear(b"250 ok\r\n550 no\r\n")
    assert talk.pipeline.want() == Want.READ
    talk.pipeline.end_of_stream()
    assert talk.told() == [
        (
            "m",
            Stage.IN_DOUBT,
            None,
            {0: (Stage.CONTENT, (250, b"ok")), 1: (Stage.CONTENT, (550, b"no"))},
        )
    ]


def test_what_was_refused_is_not_in_doubt(core: Core) -> None:
    talk = Talk(core, CHUNKING, proved=True)
    talk.push(1)
    talk.push(2, ["a", "b"])
    talk.push(3)
    talk.sent()
    talk.hear(b"550 no\r\n503 no\r\n503 no\r\n250 reset\r\n250 ok\r\n450 no\r\n451 no\r\n")
    talk.pipeline.end_of_stream()
    others = {0: (Stage.RCPT, (450, b"no")), 1: (Stage.RCPT, (451, b"no"))}
    assert talk.told() == [
        (1, Stage.MAIL, (550, b"no"), {}),
        (2, Stage.RCPT, None, others),
        (3, Stage.IN_DOUBT, None, {}),
    ]


@pytest.mark.parametrize("mode", [PIPELINING, CHUNKING])
@pytest.mark.parametrize("code", [421, 451, 552])
def test_refused_amidst_the_content(core: Core, mode: Mode, code: int) -> None:
    # Case 52.
    talk = Talk(core, mode)
    talk.push("first", ["a", "b"])
    talk.push("second")
    talk.sent()
    talk.hear(b"250 ok\r\n550 no\r\n250 ok\r\n" + (b"354 go\r\n" if mode == PIPELINING else b""))
    talk.sent(3)
    talk.hear(b"%d enough\r\n" % code)
    failure = talk.pipeline.failure
    reason, kind = (
        (CLOSED_IN_CONTENT, SessionClosed) if code == 421 else (PREMATURE, ReplyUnexpected)
    )
    assert (type(failure), failure.reason) == (kind, reason)
    assert failure.data == b"%d enough" % code
    assert talk.told() == [
        ("first", Stage.CONTENT, (code, b"enough"), {0: (Stage.RCPT, (550, b"no"))}),
        ("second", Stage.LOST, None, {}),
    ]
    assert (talk.pipeline.want(), talk.sent()) == (Want.NOTHING, b"")


def test_refused_amidst_the_content_in_pieces(core: Core) -> None:
    talk = Talk(core, PIPELINING)
    talk.push()
    talk.sent()
    talk.hear(b"250 ok\r\n250 ok\r\n354 go\r\n")
    talk.sent(3)
    talk.hear(b"552 enough\r\n", 1)
    assert talk.told() == [("m", Stage.CONTENT, (552, b"enough"), {})]


@pytest.mark.parametrize("code", [421, 451, 554])
@pytest.mark.parametrize("mode", list(Mode), ids=lambda mode: mode.name.lower())
@pytest.mark.parametrize("begun", [False, True])
def test_a_refusal_before_any_of_the_content_has_left(
    core: Core, mode: Mode, code: int, begun: bool
) -> None:
    """T11: an idle server gives up while the client is about to send the content. That is no
    answer to the message, and nothing of it is sent after the first bytes of that reply."""
    talk = Talk(core, mode)
    talk.push("first")
    talk.push("second")
    for answer in (b"250 ok\r\n", b"250 ok\r\n", *([b"354 go\r\n"] * (mode != CHUNKING))):
        talk.sent()
        talk.hear(answer)
    said = b"%d idle\r\n" % code
    if begun:
        talk.hear(said[:2])
        assert talk.sent() == b""
        said = said[2:]
    talk.hear(said)
    assert type(talk.pipeline.failure) is (SessionClosed if code == 421 else ReplyUnexpected)
    assert talk.told() == [
        ("first", Stage.LOST, None, {}),
        ("second", Stage.LOST, None, {}),
    ]


def test_refused_before_and_amidst_the_content(core: Core) -> None:
    talk = Talk(core, CHUNKING, proved=True)
    talk.push()
    talk.sent(len(talk.pipeline.pull(1000)) - 1)
    talk.hear(b"550 no\r\n503 need MAIL\r\n503 need RCPT\r\n")
    assert talk.told() == [("m", Stage.MAIL, (550, b"no"), {})]


def test_lmtp_421_says_nothing_of_the_recipients_behind(core: Core) -> None:
    # The server has the whole message, and may have stored it for c.
    talk = Talk(core, PIPELINING, lmtp=True)
    talk.push(recipients=["a", "b", "c"])
    talk.sent()
    talk.hear(b"250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    talk.sent()
    talk.hear(b"250 a\r\n421 b\r\n")
    others = {0: (Stage.CONTENT, (250, b"a")), 1: (Stage.CONTENT, (421, b"b"))}
    assert talk.told() == [("m", Stage.IN_DOUBT, None, others)]


def test_lmtp_where_bdat_is_not_known(core: Core) -> None:
    talk = Talk(core, CHUNKING, lmtp=True)
    talk.push(recipients=["a", "b"])
    talk.sent()
    talk.hear(b"250 ok\r\n250 ok\r\n250 ok\r\n")
    talk.sent()
    talk.hear(b"500 BDAT?\r\n500 text?\r\n")
    assert type(talk.pipeline.failure) is ChunkingRefused
    assert talk.told() == [("m", Stage.LOST, None, {})]


@pytest.mark.parametrize("left", range(10))
def test_accepted_amidst_the_content(core: Core, left: int) -> None:
    talk = Talk(core, PIPELINING)
    talk.push()
    talk.sent()
    talk.hear(b"250 ok\r\n250 ok\r\n354 go\r\n")
    talk.sent(left)
    talk.hear(b"250 queued\r\n")
    if left == 9:
        assert talk.told() == [("m", *OK)]
    else:
        assert str(talk.pipeline.failure) == f"{SURPLUS}: b'250 queued'"
        stage = Stage.IN_DOUBT if left > 6 else Stage.LOST
        assert talk.told() == [("m", stage, None, {})]


def test_a_reply_before_its_command_has_left(core: Core) -> None:
    for reply, kind in ((b"250 ok", ReplyUnexpected), (b"550", ReplyUnexpected), (b"421", None)):
        talk = Talk(core, PIPELINING)
        talk.push()
        talk.sent(14)
        talk.hear(reply + b"\r\n")
        assert type(talk.pipeline.failure) is (kind or SessionClosed)
        assert talk.told() == [("m", Stage.LOST, None, {})]


def test_replies_that_are_too_long(core: Core) -> None:
    talk = Talk(core, CHUNKING, proved=True)
    talk.push()
    talk.sent()
    talk.hear(b"250 " + b"x" * 8190)
    assert type(talk.pipeline.failure) is ReplyTooLong
    assert talk.pipeline.failure.reason == "Line too long."
    assert talk.told() == [("m", Stage.IN_DOUBT, None, {})]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("rest", [b"", b"250 queued", b"250-queued", b"nonsense", b"2500 x"])
def test_the_end_of_the_stream(core: Core, strict: bool, rest: bytes) -> None:
    talk = Talk(core, PIPELINING, strict=strict)
    talk.push()
    talk.sent()
    talk.hear(b"250 ok\r\n250 ok\r\n354 go\r\n")
    talk.pipeline.send_content()
    talk.sent()
    talk.hear(rest)
    assert talk.told() == []
    talk.pipeline.end_of_stream()
    failure = talk.pipeline.failure
    # A last reply without a line end is one to the stdlib.
    if not strict and rest == b"250 queued":
        assert talk.told() == [("m", *OK)]
    elif not strict and rest == b"nonsense":
        assert talk.told() == [("m", Stage.CONTENT, (-1, b"ense"), {})]
    else:
        assert talk.told() == [("m", Stage.IN_DOUBT, None, {})]
    if not strict and rest == b"2500 x":
        assert type(failure) is ReplyMalformed
    else:
        assert type(failure) is EOFError
        assert str(failure) == "the server closed the connection"


@pytest.mark.parametrize(
    ("said", "is_told"),
    [
        (b"554 Too many nonmail commands\r\n", True),
        # RSET may be unknown or early, and the messages behind it may be accepted.
        (b"503 what\r\n", False),
        (b"250 reset\r\n", False),
        (b"554 no\r\n250 ok\r\n", False),
    ],
)
@pytest.mark.parametrize(
    "end",
    [
        lambda talk: talk.pipeline.end_of_stream(),
        lambda talk: talk.pipeline.lose(ConnectionResetError("reset by peer")),
    ],
    ids=["FIN", "RST"],
)
def test_rset_is_refused_and_the_connection_ends(
    core: Core, end: Callable[[Talk], None], said: bytes, is_told: bool
) -> None:
    """T27: Exim ends a session with too many RSETs in this way. Messages streamed behind that are
    not in doubt, as Exim ignores them."""
    talk = Talk(core, CHUNKING, proved=True)
    for number in range(3):
        talk.push(number)
    talk.sent()
    talk.hear(b"250 ok\r\n550 no\r\n503 no recipients\r\n")
    talk.hear(said)
    end(talk)
    lost = Stage.LOST if is_told else Stage.IN_DOUBT
    assert [stage for _, stage, *_ in talk.told()] == [Stage.RCPT, lost, lost]
    failure = talk.pipeline.failure
    assert isinstance(failure, SessionClosed if is_told else END_OF_CONNECTION)
    if is_told:
        assert str(failure) == "the server refuses RSET and closes the session: 554"


def test_rset_is_refused_and_the_client_gives_up(core: Core) -> None:
    """That does not show what the server does."""
    talk = Talk(core, CHUNKING, proved=True)
    for number in range(2):
        talk.push(number)
    talk.sent()
    talk.hear(b"250 ok\r\n550 no\r\n503 no recipients\r\n554 no\r\n")
    talk.pipeline.lose(TimeoutError())
    assert [stage for _, stage, *_ in talk.told()] == [Stage.RCPT, Stage.IN_DOUBT]


def test_the_first_failure_stays(core: Core) -> None:
    talk = Talk(core, PIPELINING)
    talk.push()
    talk.sent()
    talk.hear(b"421 bye\r\n")
    failure = talk.pipeline.failure
    talk.pipeline.lose(OSError())
    talk.pipeline.end_of_stream()
    talk.hear(b"2500\r\n")
    assert talk.pipeline.failure is failure
    assert talk.pipeline.booked == 1
    assert talk.told() == [("m", Stage.MAIL, (421, b"bye"), {})]


def test_pushed_behind_a_failure(core: Core) -> None:
    talk = Talk(core, CHUNKING, proved=True)
    talk.push(1)
    talk.sent()
    talk.pipeline.end_of_stream()
    talk.push(2)
    assert (len(talk.pipeline), talk.pipeline.byte_count) == (0, 0)
    assert (talk.pipeline.want(), talk.sent()) == (Want.NOTHING, b"")
    assert [(tag, stage) for tag, stage, *_ in talk.told()] == [
        (1, Stage.IN_DOUBT),
        (2, Stage.LOST),
    ]
    talk.push(3)
    assert talk.told() == [(3, Stage.LOST, None, {})]


def test_released_behind_a_failure(core: Core) -> None:
    talk = Talk(core, PIPELINING, strict=False)
    talk.pipeline.lose(OSError())
    talk.push()
    talk.pipeline.send_content()
    assert (talk.pipeline.want(), talk.sent()) == (Want.NOTHING, b"")


@pytest.mark.parametrize("mode", [SEQUENTIAL, PIPELINING])
@pytest.mark.parametrize("text", [b"other\r\n", b"", b"." * 1000])
def test_another_content_in_place_of_what_is_held(core: Core, mode: Mode, text: bytes) -> None:
    """It is only sent then, and its end decides whether the message is in doubt."""
    for written in range(len(text) + 10):
        talk = Talk(core, mode, strict=False)
        talk.push(recipients=["r", "s"])
        for said in (b"250 ok\r\n", b"550 no\r\n", b"250 ok\r\n", b"354 go\r\n"):
            talk.sent()
            talk.hear(said)
        other = core.pipelines.Content([text], True, b"\r\n.\r\n")
        assert (talk.pipeline.want(), talk.sent()) == (Want.NOTHING, b"")
        talk.pipeline.send_content(other)
        assert talk.pipeline.byte_count == other.byte_count
        wire = text + b"\r\n.\r\n"
        assert talk.sent(written) == wire[:written]
        if written < len(wire):
            talk.pipeline.end_of_stream()
            stage = Stage.IN_DOUBT if written > len(text) else Stage.LOST
            reply: Any = None
        else:
            talk.hear(b"250 queued\r\n")
            stage, reply = Stage.CONTENT, (250, b"queued")
        assert talk.told() == [("m", stage, reply, {0: (Stage.RCPT, (550, b"no"))})]
        assert talk.pipeline.byte_count == 0


def test_another_content_where_none_is_held(core: Core) -> None:
    other = core.pipelines.Content([b"a", b"b"], True, b"\r\n.\r\n")
    talk = Talk(core, PIPELINING, strict=False)
    for said in (b"", b"250 ok\r\n250 ok\r\n"):
        with pytest.raises(ValueError, match="no content is held"):
            talk.pipeline.send_content(other)
        if not said:
            talk.push()
        talk.sent()
        talk.hear(said)
    talk.hear(b"354 go\r\n")
    # There is room for as many chunks as it was pushed with.
    with pytest.raises(ValueError, match="no content is held"):
        talk.pipeline.send_content(other)
    assert talk.sent() == b""
    talk.pipeline.send_content()
    assert talk.sent() == b"text\r\n.\r\n"
    with pytest.raises(ValueError, match="no content is held"):
        talk.pipeline.send_content(other)
    # BDAT has announced the size.
    talk = Talk(core, CHUNKING, strict=False)
    talk.push()
    talk.sent()
    talk.hear(b"250 ok\r\n250 ok\r\n")
    with pytest.raises(ValueError, match="no content is held"):
        talk.pipeline.send_content(core.pipelines.Content([b"a"], False, b""))
    talk.pipeline.send_content()
    assert talk.sent() == b"BDAT 6 LAST\r\ntext\r\n"


def test_completed_in_the_order_of_pushing(core: Core) -> None:
    talk = Talk(core, CHUNKING, proved=True)
    tags = [object() for _ in range(40)]
    told, answers = [], []
    for number, tag in enumerate(tags):
        talk.push(tag, text=b"a" * number)
        talk.sent()
        answer = b"550 " + b"y" * number
        answers.append((number > 0) * b"250 reset\r\n")
        answers.append(b"250 " + b"x" * number * 40 + b"\r\n250 ok\r\n")
        answers.append(answer + b"\r\n")
        # Some are answered together, and some are taken together.
        if number % 3 == 2:
            assert len(talk.pipeline) == 3
            for said in answers:
                talk.hear(said)
            answers.clear()
        if number % 7 == 6:
            told += talk.told()
    told += talk.told()
    assert [tag for tag, *_ in told] == tags[:39]
    assert [reply for _, _, reply, _ in told] == [(550, b"y" * number) for number in range(39)]


def test_texts_of_replies_are_kept_apart(core: Core) -> None:
    recipients = [f"r{number}" for number in range(300)]
    texts = [b"%d " % number * (number % 40) + b"." for number in range(300)]
    talk = Talk(core, PIPELINING)
    talk.push(1, recipients)
    talk.push(2, recipients)
    for tag in (1, 2):
        talk.sent()
        talk.hear(b"250 ok\r\n" + b"".join(b"550 %b\r\n" % text for text in texts))
        talk.hear(b"503 no\r\n")
        talk.sent()
        talk.hear(b"250 reset\r\n")
        others = {index: (Stage.RCPT, (550, text)) for index, text in enumerate(texts)}
        assert talk.told() == [(tag, Stage.RCPT, None, others)]


def test_an_envelope_without_recipients(core: Core) -> None:
    talk = Talk(core, PIPELINING)
    for commands in ([], [b"MAIL FROM:<s>\r\n"]):
        with pytest.raises(ValueError, match="at least one RCPT"):
            talk.pipeline.push(None, commands, talk.content())
    assert (len(talk.pipeline), talk.pipeline.want()) == (0, Want.NOTHING)
    with pytest.raises((TypeError, AttributeError)):
        talk.pipeline.push(None, [b"M", b"R"], None)


def test_commands_of_any_sequence(core: Core) -> None:
    talk = Talk(core, PIPELINING)
    commands = [b"M", *(b"%d" % number for number in range(100))]
    talk.pipeline.push(None, tuple(commands), talk.content(b"a"))
    commands[0] = b"X"
    assert talk.sent() == b"M" + b"".join(commands[1:]) + b"DATA\r\n"


class Tag:
    """An object whose end can be observed."""


def seen_to_go(core: Core, finish: Callable[[Any], object]) -> bool:
    talk = Talk(core, CHUNKING, proved=True)
    tags = [Tag(), Tag()]
    references = [weakref.ref(tag) for tag in tags]
    for tag in tags:
        talk.push(tag)
    del tag
    tags.clear()
    gc.collect()
    assert all(reference() for reference in references)
    finish(talk)
    del talk
    gc.collect()
    return not any(reference() for reference in references)


def test_tags_are_let_go(core: Core) -> None:
    def abandon(talk: Talk) -> None:
        talk.sent()

    def lose(talk: Talk) -> None:
        talk.pipeline.lose(OSError())

    def take(talk: Talk) -> None:
        lose(talk)
        talk.told()

    for finish in (abandon, lose, take):
        assert seen_to_go(core, finish)


def test_more_written_than_there_is(core: Core) -> None:
    talk = Talk(core, PIPELINING)
    with pytest.raises(ValueError, match="reported as written"):
        talk.pipeline.wrote(1)
    talk.push()
    pending = len(talk.pipeline.pull(EVERYTHING))
    with pytest.raises(ValueError, match="reported as written"):
        talk.pipeline.wrote(pending + 1)
    talk.pipeline.wrote(pending)


def test_written_behind_a_failure(core: Core) -> None:
    talk = Talk(core, PIPELINING)
    talk.push()
    talk.pipeline.lose(OSError())
    talk.pipeline.wrote(10)
    assert talk.pipeline.want() == Want.NOTHING


def test_lmtp_that_answers_once_for_all(core: Core) -> None:
    # A reply to the next message must not be taken for the one for the second recipient.
    talk = Talk(core, CHUNKING, lmtp=True, proved=True)
    talk.push(1, recipients=["a", "b"])
    talk.push(2)
    sent = talk.sent()
    assert (sent.count(b"MAIL"), sent.count(b"RSET")) == (1, 0)
