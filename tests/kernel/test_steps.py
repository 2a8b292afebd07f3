"""How early commands are sent, one proved step after the other: compiled = pure.

T5 and T6: some servers offer PIPELINING but do not accept commands behind the end of a message.
What they reply to those, if anything, is no verdict on a message.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from csmtplib.kernel.transaction import LAST_STEP, Mode, Phase, Stage, Step, Want

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
    refused,
    told,
)
from .talking import EVERYTHING, Core, Talk

ENVELOPE = "> MAIL FROM:<s>\n> RCPT TO:<r>\n> DATA\n"
GO = "< 250 ok\n< 250 ok\n< 354 go\n"
END = "> text\n> .\n"
ONE_BY_ONE = """
> MAIL FROM:<s>
< 250 ok
> RCPT TO:<r>
< 250 ok
> BDAT 6 LAST
> text
< 250 queued
"""
# The first message proves the flight, and shows what is answered behind its end.
PROBING = ENVELOPE + GO + END + "> RSET\n< 250 queued\n"
# A message with the next one's envelope behind it.
FOLLOWED = END + ENVELOPE + "< 250 queued\n"
RESET = "> RSET\n< 250 reset\n"
# The first message shows that BDAT is known, and the second is sent as a whole.
CHUNKING_PROBING = (
    CHUNKING_TALK + "> RSET\n> MAIL FROM:<s>\n> RCPT TO:<r>\n> BDAT 6 LAST\n> text\n> RSET\n"
)


def case(
    name: str,
    script: str,
    results: list[tuple[object, ...]],
    steps: tuple[Step, Step],
    mode: Mode = PIPELINING,
    *,
    messages: list[list[str]] | None = None,
    strict: bool = True,
    proved: bool = False,
) -> tuple[Case, tuple[Step, Step]]:
    """steps: the proof and the limit at the end."""
    messages = messages or [["r"]] * len(results)
    return Case(name, script, results, mode, messages, strict=strict, proved=proved), steps


ALONE, FLIGHT, WHOLE, NEXT = Step

CASES = [
    case("one message: nothing follows it", PIPELINING_TALK, [OK], (FLIGHT, NEXT)),
    case(
        "RSET is answered: the third follows the second at once",
        PROBING + "< 250 reset\n" + ENVELOPE + GO + FOLLOWED + GO + END + "< 250 queued\n",
        [OK] * 3,
        (NEXT, NEXT),
    ),
    case(
        "RSET is refused, as Haraka does (T5)",
        PROBING + "< 503 5.5.1 pipelined after end of DATA\n" + PIPELINING_TALK * 2,
        [OK] * 3,
        (FLIGHT, WHOLE),
    ),
    *(
        case(
            f"{reply}: to all that follows a message, later on (T5)",
            ENVELOPE
            + GO
            + FOLLOWED
            + f"< {reply}\n" * 3
            + RESET
            + SEQUENTIAL_TALK
            # It is never tried again on this connection.
            + PIPELINING_TALK,
            [OK] * 3,
            (WHOLE, WHOLE),
            proved=True,
        )
        for reply in (
            "503 Bad sequence of commands - pipelined after end of DATA",
            "500 what?",
            "501 5.0.0 what?",
            "502 5.5.1 what?",
            "554 SMTP synchronization error",
            "550 5.5.0 improper pipelining",
            "451 4.5.0 improper pipelining",
        )
    ),
    *(
        case(
            f"one by one {first} and {second}: the flight was refused for coming early",
            "> MAIL FROM:<s>\n> RCPT TO:<a>\n> RCPT TO:<b>\n> DATA\n"
            "< 250 ok\n< 554 5.5.0 early\n< 503 early\n< 503 early\n"
            + RESET
            + f"> MAIL FROM:<s>\n< 250 ok\n> RCPT TO:<a>\n< {first}\n> RCPT TO:<b>\n< {second}\n"
            + "> DATA\n< 354 go\n> text\n> .\n< 250 queued\n"
            + SEQUENTIAL_TALK,
            [(Stage.CONTENT, told("250 queued"), {at: (Stage.RCPT, told(no))}), OK],
            (ALONE, ALONE),
            messages=[["a", "b"], ["r"]],
        )
        for first, second, at, no in (
            ("250 ok", "554 no", 1, "554 no"),
            ("250 ok", "503 no", 1, "503 no"),
            ("554 no", "250 ok", 0, "554 no"),
        )
    ),
    *(
        case(
            f"{reply}: about the message, whatever it follows",
            ENVELOPE
            + GO
            + FOLLOWED
            + f"< {reply}\n< 503 no\n< 503 no\n"
            # Nothing has to be tried: the next message is sent with RSET.
            + "> RSET\n"
            + ENVELOPE
            + "< 250 reset\n"
            + GO
            + END
            + "< 250 queued\n",
            [OK, refused(Stage.MAIL, reply), OK],
            (NEXT, NEXT),
            proved=True,
        )
        for reply in ("550 no", "501 5.1.7 bad sender", "451 4.3.0 later", "554 5.7.1 policy")
    ),
    case(
        "503 again without anything before it: it is about the message, and the step stays",
        ENVELOPE
        + GO
        + FOLLOWED
        + "< 503 log in\n< 503 no\n< 503 no\n"
        + RESET
        + "> MAIL FROM:<s>\n< 503 log in\n> RSET\n"
        + ENVELOPE
        + "< 250 reset\n"
        + GO
        + END
        + "< 250 queued\n",
        [OK, refused(Stage.MAIL, "503 log in"), OK],
        (NEXT, NEXT),
        proved=True,
    ),
    case(
        "another refusal than before: the first was about sending early",
        ENVELOPE
        + GO
        + FOLLOWED
        + "< 503 early\n" * 3
        + RESET
        + "> MAIL FROM:<s>\n< 550 no\n"
        + RESET,
        [OK, refused(Stage.MAIL, "550 no")],
        (WHOLE, WHOLE),
        proved=True,
    ),
    case(
        "RCPT and DATA refused behind MAIL, in the first flight",
        ENVELOPE + "< 250 ok\n< 503 early\n< 503 early\n" + RESET + SEQUENTIAL_TALK * 2,
        [OK] * 2,
        (ALONE, ALONE),
    ),
    case(
        "DATA refused in the first flight",
        ENVELOPE + "< 250 ok\n< 250 ok\n< 503 early\n" + RESET + SEQUENTIAL_TALK * 2,
        [OK] * 2,
        (ALONE, ALONE),
    ),
    case(
        "503 to RCPT in a flight is looked into even where flights are known to be taken",
        ENVELOPE + "< 250 ok\n< 503 early\n< 503 early\n" + RESET + SEQUENTIAL_TALK,
        [OK],
        (ALONE, ALONE),
        proved=True,
    ),
    case(
        "501 to RCPT is about the address where flights are known to be taken",
        ENVELOPE + "< 250 ok\n< 501 syntax\n< 503 no\n" + RESET,
        [(Stage.RCPT, None, {0: (Stage.RCPT, told("501 syntax"))})],
        (NEXT, NEXT),
        proved=True,
    ),
    case(
        "501 to RCPT in the first flight, and again",
        ENVELOPE
        + "< 250 ok\n< 501 syntax\n< 503 no\n"
        + RESET
        + "> MAIL FROM:<s>\n< 250 ok\n> RCPT TO:<r>\n< 501 syntax\n"
        + "> RSET\n"
        + "< 250 reset\n"
        + PIPELINING_TALK,
        [(Stage.RCPT, None, {0: (Stage.RCPT, told("501 syntax"))}), OK],
        (FLIGHT, NEXT),
    ),
    case(
        "one of two recipients refused: the other shows that a flight is taken",
        "> MAIL FROM:<s>\n> RCPT TO:<a>\n> RCPT TO:<b>\n> DATA\n"
        "< 250 ok\n< 503 no\n< 250 ok\n< 354 go\n> text\n> .\n< 250 queued\n",
        [(Stage.CONTENT, (250, b"queued"), {0: (Stage.RCPT, told("503 no"))})],
        (FLIGHT, NEXT),
        messages=[["a", "b"]],
    ),
    case(
        "too many recipients is about recipients",
        ENVELOPE + "< 250 ok\n< 550 5.5.3 too many\n< 503 no\n" + RESET,
        [(Stage.RCPT, None, {0: (Stage.RCPT, told("550 5.5.3 too many"))})],
        (ALONE, NEXT),
    ),
    case(
        "a message for nobody that DATA had asked for, sent again",
        ENVELOPE + "< 250 ok\n< 503 early\n< 354 go\n> .\n< 554 for nobody\n" + SEQUENTIAL_TALK,
        [OK],
        (ALONE, ALONE),
    ),
    # BDAT: first the whole transaction, then what follows it.
    case("BDAT: one", CHUNKING_TALK, [OK], (FLIGHT, NEXT), CHUNKING),
    case("BDAT: proved before", WHOLE_TALK, [OK], (NEXT, NEXT), CHUNKING, proved=True),
    case(
        "BDAT: RSET behind it is answered",
        CHUNKING_PROBING
        + "< 250 reset\n< 250 ok\n< 250 ok\n< 250 queued\n< 250 reset\n"
        + WHOLE_TALK,
        [OK] * 3,
        (NEXT, NEXT),
        CHUNKING,
    ),
    case(
        "BDAT: RSET behind it is refused",
        CHUNKING_PROBING
        + "< 250 reset\n< 250 ok\n< 250 ok\n< 250 queued\n< 503 early\n"
        + WHOLE_TALK,
        [OK] * 3,
        (WHOLE, WHOLE),
        CHUNKING,
    ),
    case(
        "BDAT refused behind RCPT",
        CHUNKING_PROBING
        + "< 250 reset\n< 250 ok\n< 250 ok\n< 503 early\n< 250 reset\n"
        + ONE_BY_ONE
        + "> RSET\n> MAIL FROM:<s>\n> RCPT TO:<r>\n< 250 reset\n< 250 ok\n< 250 ok\n"
        + "> BDAT 6 LAST\n> text\n< 250 queued\n",
        [OK] * 3,
        (FLIGHT, FLIGHT),
        CHUNKING,
    ),
    case(
        "a stream: one message is refused for coming early, and the one behind it is not",
        "> MAIL FROM:<s>\n> RCPT TO:<r>\n> BDAT 6 LAST\n> text\n"
        + "> RSET\n> MAIL FROM:<s>\n> RCPT TO:<r>\n> BDAT 6 LAST\n> text\n" * 2
        + "< 250 ok\n< 250 ok\n< 250 queued\n"
        + "< 250 reset\n< 503 early\n< 503 no\n< 503 no\n"
        + "< 250 reset\n< 250 ok\n< 250 ok\n< 250 queued\n"
        + RESET
        + ONE_BY_ONE,
        [OK] * 3,
        (WHOLE, WHOLE),
        CHUNKING,
        proved=True,
    ),
]


@pytest.mark.parametrize("piece", [EVERYTHING, 1, 3])
@pytest.mark.parametrize(("case", "steps"), CASES, ids=[case.name for case, _ in CASES])
def test_steps(core: Core, case: Case, steps: tuple[Step, Step], piece: int) -> None:
    pipeline = converse(core, case, piece).pipeline
    assert (pipeline.proof, pipeline.limit) == steps
    assert pipeline.doubts == 0


def begin(core: Core, mode: Mode = PIPELINING, messages: int = 3) -> Talk:
    """Return a pipeline that has sent a RSET behind a message to see what its server does."""
    talk = Talk(core, mode)
    for number in range(messages):
        talk.push(number)
    talk.sent()
    talk.hear(b"250 ok\r\n250 ok\r\n" + b"354 go\r\n" * (mode == PIPELINING))
    talk.sent()
    talk.hear(b"250 queued\r\n")
    if mode == CHUNKING:
        talk.sent()
        talk.hear(b"250 reset\r\n250 ok\r\n250 ok\r\n250 queued\r\n")
    return talk


@pytest.mark.parametrize("mode", [PIPELINING, CHUNKING])
@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda pipeline: pipeline.lose(TimeoutError("late")), id="silence"),
        pytest.param(lambda pipeline: pipeline.lose(ConnectionResetError("reset")), id="reset"),
        pytest.param(lambda pipeline: pipeline.end_of_stream(), id="end"),
    ],
)
def test_a_try_that_is_not_answered_loses_nothing(core: Core, mode: Mode, end: object) -> None:
    """T6: Courier discards what it reads with the end of a message."""
    talk = begin(core, mode)
    pipeline = talk.pipeline
    assert (pipeline.want(), pipeline.phase()) == (Want.READ, Phase.PROBE)
    end(pipeline)  # type: ignore[operator]
    *answered, last = talk.told()
    assert [each[1:] for each in answered] == [OK] * (1 if mode == PIPELINING else 2) + (
        [(Stage.LOST, None, {})] if mode == PIPELINING else []
    )
    assert last[1:] == (Stage.LOST, None, {})
    assert pipeline.limit == WHOLE
    assert pipeline.phase() == Phase.PROBE


def test_421_to_a_try(core: Core) -> None:
    talk = begin(core)
    talk.hear(b"421 one at a time\r\n")
    assert [stage for _, stage, _, _ in talk.told()] == [Stage.CONTENT, Stage.LOST, Stage.LOST]
    assert talk.pipeline.limit == WHOLE


def followed(core: Core) -> Talk:
    """Return a pipeline whose first message is accepted, and whose second envelope was sent."""
    talk = Talk(core, PIPELINING, proved=True)
    talk.push(0)
    talk.push(1)
    talk.sent()
    assert talk.pipeline.phase() == Phase.COMMAND
    talk.hear(b"250 ok\r\n250 ok\r\n354 go\r\n")
    talk.sent()
    assert talk.pipeline.phase() == Phase.CONTENT
    talk.hear(b"250 queued\r\n")
    return talk


def test_silence_behind_a_message_is_told_from_that_of_a_slow_server(core: Core) -> None:
    """The reply to what left behind the end of a message has a limit of its own."""
    talk = followed(core)
    assert talk.pipeline.phase() == Phase.EARLY
    talk.pipeline.lose(TimeoutError("late"))
    assert [stage for _, stage, _, _ in talk.told()] == [Stage.CONTENT, Stage.LOST]
    assert (talk.pipeline.proof, talk.pipeline.limit) == (WHOLE, WHOLE)


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), EOFError("closed")])
def test_a_lost_connection_says_nothing_of_what_was_proved(core: Core, error: Exception) -> None:
    talk = followed(core)
    talk.pipeline.lose(error)
    assert (talk.pipeline.proof, talk.pipeline.limit) == (NEXT, NEXT)


@pytest.mark.parametrize(
    ("heard", "limit"), [(b"", NEXT), (b"250 ok\r\n", ALONE), (b"250 ok\r\n" * 2, ALONE)]
)
def test_commands_that_are_lost_in_the_first_flight(core: Core, heard: bytes, limit: Step) -> None:
    """Case 65."""
    talk = Talk(core, PIPELINING)
    talk.push()
    talk.sent()
    talk.hear(heard)
    talk.pipeline.lose(TimeoutError("late"))
    assert talk.pipeline.limit == limit


@pytest.mark.parametrize("proved", [True, False])
@pytest.mark.parametrize(
    ("end", "others"),
    [
        (lambda talk: talk.pipeline.lose(TimeoutError("late")), {}),
        (lambda talk: talk.pipeline.lose(ConnectionResetError("reset")), {}),
        # The reply to DATA, which seems to be that to the third RCPT.
        (lambda talk: talk.hear(b"354 go\r\n"), {}),
        (lambda talk: talk.hear(b"421 idle\r\n"), {2: (Stage.RCPT, (421, b"idle"))}),
    ],
    ids=["silence", "reset", "desync", "421"],
)
def test_no_refusal_is_believed_where_replies_are_missing(
    core: Core,
    end: Callable[[Talk], None],
    others: dict[int, tuple[Stage, tuple[int, bytes]]],
    proved: bool,
) -> None:
    """Case 65. The first RCPT was lost, say, and the replies are to the second and the third."""
    talk = Talk(core, PIPELINING, proved=proved)
    talk.push(recipients=["a", "b", "c"])
    talk.sent()
    talk.hear(b"250 ok\r\n250 ok\r\n550 no\r\n")
    end(talk)
    assert talk.pipeline.failure is not None
    assert talk.told() == [("m", Stage.LOST, None, others)]


def test_a_refusal_of_the_sender_is_believed(core: Core) -> None:
    """Nothing was before MAIL that its reply could be to."""
    talk = Talk(core, PIPELINING)
    talk.push(recipients=["a", "b"])
    talk.sent()
    talk.hear(b"550 no\r\n503 no\r\n")
    talk.pipeline.lose(TimeoutError("late"))
    assert talk.told() == [("m", *refused(Stage.MAIL, "550 no"))]


def test_a_refusal_that_came_before_the_next_command_left_is_believed(core: Core) -> None:
    talk = Talk(core, SEQUENTIAL)
    talk.push(recipients=["a", "b"])
    for said in (b"250 ok\r\n", b"550 no\r\n"):
        talk.sent()
        talk.hear(said)
    talk.sent()
    talk.pipeline.lose(TimeoutError("late"))
    assert talk.told() == [("m", Stage.LOST, None, {0: (Stage.RCPT, (550, b"no"))})]


def test_a_doubted_message_is_lost_with_the_connection(core: Core) -> None:
    """It is not reported as refused, as it is not known yet what the refusal was about."""
    talk = followed(core)
    talk.hear(b"503 early\r\n")
    assert talk.pipeline.doubts == 1
    talk.pipeline.lose(OSError("reset"))
    assert talk.told() == [(0, *OK), (1, Stage.LOST, None, {})]


def test_what_other_connections_have_shown(core: Core) -> None:
    talk = Talk(core, PIPELINING)
    for number in range(3):
        talk.push(number)
    talk.sent()
    talk.hear(b"250 ok\r\n250 ok\r\n354 go\r\n")
    talk.pipeline.learn(NEXT, NEXT)
    envelope = b"MAIL FROM:<s>\r\nRCPT TO:<r>\r\nDATA\r\n"
    # The end of the message was already sent with a RSET behind it.
    assert talk.sent() == b"text\r\n.\r\nRSET\r\n" + envelope
    talk.hear(b"250 queued\r\n250 reset\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    talk.pipeline.learn(ALONE, WHOLE)
    assert talk.sent() == b"text\r\n.\r\n" + envelope
    assert (talk.pipeline.proof, talk.pipeline.limit) == (WHOLE, WHOLE)


def test_proof_is_never_beyond_the_limit(core: Core) -> None:
    talk = Talk(core, CHUNKING)
    talk.pipeline.learn(ALONE, FLIGHT)
    talk.pipeline.learn(NEXT, NEXT)
    assert (talk.pipeline.proof, talk.pipeline.limit) == (FLIGHT, FLIGHT)


@pytest.mark.parametrize("steps", [(-1, 3), (0, 4), (4, 0), (0, -1)])
def test_what_is_no_step(core: Core, steps: tuple[int, int]) -> None:
    talk = Talk(core, PIPELINING)
    with pytest.raises(ValueError, match=r"invalid .*step"):
        talk.pipeline.learn(*steps)
    with pytest.raises(ValueError, match=r"invalid .*step"):
        core.pipelines.Pipeline(talk.replies, 3, False, True, 0, 0)
    with pytest.raises(ValueError, match=r"invalid .*step"):
        core.pipelines.Pipeline(talk.replies, PIPELINING, False, True, 4, 0)


@pytest.mark.parametrize("mode", [PIPELINING, CHUNKING])
def test_not_strict_a_doubt_is_the_callers(core: Core, mode: Mode) -> None:
    """As in smtplib, the caller then sends the message again with its own methods."""
    talk = Talk(core, mode, strict=False)
    talk.push()
    talk.sent()
    talk.hear(b"250 ok\r\n503 early\r\n" + b"503 early\r\n" * (mode == PIPELINING))
    assert talk.told() == [("m", Stage.RCPT, None, {0: (Stage.RCPT, (503, b"early"))})]
    assert talk.pipeline.doubts == 1
    assert talk.pipeline.want() == Want.NOTHING


def test_last_steps() -> None:
    assert [LAST_STEP[mode] for mode in Mode] == [ALONE, NEXT, NEXT]
