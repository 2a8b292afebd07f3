"""Many mail objects over one connection, without I/O: what is pushed into the pipeline, and what
comes out of it as results, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from smtplib import SMTPNotSupportedError
from typing import Any, TypeAlias, cast

from .. import kernel
from ..kernel.transaction import CONTENT, Gear, Stage
from . import envelope, limits
from .features import Features
from .mail_object import DSN, MailObject, Unsendable, buffers_of, mail_object
from .outcome import Outcome, Reply, State, answered

# Replies to RCPT that are about how many recipients there are, not about this one (RFC 5321 section
# 4.5.3.1.10).
_TOO_MANY_RECIPIENTS = (452, 552)

_Others: TypeAlias = "dict[int, tuple[int, tuple[int, bytes]]]"
# One transaction: its recipients by index (None for all), stage, reply, those with an answer of
# their own, and the fault where there is no reply.
_Part: TypeAlias = "tuple[Sequence[int] | None, int, tuple[int, bytes] | None, _Others, str | None]"

# A transaction in the pipeline: whose it is, and its recipients as in a part.
_Tag: TypeAlias = "tuple[Result, Sequence[int] | None]"


class Result:
    """What became of one message.

    mail: as the caller handed it over. recipients: those of its envelope. error: why it could not
    be sent as it is, None where it could; of such a message nothing has left.
    """

    __slots__ = ("_commands", "_content", "_parts", "_waiting", "error", "mail", "recipients")

    _commands: list[bytes]
    _content: kernel.Content

    def __init__(self, mail: object) -> None:
        self.mail = mail
        self.recipients: Sequence[str] = ()
        self.error: Exception | None = None
        self._waiting = 0  # transactions that are not settled
        self._parts: list[_Part] = []

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
    def only_reply(self) -> Reply | None:
        """What the server has said of the message to its only recipient; None where there are
        several, or where it has said nothing."""
        if len(self.recipients) == 1 and len(self._parts) == 1:
            _, _, reply, others, _ = self._parts[0]
            if reply is not None and not others:
                return Reply(*reply)
        return None

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """An outcome for each recipient, in order."""
        if self.error is not None:
            error = str(self.error)
            return tuple(Outcome(each, State.REJECTED, fault=error) for each in self.recipients)
        outcomes: dict[int, Outcome] = {}
        for indices, stage, reply, others, fault in self._parts:
            for place, index in enumerate(
                range(len(self.recipients)) if indices is None else indices
            ):
                its_stage, its_reply = others.get(place, (stage, reply))
                recipient = self.recipients[index]
                if its_reply is None:
                    state = State.IN_DOUBT if its_stage == Stage.IN_DOUBT else State.DEFERRED
                    outcomes[index] = Outcome(recipient, state, fault=fault)
                else:
                    outcomes[index] = answered(
                        recipient, Reply(*its_reply), to_rcpt=its_stage == Stage.RCPT
                    )
        return tuple(outcomes[index] for index in range(len(self.recipients)))

    def __repr__(self) -> str:
        return f"<Result {'; '.join(map(str, self.outcomes)) or self.error}>"

    def _forget_content(self) -> None:
        """Whoever keeps the result does not want to keep the message twice."""
        if self.error is None:
            del self._commands, self._content

    def _prepare(self, mail: MailObject, offer: _Offer, dots: bool) -> None:
        """Encodes a mail object for a server; after that nothing about it can be wrong on this
        side.

        Raises Unsendable for control characters in the envelope, NUL and lines of more than 998
        octets in the message, and one that is larger than the server takes; SMTPNotSupportedError
        for addresses that need SMTPUTF8 where the server lacks it; and what
        mail_object.buffers_of() raises.
        """
        from_addr, to_addrs, msg, *_ = mail
        self.recipients = recipients = [to_addrs] if isinstance(to_addrs, str) else list(to_addrs)
        if not recipients:
            raise Unsendable("the message has no recipient")
        try:
            utf8 = not (str.isascii(from_addr) and all(map(str.isascii, recipients)))
        except TypeError:
            raise TypeError("sender and recipients have to be str") from None
        if utf8 and not offer.smtputf8:
            raise SMTPNotSupportedError(
                "the envelope has an address that is not ASCII, and the server does not offer "
                "SMTPUTF8"
            )
        buffers = buffers_of(msg, utf8=utf8)
        self._content = content = kernel.Content(buffers, dots)
        if content.has_nul:
            raise Unsendable("the message holds a NUL octet, which SMTP does not carry")
        if content.longest_line > limits.MESSAGE_LINE_OCTETS:
            raise Unsendable(
                f"line {_first_long_line(buffers)} of the message is longer than "
                f"{limits.MESSAGE_LINE_OCTETS} octets (RFC 5321 section 4.5.3.1.6): encode its "
                "part as quoted-printable or base64"
            )
        if offer.size_limit is not None and content.size > offer.size_limit:
            raise Unsendable(
                f"the message has {content.size} octets, and the server takes {offer.size_limit}"
            )
        try:
            self._commands = _commands(mail, recipients, offer, content, utf8=utf8)
        except ValueError as error:
            raise Unsendable(str(error)) from error


class Submission:
    """Mail objects on their way over one connection.

    A face adds some while has_room(), has a driver run `pipeline`, and takes the results().
    """

    def __init__(
        self,
        replies: kernel.ReplyBuffer,
        features: Features,
        gear: Gear,
        *,
        lmtp: bool,
        proved: bool,
        max_in_flight: int,
        audit: Callable[[bytes], object] | None = None,
    ) -> None:
        """audit: is told each command before it is sent; what it raises, add() raises."""
        self._audit = audit
        self.gear = gear
        self.pipeline = kernel.Pipeline(
            replies, gear, lmtp, True, proved, limits.LARGE_MESSAGE_OCTETS
        )
        self._offer = _Offer(features)
        self._dots = gear != Gear.CHUNKED
        self._max_in_flight = max_in_flight
        self._transactions_left = features.limit("MAILMAX")
        self._results: deque[Result] = deque()

    def __len__(self) -> int:
        """Messages whose results were not taken yet."""
        return len(self._results)

    def has_room(self) -> bool:
        """Whether another message can be added now."""
        return (
            len(self._results) < self._max_in_flight
            and self.pipeline.octets < limits.IN_FLIGHT_OCTETS
            and self._transactions_left != 0
            and self.pipeline.failure is None
        )

    @property
    def is_over(self) -> bool:
        """Whether the connection takes no more messages, for its failure or for the server's limit
        (RFC 9422, MAILMAX)."""
        return self._transactions_left == 0 or self.pipeline.failure is not None

    def add(self, item: object) -> None:
        """Takes a message on; what is wrong with it is told by its result."""
        result = Result(item)
        self._results.append(result)
        try:
            result._prepare(mail_object(item), self._offer, self._dots)
        except Exception as error:
            # Whatever it is, the other messages have nothing to do with it.
            result.error = error
        else:
            if len(result.recipients) == 1:
                self._push(result, None)
                return
            for indices in _groups(result.recipients, self._offer):
                self._push(result, indices)

    def _push(self, result: Result, indices: Sequence[int] | None) -> None:
        if self._transactions_left is not None:
            if self._transactions_left == 0:
                fault = "the server takes no more messages on this connection (LIMITS MAILMAX)"
                result._parts.append((indices, Stage.LOST, None, {}, fault))
                return
            self._transactions_left -= 1
        commands = result._commands
        if indices is not None:
            commands = [commands[0], *(commands[1 + index] for index in indices)]
        audit = self._audit
        if audit is not None:
            for command in commands:
                audit(command)
        result._waiting += 1
        self.pipeline.push((result, indices), commands, result._content)

    def results(self) -> Iterator[Result]:
        """The results that are known by now, in the order in which the messages were added."""
        for tag, stage, reply, others in self.pipeline.take():
            result, indices = cast("_Tag", tag)
            result._waiting -= 1
            fault: str | None = None
            if reply is None and stage <= Stage.IN_DOUBT:
                fault = str(self.pipeline.failure) or type(self.pipeline.failure).__name__
            result._parts.append((indices, stage, reply, others, fault))
            if others:
                self._send_to_the_rest(result, indices, stage, others)
        results = self._results
        while results and not results[0]._waiting:
            result = results.popleft()
            result._forget_content()
            yield result

    def _send_to_the_rest(
        self, result: Result, indices: Sequence[int] | None, stage: int, others: _Others
    ) -> None:
        """Sends the message again to those that were too many for one transaction."""
        refused = [place for place, (its_stage, _) in others.items() if its_stage == Stage.RCPT]
        count = len(result.recipients) if indices is None else len(indices)
        too_many = [each for each in refused if others[each][1][0] in _TOO_MANY_RECIPIENTS]
        # Where none was accepted, there is no reason why the next try should fare better.
        if not too_many or len(refused) == count or stage == Stage.MAIL or self.is_over:
            return
        self._push(result, too_many if indices is None else [indices[each] for each in too_many])


class _Offer:
    """What a server offers, as it is asked for each message."""

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
    """MAIL and each RCPT as they are sent."""
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
    """The command lines, where there is something about an address or its parameters."""
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
    """Which recipients go into one transaction, by index, as the server's limits have it (RFC 9422,
    RCPTMAX and RCPTDOMAINMAX); None for all of them."""
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
        number for number, line in enumerate(lines, 1) if len(line) > limits.MESSAGE_LINE_OCTETS
    )
