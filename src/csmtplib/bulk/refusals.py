"""Refusals: whether they concern one message, or every message that is sent the same way.

MAIL is refused before anything about a recipient is known. If every message would meet the same
refusal, such as for a missing login, it is no verdict on recipients: they stay queued.
"""

from __future__ import annotations

from enum import Enum
from smtplib import SMTPResponseException
from typing import TYPE_CHECKING, NamedTuple

from ..protocol.outcome import Outcome, Reply, State
from .task import Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..protocol.server_url import Server

# The run stops if this many results, its first ones, are the same refusal.
FIRST_RESULTS = 50

# This many refusals of MAIL in a row concern the connection, not the messages.
_OF_SPENT_SESSION = 2
_OF_UNCLEAR = 10

# If this many senders are refused, and no other is known to pass, they are not the reason.
MANY_SENDERS = 10

# RFC 4954 section 6: a login is missing, or does not suffice.
_LOGIN = frozenset((530, 534, 535, 538))
# The same as enhanced codes: those of RFC 5248's registry, and Microsoft's.
_LOGIN_ENHANCED = frozenset(
    ("5.7.8", "5.7.9", "5.7.11", "5.7.13", "5.7.14", "5.7.30", "5.7.57", "5.7.139")
)
# MAIL is unknown or out of sequence (5xx of RFC 5321 section 4.2.2), or no mail is accepted at all.
_SESSION = frozenset((500, 502, 503, 521))
_SESSION_ENHANCED = frozenset(("5.3.2", "5.5.1"))
# The message is too large, or in a form that the server does not support.
_MESSAGE = frozenset((552,))
_MESSAGE_ENHANCED = ("5.2.", "5.3.4", "5.6.")
# The address of the sender.
_SENDER = frozenset((553,))
_SENDER_ENHANCED = frozenset(("5.1.7", "5.1.8"))

# Senders, and domains of senders, that are remembered.
_SENDERS = 1000


class Subject(Enum):
    """The subject of a refusal, as far as its reply shows it.

    BUSY: a session that has begun messages before, and may have reached a limit.
    """

    MESSAGE = "message"
    UNCLEAR = "unclear"
    BUSY = "busy"
    SESSION = "session"
    LOGIN = "login"


class RunRefused(SMTPResponseException):
    """The server refuses the whole run, not just single messages.

    smtp_code, smtp_error: its reply, as in smtplib's exceptions. needs_login: whether it requires a
    login, or another one. rejected: how many recipients were rejected before that was known; all
    others are as they were before the run.
    """

    def __init__(self, reason: str, reply: Reply, *, needs_login: bool, rejected: int = 0) -> None:
        super().__init__(reply.code, reply.text)
        self.reason = reason
        self.needs_login = needs_login
        self.rejected = rejected

    def __str__(self) -> str:
        return self.reason


class Held(NamedTuple):
    """Recipients of a refused message, while it is unknown what the refusal concerns.

    outcomes: one for each of them. since: when it was refused, on a monotonic clock. is_whole:
    whether they are all recipients of their message.
    """

    task: Task
    outcomes: tuple[Outcome, ...]
    subject: Subject
    since: float
    is_whole: bool

    @property
    def reply(self) -> Reply:
        """The reply of the server."""
        reply = self.outcomes[0].reply
        assert reply is not None
        return reply

    def refusal(self, server: Server) -> RunRefused:
        """Return the error for the case that every message would meet this refusal."""
        reply = self.reply
        why = "it would refuse every message this way"
        if self.subject is Subject.LOGIN:
            why = "it requires a login, and the server URL names no user"
            if server.user is not None:
                why = f"the login of {server.user} does not allow it"
        return RunRefused(
            f"{server} refuses mail from <{self.task.mail.from_addr}>: {reply}; {why}, so the "
            "recipients stay queued",
            reply,
            needs_login=self.subject is Subject.LOGIN,
        )


def all_alike(outcome: Outcome, server: Server) -> RunRefused:
    """Return the error for first results that are all the same refusal; outcome is the last."""
    reply = outcome.reply
    assert reply is not None
    return RunRefused(
        f"the first {FIRST_RESULTS} results are the same refusal by {server}: {reply}; those "
        "refused so far are rejected, and the other recipients stay queued",
        reply,
        needs_login=False,
        rejected=FIRST_RESULTS,
    )


