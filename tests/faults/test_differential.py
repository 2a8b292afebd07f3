"""sendmail() has the same end, whatever a server answers: in the standard library, sequentially,
and with commands that leave together."""

from __future__ import annotations

import contextlib
import smtplib
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import pytest

import csmtplib
from csmtplib.aio import SMTPException

from .faces import BODY, SENDER, TIMEOUT, Async, as_smtplib
from .server import BDAT, Peer, ScriptedServer, ScriptError

RECIPIENTS = ["a@x.test", "b@x.test"]
CLOSE, CUT = "close", "cut"  # instead of an answer, or behind the first half of it

# By what a server may answer; "" stands for the success of the place.
ODD = {
    "garbage": b"what do you want\r\n",
    "dash": b"250-\r\n",
    "mixed": b"250-one\r\n550 two\r\n",
    "preliminary": b"150 wait\r\n",
    "empty": b"\r\n",
}
CODES = ["250", "251", "252", "354", "421", "450", "452", "500", "503", "550", "552", "554", "220"]
ANSWERS = [*CODES, "multi", "garbage", "empty", "mixed", "preliminary", CLOSE, CUT]
CLASSES = ["251", "354", "421", "450", "550", "garbage", CLOSE]


@dataclass(frozen=True)
class Behaviour:
    """The answers of a server in one transaction, by place."""

    mail: str = "250"
    rcpt1: str = "250"
    rcpt2: str = "250"
    data: str = "354"
    content: str = "250"
    rset: str = "250"

    def __str__(self) -> str:
        changed = {name: value for name, value in vars(self).items() if value != DEFAULTS[name]}
        return " ".join(f"{name}-{value}" for name, value in changed.items()) or "good"


DEFAULTS = {name: field.default for name, field in Behaviour.__dataclass_fields__.items()}
GOOD = Behaviour()


def behaviours() -> Iterator[Behaviour]:
    """One place with every answer, two and some threes with one of each kind."""
    yield GOOD
    for place, answer in product(DEFAULTS, ANSWERS):
        yield replace(GOOD, **{place: answer})
        if place != "rset":
            # And what comes of it where RSET is not so simple.
            yield replace(GOOD, **{place: answer}, rset="421" if answer > "4" else CLOSE)
    for first, second in combinations(DEFAULTS, 2):
        for one, other in product(CLASSES, CLASSES):
            if one not in ("421", CLOSE) and not (first == "mail" and second != "rset"):
                yield replace(GOOD, **{first: one, second: other})
    for one, two in product(["354", "450", "550", "garbage"], repeat=2):
        for data in ("354", "503", "554", "451"):
            yield replace(GOOD, rcpt1=one, rcpt2=two, data=data)
        for rset in ("421", CLOSE, "550", "garbage"):
            yield replace(GOOD, rcpt1=one, rcpt2=two, data="503", rset=rset)


EVERY_BEHAVIOUR = sorted(set(behaviours()), key=str)


