"""The result of one message, and a generator of results that warns if it is never used."""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator, Coroutine, Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from ..kernel.transaction import CONTENT, IN_DOUBT, MAIL, RCPT
from .outcome import Outcome, Reply, State, answered

if TYPE_CHECKING:
    # Replies that are for one recipient alone, by its place in the transaction.
    Others: TypeAlias = dict[int, tuple[int, tuple[int, bytes]]]

    # One transaction: its recipients by index (None for all), stage, reply, those with an answer of
    # their own, and the fault if there is no reply.
    Part: TypeAlias = tuple[Sequence[int] | None, int, tuple[int, bytes] | None, Others, str | None]

Item = TypeVar("Item")


class Result:
    """The result of one message.

    mail: as the caller handed it over. recipients: those of its envelope. error: why it can't be
    sent as it is, in which case nothing of it was sent; None if it can.
    """

    __slots__ = ("_parts", "error", "mail", "recipients")

    def __init__(self, mail: object, parts: list[Any]) -> None:
        self.mail = mail
        self.recipients: Sequence[str] = ()
        self.error: Exception | None = None
        # One for each of its transactions; the sender adds them.
        self._parts: list[Part] = parts

    @property
    def accepted(self) -> bool:
        """Whether the server has accepted the message for every recipient."""
        if len(self._parts) == 1:
            _, stage, reply, others, _ = self._parts[0]
            if not others:
                return stage == CONTENT and 200 <= reply[0] <= 299  # type: ignore[index]
        outcomes = self.outcomes
        return bool(outcomes) and all(each.state is State.ACCEPTED for each in outcomes)

    @property
    def accepted_reply(self) -> Reply | None:
        """The reply by which the server has accepted the message for its only recipient, else
        None."""
        if len(self.recipients) == 1 and len(self._parts) == 1:
            _, stage, reply, others, _ = self._parts[0]
            if reply is not None and stage == CONTENT and not others and 200 <= reply[0] <= 299:
                # This is how a named tuple makes itself.
                return tuple.__new__(Reply, reply)
        return None

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """An outcome for each recipient, in order; if the recipients are unknown, one for "", with
        the error."""
        if self.error is not None:
            reason = str(self.error) or type(self.error).__name__
            recipients = self.recipients or ("",)
            return tuple(Outcome(each, State.REJECTED, fault=reason) for each in recipients)
        if len(self.recipients) == 1 and len(self._parts) == 1:
            # Most results are like this.
            _, stage, its_reply, others, _ = self._parts[0]
            if its_reply is not None and not others:
                return (_answered(self.recipients[0], stage, its_reply),)
        outcomes: dict[int, Outcome] = {}
        for indices, stage, reply, others, fault in self._parts:
            for place, index in enumerate(
                range(len(self.recipients)) if indices is None else indices
            ):
                its_stage, its_reply = others.get(place, (stage, reply))
                recipient = self.recipients[index]
                if its_reply is None:
                    state = State.IN_DOUBT if its_stage == IN_DOUBT else State.DEFERRED
                    outcomes[index] = Outcome(recipient, state, fault=fault)
                else:
                    outcomes[index] = _answered(recipient, its_stage, its_reply)
        return tuple(outcomes[index] for index in range(len(self.recipients)))

    def __repr__(self) -> str:
        return f"<Result {'; '.join(map(str, self.outcomes))}>"


def _answered(recipient: str, stage: int, reply: tuple[int, bytes]) -> Outcome:
    # This is how a named tuple makes itself.
    its_reply = tuple.__new__(Reply, reply)
    return answered(recipient, its_reply, to_rcpt=stage == RCPT, to_mail=stage == MAIL)


class Lazy(Generator[Item, None, None]):
    """A generator that issues a RuntimeWarning if it is dropped before it has begun: a caller that
    ignores what the function returns believes that the work is done."""

    def __init__(self, generator: Generator[Item, None, None], function: str) -> None:
        """function: the one that returns it, for the warning."""
        self._function = function
        self._generator = generator
        self._has_begun = False

    def __iter__(self) -> Generator[Item, None, None]:
        # The generator itself, so that a loop over it costs nothing more.
        self._has_begun = True
        return self._generator

    def __next__(self) -> Item:
        self._has_begun = True
        return next(self._generator)

    def send(self, value: None, /) -> Item:
        self._has_begun = True
        return self._generator.send(value)

    def throw(self, *error: Any) -> Item:
        self._has_begun = True
        return self._generator.throw(*error)

    def close(self) -> None:
        """Ends it. If it has not begun, that is on purpose, and there is no warning."""
        self._has_begun = True
        self._generator.close()

    def __del__(self) -> None:
        # If an interrupt ended __init__(), the caller has that, and no results.
        if not getattr(self, "_has_begun", True):
            _warn_unused(self, self._function)


class AsyncLazy(AsyncGenerator[Item, None]):
    """The same for an asynchronous generator."""

    def __init__(self, generator: AsyncGenerator[Item, None], function: str) -> None:
        """function: the one that returns it, for the warning."""
        self._function = function
        self._generator = generator
        self._has_begun = False

    def __aiter__(self) -> AsyncGenerator[Item, None]:
        # The generator itself, so that a loop over it costs nothing more.
        self._has_begun = True
        return self._generator

    def __anext__(self) -> Coroutine[Any, Any, Item]:
        self._has_begun = True
        return self._generator.__anext__()

    def asend(self, value: None, /) -> Coroutine[Any, Any, Item]:
        self._has_begun = True
        return self._generator.asend(value)

    def athrow(self, *error: Any) -> Coroutine[Any, Any, Item]:
        self._has_begun = True
        return self._generator.athrow(*error)

    def aclose(self) -> Coroutine[Any, Any, None]:
        """Ends it. If it has not begun, that is on purpose, and there is no warning."""
        self._has_begun = True
        return self._generator.aclose()

    def __del__(self) -> None:
        if not getattr(self, "_has_begun", True):
            _warn_unused(self, self._function)


def _warn_unused(source: object, function: str) -> None:
    warnings.warn(
        f"the results of {function} were never asked for, so nothing was sent: iterate over them",
        RuntimeWarning,
        stacklevel=3,
        source=source,
    )
