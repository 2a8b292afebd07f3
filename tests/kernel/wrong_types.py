"""Call every entry point of the kernels with wrong types: they may raise, but must not crash. Run
by test_wrong_types.py in a process of its own; the last line printed is the last call."""

from __future__ import annotations

import itertools
import math
import socket
from collections.abc import Callable, Iterable
from typing import Any

from csmtplib import kernel
from csmtplib.drive import transactions
from csmtplib.kernel.transaction import Phase

WRONG: list[Any] = [
    None,
    -1,
    0,
    7,
    1 << 31,
    (1 << 63) - 1,
    (1 << 64) - 1,
    1 << 70,
    1.5,
    math.nan,
    math.inf,
    "x",
    "ä",
    b"x",
    [],
    [None],
    ["x"],
    [b"x", None],
    (None, None, None, None),
    {},
    object(),
    memoryview(b"x"),
]


def replies() -> Any:
    return kernel.ReplyBuffer(100, 100)


def pipeline(mode: int = 1) -> Any:
    return kernel.Pipeline(replies(), mode, False, True, False, 1000)


def content() -> Any:
    return kernel.Content([b"x"], True)


def attempt(call: Callable[..., object], arguments: Iterable[object]) -> None:
    arguments = list(arguments)
    print(call, [type(each).__name__ for each in arguments], arguments, flush=True)
    try:
        call(*arguments)
    except Exception:
        return


def attempt_all(call: Callable[..., object], *good: Any) -> None:
    """Call with each argument of every wrong type, alone and in pairs. good: valid arguments."""
    for count in (1, 2):
        for places in itertools.combinations(range(len(good)), min(count, len(good))):
            for wrong in itertools.product(WRONG, repeat=len(places)):
                arguments = list(good)
                for place, value in zip(places, wrong, strict=True):
                    arguments[place] = value
                attempt(call, arguments)
    for fewer in range(len(good)):
        attempt(call, good[:fewer])
    attempt(call, [*good, None])


def main() -> None:
    for function in (
        kernel.fix_eols,
        kernel.quote_periods,
        kernel.scan,
        kernel.has_control,
        kernel.is_plain_address,
    ):
        attempt_all(function, "x")
    attempt_all(kernel.envelope_lines, "mail FROM:<", "a@x", "", "rcpt TO:<", ["b@x"], "")
    attempt_all(lambda dots: kernel.BodyEncoder(dots).encode(b"x\n"), True)
    attempt_all(kernel.BodyEncoder().encode, b"x")
    attempt_all(kernel.ReplyBuffer, 100, 100)
    for name, good in (("feed", b"250 ok\r\n"), ("peek", 1), ("take", 1), ("readline", 1)):
        attempt_all(lambda value, name=name: getattr(replies(), name)(value), good)
    attempt_all(kernel.Content, [b"x"], True, b".\r\n")
    attempt_all(kernel.Content, [b"x"], True)
    commands = [b"MAIL FROM:<a@x>\r\n", b"RCPT TO:<b@x>\r\n"]
    attempt_all(lambda *each: pipeline().push(*each), None, commands, content())
    for wrong in WRONG:
        attempt(lambda *each: pipeline().push(None, each, content()), [wrong] * 2)
        attempt(lambda *each: pipeline().push(None, each, content()), [commands[0], wrong])
        attempt(lambda *each: pipeline().push(None, each, content()), [wrong] * 40)

    def run_through(*arguments: Any) -> None:
        made = kernel.Pipeline(*arguments)
        made.push(None, commands, content())
        made.want()
        made.phase()
        made.pull(100)
        made.wrote(1)
        arguments[0].feed(b"250 ok\r\n550 no\r\n250 x\r\n")
        made.receive()
        made.end_of_stream()
        made.take()
        len(made)

    attempt_all(run_through, replies(), 1, False, True, False, 1000)
    for mode in range(-3, 6):
        attempt(run_through, (replies(), mode, False, True, False, 1000))
    for name, value in (("pull", 1), ("wrote", 1), ("lose", OSError()), ("release", content())):
        attempt_all(lambda value, name=name: getattr(pipeline(), name)(value), value)
    if transactions.HAS_FD_LOOP:
        of_descriptors()


def of_descriptors() -> None:
    from csmtplib.drive import _fd

    here, there = socket.socketpair()
    there.close()
    phases = (0.01,) * len(Phase)

    def line() -> Any:
        return _fd.Connection(pipeline(), here.fileno(), phases, 0.01, 10.0)

    attempt_all(_fd.Connection, pipeline(), here.fileno(), phases, 0.01, 10.0)
    attempt_all(_fd.run, line(), 0, 100, 0.0, None)
    attempt_all(_fd.run_together, [line()], [0], here.fileno(), 100, 0.0)
    for wrong in WRONG:
        attempt(_fd.run_together, ([wrong], [0], here.fileno(), 100, 0.0))
        attempt(_fd.run_together, ([line(), wrong], [0, 0], here.fileno(), 100, 0.0))
        attempt(_fd.run_together, ([line()], [wrong], here.fileno(), 100, 0.0))


if __name__ == "__main__":
    main()
    print("alive")