class Mailbox:
    """A server's side of one connection: answers each command as it comes, by a behaviour up to the
    first NOOP and well behind it.

    What it was told to do before, and refused, it refuses again: RCPT without MAIL, DATA without
    either.
    """

    def __init__(self, peer: Peer, behaviour: Behaviour, *, lmtp: list[str] | None = None) -> None:
        self._peer = peer
        self._behaviour = behaviour
        self._lmtp = lmtp
        self._is_over = False
        self._resets = 0
        self._sender = False
        self._tried = 0
        self._accepted = 0

    def run(self, *extensions: str) -> None:
        self._peer.greet(*extensions)
        try:
            while self._answer(self._peer.expect()):
                pass
        except ScriptError:
            if not self._peer.is_closed:
                raise

    def _answer(self, line: bytes) -> bool:
        """Whether the connection goes on."""
        verb = line[:4].upper()
        behaviour = GOOD if self._is_over else self._behaviour
        if verb == b"MAIL":
            self._tried = self._accepted = 0
            self._sender = behaviour.mail in ("250", "multi", CUT)
            return self._say("250", behaviour.mail)
        if verb == b"RCPT":
            if not self._sender:
                return self._say("250", "503")
            self._tried += 1
            answer = behaviour.rcpt1 if self._tried == 1 else behaviour.rcpt2
            self._accepted += answer in ("250", "251", "multi", CUT)
            return self._say("250", answer)
        if verb == b"DATA":
            return self._data(behaviour)
        if verb == b"BDAT":
            assert BDAT.fullmatch(line)
            self._peer.take(int(line.split()[1]))
            return self._say("250", behaviour.content if self._accepted else "503")
        if verb == b"RSET":
            self._resets += 1
            return self._say("250", self._behaviour.rset if self._resets == 1 else "250")
        self._is_over = self._is_over or verb == b"NOOP"
        return self._say("250", "250")

    def _data(self, behaviour: Behaviour) -> bool:
        if not self._accepted and behaviour.data not in ("354", "503", "554", "451"):
            return self._say("354", "503")
        if not self._sender:
            return self._say("354", "503")
        if not self._say("354", behaviour.data):
            return False
        if behaviour.data not in ("354", "multi"):
            return True
        body = self._peer.read_body()
        if not self._accepted:
            assert body == b".\r\n"
            return self._say("250", "554")
        assert body == BODY + b".\r\n"
        answers = [behaviour.content]
        if self._lmtp is not None:
            answers = ["250"] * self._accepted if self._is_over else self._lmtp
        return all(self._say("250", each) for each in answers)

    def _say(self, success: str, answer: str) -> bool:
        if answer == CLOSE:
            self._peer.end()
            return False
        if answer == CUT:
            self._peer.deliver(f"{success} cut".encode())
            self._peer.end()
            return False
        if answer == "multi":
            self._peer.say(f"{success}-one", f"{success} two")
        elif answer in ODD:
            self._peer.deliver(ODD[answer])
        else:
            self._peer.say(f"{answer} text of {answer}")
        if answer == "421":
            self._peer.end()
        return answer != "421"


@dataclass
class Report:
    """All that a program sees of one sendmail()."""

    outcome: Any
    closed: bool
    after: Any
    audit: list[bytes]
    replies: Any = None


class _Audit:
    """Commands and messages that are sent, as audit hooks are told. A hook stays for ever."""

    def __init__(self) -> None:
        self._events: list[bytes] | None = None
        self._is_hooked = False

    @contextlib.contextmanager
    def recording(self) -> Iterator[list[bytes]]:
        if not self._is_hooked:
            sys.addaudithook(self._hear)
            self._is_hooked = True
        events: list[bytes] = []
        self._events = events
        try:
            yield events
        finally:
            self._events = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "smtplib.send" and self._events is not None:
            self._events.append(bytes(arguments[1]))


audit = _Audit()