def subject(reply: Reply, *, to_mail: bool) -> Subject:
    """Return what a refusal concerns, by its basic code, and by its enhanced code, which refines
    it. to_mail: whether it is the reply to MAIL; others concern more than a message only if they
    require a login."""
    code, enhanced = reply.code, reply.enhanced or ""
    if code in _LOGIN:
        return Subject.LOGIN
    if not to_mail:
        return Subject.MESSAGE
    if code < 500:
        return Subject.BUSY
    if enhanced in _LOGIN_ENHANCED:
        return Subject.LOGIN
    if code in _SESSION or enhanced in _SESSION_ENHANCED:
        return Subject.SESSION
    if code in _MESSAGE or enhanced.startswith(_MESSAGE_ENHANCED):
        return Subject.MESSAGE
    return Subject.UNCLEAR


def may_concern_all(outcome: Outcome, *, is_fresh: bool) -> Subject | None:
    """Return what an outcome concerns if that may be more than its message, else None. is_fresh:
    the server has begun no message on this connection."""
    reply = outcome.reply
    if reply is None or outcome.state is State.ACCEPTED or reply.code == 421:
        return None
    about = subject(reply, to_mail=outcome.to_mail)
    if about is Subject.MESSAGE or (about is Subject.BUSY and is_fresh):
        return None
    return about


def of_session(outcomes: Sequence[Outcome]) -> Subject | None:
    """Return LOGIN or SESSION if that is why the server refused a message, else None."""
    abouts = [may_concern_all(each, is_fresh=True) for each in outcomes]
    return next((each for each in abouts if each in (Subject.LOGIN, Subject.SESSION)), None)


def is_begun(outcome: Outcome) -> bool:
    """Return whether an outcome shows that the server has begun the message."""
    reply = outcome.reply
    if reply is None or reply.code == 421 or outcome.to_mail:
        return False
    return reply.code < 500 or subject(reply, to_mail=False) is not Subject.LOGIN


def in_a_row(held: list[Held]) -> int:
    """Return how many refusals in a row show that they concern the connection; these were the
    last."""
    is_unclear = all(each.subject is Subject.UNCLEAR for each in held)
    return _OF_UNCLEAR if is_unclear else _OF_SPENT_SESSION


class Senders:
    """Which senders a server has taken and refused in a run, by their domains: with VERP, all
    senders are different. A single sender counts if it was refused several times in a row while
    another one passed."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._refused: set[str] = set()
        self._taken_alone: set[str] = set()
        self._refused_alone: set[str] = set()

    def note_taken(self, sender: str) -> None:
        """Note that MAIL from this sender was accepted."""
        if len(self._taken) < _SENDERS:
            self._taken.add(_domain(sender))
        if len(self._taken_alone) < _SENDERS:
            self._taken_alone.add(sender)

    def is_refused(self, sender: str) -> bool:
        """Return whether a sender, or its domain, is known to be refused for itself."""
        if sender in self._refused_alone:
            return True
        return bool(self._refused) and _domain(sender) in self._refused

    def blame(self, senders: set[str]) -> None:
        """Note that these senders were refused in a row, and that another one passed after them.
        From then on they count as refused, except for those that passed before."""
        if len(self._taken_alone) < _SENDERS > len(self._refused_alone):
            self._refused_alone |= senders - self._taken_alone

    def are_to_blame(self, held: list[Held]) -> bool:
        """Return whether these messages were refused for their senders: messages from other domains
        pass, and none from theirs did. That is remembered."""
        domains = {_domain(each.task.mail.from_addr) for each in held}
        if not self._taken or domains & self._taken:
            return False
        if len(self._refused) < _SENDERS:
            self._refused |= domains
        return True

    def are_named(self, held: list[Held]) -> bool:
        """Return whether the server names the senders as the reason, and accepts others."""
        return bool(self._taken) and all(
            each.reply.code in _SENDER or each.reply.enhanced in _SENDER_ENHANCED for each in held
        )


class FirstResults:
    """Notices if the first results of a run are all the same refusal."""

    def __init__(self, *, is_on: bool) -> None:
        self._kind: tuple[object, ...] | None = None
        self._count = 0
        self.is_on = is_on

    def are_alike(self, outcome: Outcome) -> bool:
        """Take another result. Return whether it completes FIRST_RESULTS equal refusals."""
        reply = outcome.reply
        if not self.is_on or reply is None:
            return False
        kind = (outcome.to_mail, outcome.to_rcpt, reply.code, reply.enhanced)
        self.is_on = reply.code >= 400 and self._kind in (None, kind)
        self._kind = kind
        self._count += 1
        if not self.is_on or self._count < FIRST_RESULTS:
            return False
        self.is_on = False
        return True


def _domain(address: str) -> str:
    return address.rpartition("@")[2].lower()
