"""A driver of flows by hand."""

from __future__ import annotations

from typing import TypeAlias

from csmtplib.protocol.dialogue import Close, Exchange, Flow, Result, StartTLS, Step
from csmtplib.protocol.failures import ConnectionLost
from csmtplib.protocol.outcome import Reply

# What a flow does, and what comes of it: "250 text", or that there is no answer.
Turn: TypeAlias = "tuple[bytes | StartTLS | Close, str | ConnectionLost]"

CLOSE: Turn = (Close(), "")

LOST = ConnectionLost("the connection was lost")


def play(flow: Flow[Result], *turns: Turn) -> Result:
    """The result of a flow, which has to take exactly these turns, whether it returns or raises."""
    left = list(turns)
    try:
        step = next(flow)
        while True:
            assert left, f"the flow goes on with {step}"
            expected, answer = left.pop(0)
            assert said(step) == expected
            if isinstance(answer, ConnectionLost):
                step = flow.throw(answer)
            else:
                step = flow.send(reply(answer))
    except StopIteration as done:
        result: Result = done.value
        return result
    finally:
        assert not left, f"the flow ended before {left}"


def said(step: Step) -> bytes | StartTLS | Close:
    return step.data if isinstance(step, Exchange) else step


def reply(answer: str) -> Reply:
    code, _, text = answer.partition(" ")
    return Reply(int(code or 0), text.encode("latin-1"))