def end_of(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or raises, with all its attributes."""
    try:
        return call()
    except smtplib.SMTPServerDisconnected as error:
        return type(error)
    except smtplib.SMTPException as error:
        told = {name: vars(error)[name] for name in sorted(vars(error))}
        return type(error), error.args, told


def report(smtp: smtplib.SMTP | csmtplib.SMTP) -> Report:
    """Sends a message, and looks at what is left of the connection."""

    def sendmail() -> Any:
        return smtp.sendmail(SENDER, RECIPIENTS, BODY)

    smtp.ehlo()
    with audit.recording() as events:
        outcome = end_of(sendmail)
    closed = smtp.sock is None
    after = [end_of(smtp.noop), end_of(sendmail), end_of(smtp.noop)]
    replies = dict(smtp.recipient_replies) if isinstance(smtp, csmtplib.LMTP) else None
    smtp.close()
    return Report(outcome, closed, after, events, replies)


def served(
    behaviour: Behaviour, count: int, *extensions: str, lmtp: list[str] | None = None
) -> ScriptedServer:
    """A server for so many connections."""

    def script(peer: Peer) -> None:
        Mailbox(peer, behaviour, lmtp=lmtp).run(*extensions)

    return ScriptedServer(*[script] * count)


def ours(
    cls: type[csmtplib.SMTP], server: ScriptedServer, *, pipelining: bool, chunking: bool = False
) -> Report:
    smtp = cls(server.host, server.port, local_hostname="client.test", timeout=TIMEOUT)
    smtp.pipelining = pipelining
    smtp.chunking = chunking
    return report(smtp)


def assert_same(slow: Report, fast: Report, answers: Iterable[str]) -> None:
    """Everything but the audit is the same."""
    assert fast.outcome == slow.outcome
    assert fast.replies == slow.replies
    assert fast.after == slow.after
    # A pipeline that has come to the end of the stream closes; a file that has given what was
    # before it does not know yet. A message is tried again behind a RSET that was taken.
    if CUT not in answers and not is_tried_again(answers):
        assert fast.closed == slow.closed


def is_tried_again(answers: Iterable[str]) -> bool:
    """Whether a refusal may be about commands that came together: one by one they show."""
    return not {"500", "503"}.isdisjoint(answers)


def assert_audit(behaviour: Behaviour, slow: Report, fast: Report) -> None:
    """Events of the fast path are those of the slow one, and of what left in vain."""
    in_vain = [*fast.audit]
    for event in slow.audit:
        # Where the stream has ended behind the 354, one of them sees that before the message.
        if behaviour.data != CUT or event in in_vain:
            in_vain.remove(event)
    vain = {b"rcpt", b"data"}
    if is_tried_again([behaviour.data]):
        vain |= {b"rset", b"mail"}
    assert {event[:4] for event in in_vain} <= vain
    if isinstance(slow.outcome, dict):
        assert fast.audit == slow.audit


def is_comparable(behaviour: Behaviour, stdlib: Report, slow: Report) -> bool:
    """Takes out of both what differs from the standard library on purpose (see CHANGELOG.md);
    False where nothing is left to compare."""
    # A reply whose lines have different codes, and a preliminary one, close the connection.
    if not {"mixed", "preliminary"}.isdisjoint(vars(behaviour).values()):
        return False
    is_data_error = isinstance(slow.outcome, tuple) and slow.outcome[0] is smtplib.SMTPDataError
    if is_data_error and behaviour.data not in ("354", "multi", CUT):
        # A refused DATA is followed by RSET, whatever comes of that, and 421 closes the connection.
        slow.audit = [event for event in slow.audit if event != b"rset\r\n"]
        if behaviour.data == "421" or behaviour.rset in ("421", CLOSE, CUT):
            stdlib.closed, stdlib.after = slow.closed, slow.after
    return True


@pytest.mark.parametrize("behaviour", EVERY_BEHAVIOUR, ids=str)
def test_one_message(behaviour: Behaviour) -> None:
    with served(behaviour, 3, "PIPELINING", "SIZE", "DSN") as server:
        stdlib = report(smtplib.SMTP(server.host, server.port, "client.test", timeout=TIMEOUT))
        slow = ours(csmtplib.SMTP, server, pipelining=False)
        fast = ours(csmtplib.SMTP, server, pipelining=True)
    assert_same(slow, fast, vars(behaviour).values())
    assert_audit(behaviour, slow, fast)
    if is_comparable(behaviour, stdlib, slow):
        assert slow == stdlib


def by_aio(aio: Async, server: ScriptedServer, *, pipelining: bool) -> Report:
    """The same of csmtplib.aio, in the terms of smtplib. It has no audit."""
    session = aio.open(server)
    client = session.client
    client.pipelining = pipelining

    def noop() -> Any:
        try:
            code, text = aio.run(client.noop())
        except SMTPException as error:
            raise as_smtplib(error) from error
        return code, text.encode()

    def sendmail() -> Any:
        return session.sendmail(SENDER, RECIPIENTS, BODY)

    outcome = end_of(sendmail)
    closed = not client.is_connected
    return Report(outcome, closed, [end_of(noop), end_of(sendmail), end_of(noop)], [])


@pytest.mark.parametrize("aio", ["clear"], indirect=True)
@pytest.mark.parametrize(
    "behaviour",
    # Like aiosmtplib, it closes the connection where RSET is refused.
    [each for each in EVERY_BEHAVIOUR if each.rset in ("250", "multi", CLOSE)],
    ids=str,
)
def test_aio(behaviour: Behaviour, aio: Async) -> None:
    with served(behaviour, 3, "PIPELINING") as server, aio:
        drop_in = ours(csmtplib.SMTP, server, pipelining=True)
        slow = by_aio(aio, server, pipelining=False)
        fast = by_aio(aio, server, pipelining=True)
        aio.close()
    answers = {*vars(behaviour).values()}
    assert_same(slow, fast, answers)
    # What is no reply, or not a whole one, is none for csmtplib.aio.
    if answers.isdisjoint(["garbage", "empty", CUT]):
        assert_same(drop_in, fast, answers)


@pytest.mark.parametrize(
    "behaviour",
    [
        each
        for each in EVERY_BEHAVIOUR
        # What the pipeline takes for a server that does not know BDAT is another matter.
        if each.data == "354" and each.rset == "250" and each.content not in ("500", "503")
    ],
    ids=str,
)
def test_by_chunks(behaviour: Behaviour) -> None:
    with served(behaviour, 2, "PIPELINING", "CHUNKING") as server:
        slow = ours(csmtplib.SMTP, server, pipelining=False)
        fast = ours(csmtplib.SMTP, server, pipelining=True, chunking=True)
    assert_same(slow, fast, vars(behaviour).values())


@pytest.mark.parametrize(
    "behaviour",
    [GOOD, replace(GOOD, rcpt1="550"), replace(GOOD, mail="550"), replace(GOOD, content="550")],
    ids=str,
)
@pytest.mark.parametrize("chunking", [False, True])
def test_audit_is_what_leaves(behaviour: Behaviour, chunking: bool) -> None:
    """An event for each command and message, in their order."""
    extensions = ["PIPELINING", *["CHUNKING"] * chunking]
    with served(behaviour, 1, *extensions) as server:
        smtp = csmtplib.SMTP(server.host, server.port, "client.test", timeout=TIMEOUT)
        smtp.chunking = chunking
        with audit.recording() as events:
            smtp.ehlo()
            end_of(lambda: smtp.sendmail(SENDER, RECIPIENTS, BODY))
        smtp.close()
        assert b"".join(events).lower() == server.received.lower()


LMTP_ANSWERS = ["250", "251", "421", "450", "550", "garbage", CLOSE, CUT]


def lmtp_finals(accepted: int) -> Iterator[list[str]]:
    """Return the answers that a server may give to the message, for so many recipients."""
    for finals in product(LMTP_ANSWERS, repeat=accepted):
        # Behind the end there is nothing, whatever it would be.
        if not {"421", CLOSE, CUT}.intersection(finals[:-1]) or finals[-1] == "250":
            yield list(finals)


@pytest.mark.parametrize(
    ("rcpt1", "rcpt2", "finals"),
    [
        pytest.param(rcpt1, rcpt2, finals, id=" ".join([rcpt1, rcpt2, *finals]))
        for rcpt1, rcpt2 in product(["250", "550"], ["250", "450"])
        for finals in lmtp_finals([rcpt1, rcpt2].count("250"))
    ],
)
def test_lmtp(rcpt1: str, rcpt2: str, finals: list[str]) -> None:
    behaviour = replace(GOOD, rcpt1=rcpt1, rcpt2=rcpt2)
    with served(behaviour, 2, "PIPELINING", lmtp=finals) as server:
        slow = ours(csmtplib.LMTP, server, pipelining=False)
        fast = ours(csmtplib.LMTP, server, pipelining=True)
    assert_same(slow, fast, finals)
