"""Many mail objects over one connection, without I/O: they are encoded and pushed into the
pipeline, and come out of it as results, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, repeat
from operator import attrgetter
from smtplib import SMTPNotSupportedError
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from .. import kernel
from ..kernel.transaction import CHUNKING, IN_DOUBT, LOST, MAIL, NEXT, RCPT, Mode, Phase
from . import envelope, limits
from .arguments import check_kind
from .extension_policy import Host
from .failures import describe
from .features import Features
from .mail_object import (
    DSN,
    MailObject,
    Unsendable,
    buffers_of,
    check_parameters,
    mail_object,
    recipients_of,
)
from .outcome import State, is_too_many_recipients
from .result import Result

if TYPE_CHECKING:
    from .result import Others, Part

    # A transaction in the pipeline: its message and, unless it is for all recipients, their
    # indices.
    _Tag: TypeAlias = "_Message | tuple[_Message, Sequence[int]]"

Item = TypeVar("Item")


_RESULT: Callable[[_Message], Result] = attrgetter("result")


def popped(items: deque[Item], count: int) -> Iterator[Item]:
    """Return an iterator that takes so many items from the left, each as it yields it.

    It is in C: an interrupt that came between a popleft() and a yield would lose the item.
    """
    return map(deque.popleft, repeat(items, count))


class _Message:
    """A message in progress.

    parts: of the result. waiting: transactions without a result, plus 1 while there may be more.
    """

    __slots__ = ("commands", "content", "parts", "result", "waiting")

    # Set by Submission.add(), which saves a call for each message.
    result: Result
    parts: list[Part]
    waiting: int

    commands: list[bytes]
    content: kernel.Content

    def prepare(self, mail: MailObject, offer: _Offer, dots: bool) -> None:
        """Encode a mail object for a server, and check everything that can be checked on this side.

        Raises Unsendable for control characters in the envelope, NUL and lines of more than 998
        bytes in the message, and a message that is larger than the server accepts;
        SMTPNotSupportedError for addresses that need SMTPUTF8 if the server lacks it; and what
        mail_object.buffers_of() raises.
        """
        from_addr, to_addrs, msg, mail_options, rcpt_options, dsn = mail
        # Most messages are for one recipient.
        if type(to_addrs) is list and len(to_addrs) == 1 and type(to_addrs[0]) is str:
            recipients = to_addrs[:]
        else:
            recipients = recipients_of(to_addrs)
        self.result.recipients = recipients
        if type(from_addr) is not str:
            check_kind("from_addr", from_addr, str, 'an address as a str, or "" for none')
        if mail_options or rcpt_options or dsn is not None:
            check_parameters(mail)
        utf8 = not (from_addr.isascii() and all(map(str.isascii, recipients)))
        if utf8 and not offer.smtputf8:
            raise SMTPNotSupportedError(
                "the envelope has an address that is not ASCII, and the server does not offer "
                "SMTPUTF8"
            )
        buffers = buffers_of(msg, utf8=utf8)
        self.content = content = kernel.Content(buffers, dots)
        if content.has_nul:
            raise Unsendable("the message contains a NUL byte, which SMTP does not allow")
        if content.longest_line > limits.MESSAGE_LINE_BYTES:
            raise Unsendable(
                f"line {_first_long_line(buffers)} of the message is longer than "
                f"{limits.MESSAGE_LINE_BYTES} bytes (RFC 5321 section 4.5.3.1.6): encode its "
                "part as quoted-printable or base64"
            )
        if offer.size_limit is not None and content.size > offer.size_limit:
            raise Unsendable(
                f"the message has {content.size} bytes, and the server takes {offer.size_limit}"
            )
        try:
            self.commands = _commands(mail, recipients, offer, content, utf8=utf8)
        except ValueError as error:
            raise Unsendable(str(error)) from error

    def give_up(self, fault: str) -> None:
        """Count the message as in doubt, except for recipients for which it was accepted."""
        # The parts may be incomplete, so every recipient is in doubt at first.
        self.parts.insert(0, (None, IN_DOUBT, None, {}, fault))
        doubtful = [
            index
            for index, outcome in enumerate(self.result.outcomes)
            if outcome.state is not State.ACCEPTED
        ]
        self.parts.append((doubtful, IN_DOUBT, None, {}, fault))
        self.waiting = 0


class Submission:
    """Mail objects in progress over one connection.

    Its owner adds some while has_room(), has a driver run `pipeline`, and takes the results(). What
    the pipeline shows of the server is passed on to `host`, and so to its other connections.
    """

    def __init__(
        self,
        replies: kernel.ReplyBuffer,
        features: Features,
        mode: Mode,
        *,
        lmtp: bool,
        host: Host,
        max_in_flight: int,
        audit: Callable[[bytes], object] | None = None,
        can_renew: bool = False,
    ) -> None:
        """audit: called with each command before it is sent; add() raises what it raises.
        can_renew: the owner looks at must_renew and acts on it."""
        self._audit = audit
        self._replies = replies
        self._lmtp = lmtp
        self._host = host
        self._can_renew = can_renew
        self._left_over: list[_Tag] = []  # that the next pipeline is to send
        self._begin(mode)
        self._offer = _Offer(features)
        self._max_in_flight = max_in_flight
        self._transactions_left = features.limit("MAILMAX")
        self._messages: deque[_Message] = deque()
        # Whether the connection was lost because the server could not handle a step.
        self.is_step_to_blame = False

    def _begin(self, mode: Mode) -> None:
        self.mode = mode
        self._dots = mode != CHUNKING
        self.pipeline = kernel.Pipeline(
            self._replies,
            mode,
            self._lmtp,
            True,
            self._host.proof(mode),
            limits.LARGE_MESSAGE_BYTES,
        )
        self._has_told_failure = False
        self._take_over()

    def _take_over(self) -> None:
        """Pass on to the pipeline what other connections have shown."""
        pipeline, host = self.pipeline, self._host
        self._version = host.version
        pipeline.learn(host.proof(self.mode), host.limit(self.mode))
        self._proof, self._limit = pipeline.proof, pipeline.limit

    def _exchange(self) -> None:
        """Pass on to other connections what the pipeline has shown, and the reverse."""
        pipeline, host = self.pipeline, self._host
        has_failed = pipeline.failure is not None
        has_shown = pipeline.proof != self._proof or pipeline.limit != self._limit
        if has_shown or (has_failed and not self._has_told_failure):
            self.is_step_to_blame = has_failed and pipeline.limit < self._limit
            host.learn(self.mode, pipeline)
            self._proof, self._limit = pipeline.proof, pipeline.limit
            self._has_told_failure = has_failed
        if host.version != self._version:
            self._take_over()

    def __len__(self) -> int:
        """Return the number of messages whose results were not taken yet."""
        return len(self._messages)

    def room(self) -> float:
        """Return how many messages can be added now, while IN_FLIGHT_BYTES are not exceeded."""
        if not self.has_room():
            return 0
        room = self._max_in_flight - len(self._messages)
        left = self._transactions_left
        return room if left is None else min(room, left)

    def has_room(self) -> bool:
        """Return whether another message can be added now."""
        return (
            len(self._messages) < self._max_in_flight
            and self.pipeline.byte_count < limits.IN_FLIGHT_BYTES
            and self._transactions_left != 0
            and self.pipeline.failure is None
            and not (self.mode == CHUNKING and self._limit < NEXT)  # is_outdated, at every message
        )

    @property
    def is_outdated(self) -> bool:
        """Whether the server can't handle what the mode is for: another mode is better, which needs
        another pipeline."""
        return self.mode == CHUNKING and self._limit < NEXT

    @property
    def must_renew(self) -> bool:
        """Whether this pipeline has come to its end, and renew() could go on with another: the
        connection is sound, or will be once a reply that may be late is read."""
        if not self._can_renew:
            return False
        return self.is_lost_in_a_try or (
            self.is_outdated and not self.pipeline.want() and self.pipeline.failure is None
        )

    @property
    def is_lost_in_a_try(self) -> bool:
        """Whether the server has not answered the RSET that was sent behind a message as a test.
        All messages up to there have their results."""
        failure = self.pipeline.failure
        return isinstance(failure, TimeoutError) and self.pipeline.phase() == Phase.PROBE

    def renew(self, mode: Mode) -> None:
        """Go on with another pipeline on the same connection: nothing is in progress there, and
        nothing is left to read."""
        was_dotted = self._dots
        self._begin(mode)
        left_over, self._left_over = self._left_over, []
        for tag in left_over:
            message, indices = tag if isinstance(tag, tuple) else (tag, None)
            if self._dots != was_dotted:
                mail = mail_object(message.result.mail)
                message.prepare(mail, self._offer, self._dots)
            self._push(message, indices)
            message.waiting -= 1

    def abandon(self) -> None:
        """Report what renew() would send as lost with the connection."""
        fault = describe(self.pipeline.failure)
        left_over, self._left_over = self._left_over, []
        for tag in left_over:
            message, indices = tag if isinstance(tag, tuple) else (tag, None)
            message.parts.append((indices, LOST, None, {}, fault))
            message.waiting -= 1

    @property
    def is_over(self) -> bool:
        """Whether the connection takes no more messages, for its failure or for the server's limit
        (RFC 9422, MAILMAX)."""
        return self._transactions_left == 0 or self.pipeline.failure is not None

    def add(self, item: object) -> Result:
        """Add a message; return its result, which is complete when results() yields it. If the
        message can't be sent, the result says why."""
        message = _Message()
        message.parts = []
        message.result = result = Result(item, message.parts)
        message.waiting = 1
        self._messages.append(message)
        try:
            mail = item if type(item) is MailObject else mail_object(item)
            message.prepare(mail, self._offer, self._dots)
        except Exception as error:
            # Whatever it is, it must not affect the other messages.
            result.error = error
        else:
            groups = (
                _groups(result.recipients, self._offer) if len(result.recipients) > 1 else (None,)
            )
            for indices in groups:
                self._push(message, indices)
        message.waiting -= 1
        return result

    def _push(self, message: _Message, indices: Sequence[int] | None) -> None:
        if self._transactions_left is not None:
            if self._transactions_left == 0:
                fault = "the server takes no more messages on this connection (LIMITS MAILMAX)"
                message.parts.append((indices, LOST, None, {}, fault))
                return
            self._transactions_left -= 1
        commands = message.commands
        tag: _Tag = message
        if indices is not None:
            commands = [commands[0], *(commands[1 + index] for index in indices)]
            tag = message, indices
        audit = self._audit
        if audit is not None:
            for command in commands:
                audit(command)
        message.waiting += 1
        self.pipeline.push(tag, commands, message.content)

    def results(self) -> Iterator[Result]:
        """Return an iterator of the results that are known by now, in the order in which the
        messages were added. Those that it has not yielded are yielded by the next one."""
        self._collect()
        return map(_RESULT, popped(self._messages, self._complete_count()))

    def _complete_count(self) -> int:
        """Return how many messages, from the first one on, are complete."""
        count = 0
        for each in self._messages:
            if each.waiting:
                break
            count += 1
        return count

    def _collect(self) -> None:
        """Take what the pipeline knows by now."""
        self._exchange()
        has_failed = self.pipeline.failure is not None
        keeps_lost = has_failed and self._can_renew and self.is_lost_in_a_try
        tag: Any  # a _Tag
        for tag, stage, reply, others in self.pipeline.take():
            message, indices = tag if type(tag) is tuple else (tag, None)
            if keeps_lost and stage == LOST and not others:
                self._left_over.append(tag)
                continue
            fault: str | None = None
            if reply is None and stage <= IN_DOUBT:
                fault = describe(self.pipeline.failure)
            message.parts.append((indices, stage, reply, others, fault))
            if others:
                self._send_to_the_rest(message, indices, stage, others)
            # Last: a result that an interrupt has left half known must not look complete.
            message.waiting -= 1

    def give_up(self, error: Exception) -> None:
        """Lose the pipeline after an exception at any moment, such as Ctrl-C; results() then yields
        the result of every message. A message that was being handled just then is in doubt."""
        self.pipeline.lose(error)
        self._collect()
        # Those before it are complete, and keep their results.
        for message in islice(self._messages, self._complete_count(), None):
            message.give_up(str(error))

    def _send_to_the_rest(
        self, message: _Message, indices: Sequence[int] | None, stage: int, others: Others
    ) -> None:
        """Send the message again to recipients that were too many for one transaction."""
        refused = [place for place, (its_stage, _) in others.items() if its_stage == RCPT]
        count = len(message.result.recipients) if indices is None else len(indices)
        too_many = [each for each in refused if is_too_many_recipients(*others[each][1])]
        # If none was accepted, the next try would do no better.
        if not too_many or len(refused) == count or stage == MAIL or self.is_over:
            return
        self._push(message, too_many if indices is None else [indices[each] for each in too_many])


class _Offer:
    """The server's extensions and limits, as they are needed for each message."""

    __slots__ = (
        "domain_max",
        "dsn",
        "eight_bit",
        "rcpt_max",
        "size",
        "size_limit",
        "smtputf8",
    )

    def __init__(self, features: Features) -> None:
        self.size = "size" in features
        self.size_limit = features.size_limit
        self.eight_bit = "8bitmime" in features
        self.smtputf8 = "smtputf8" in features
        self.dsn = "dsn" in features
        self.rcpt_max = features.limit("RCPTMAX")
        self.domain_max = features.limit("RCPTDOMAINMAX")


def _commands(
    mail: MailObject,
    recipients: Sequence[str],
    offer: _Offer,
    content: kernel.Content,
    *,
    utf8: bool,
) -> list[bytes]:
    """Return MAIL and each RCPT as they are sent."""
    parameters = f" SIZE={content.size}" if offer.size else ""
    if utf8:
        parameters += " SMTPUTF8"
    if (utf8 or content.has_8bit) and offer.eight_bit:
        parameters += " BODY=8BITMIME"
    dsn = mail.dsn if offer.dsn else None
    if mail.mail_options or dsn is not None:
        more = [*mail.mail_options, *(dsn.mail_parameters() if dsn is not None else ())]
        named = {each.partition("=")[0].upper() for each in more}
        ours = [each for each in parameters.split() if each.partition("=")[0] not in named]
        parameters = "".join(f" {each}" for each in (*ours, *more))
        envelope.check_command(parameters)
    options = "".join(f" {each}" for each in mail.rcpt_options) if mail.rcpt_options else ""
    if dsn is None:
        lines = kernel.envelope_lines(
            "MAIL FROM:<", mail.from_addr, parameters, "RCPT TO:<", recipients, options
        )
        if lines is not None:
            return lines
    return _looked_at(mail, recipients, parameters, options, dsn, "utf-8" if utf8 else "ascii")


def _looked_at(
    mail: MailObject,
    recipients: Sequence[str],
    parameters: str,
    options: str,
    dsn: DSN | None,
    encoding: str,
) -> list[bytes]:
    """Return the command lines if an address or its parameters need a closer look."""
    envelope.check_command(options)
    sender = envelope.strict_path(mail.from_addr)
    commands = [f"MAIL FROM:{sender}{parameters}\r\n".encode(encoding)]
    for each in recipients:
        path = envelope.strict_path(each)
        if path == "<>":
            raise Unsendable("a recipient without an address")
        own = "" if dsn is None else "".join(f" {one}" for one in dsn.rcpt_parameters(each))
        envelope.check_command(own)
        commands.append(f"RCPT TO:{path}{options}{own}\r\n".encode(encoding))
    return commands


def _groups(recipients: Sequence[str], offer: _Offer) -> Sequence[Sequence[int] | None]:
    """Return the recipients of each transaction, by index, within the server's limits (RFC 9422,
    RCPTMAX and RCPTDOMAINMAX); None stands for all of them."""
    most = offer.rcpt_max or len(recipients)
    most_domains = offer.domain_max or len(recipients)
    if len(recipients) <= min(most, most_domains):
        return (None,)
    groups: list[list[int]] = []
    domains: set[str] = set()
    for index, recipient in enumerate(recipients):
        domain = recipient.rpartition("@")[2].lower()
        is_new = domain not in domains
        if not groups or len(groups[-1]) == most or (is_new and len(domains) == most_domains):
            groups.append([])
            domains = set()
        domains.add(domain)
        groups[-1].append(index)
    return groups


def _first_long_line(buffers: Any) -> int:
    text = buffers if isinstance(buffers, bytes) else b"".join(buffers)
    lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return next(
        number for number, line in enumerate(lines, 1) if len(line) > limits.MESSAGE_LINE_BYTES
    )
