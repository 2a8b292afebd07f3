"""bulk/sender.py and what it is made of (driver, run, ...): campaigns into servers that have
limits."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from csmtplib import bulk
from csmtplib.bulk import (
    BulkSender,
    Delivery,
    Job,
    Journal,
    JournalError,
    Rate,
    Retry,
    RunRefused,
)
from csmtplib.bulk.driver import Driver
from csmtplib.bulk.journal_view import JournalView
from csmtplib.protocol.mail_object import MailObject
from csmtplib.protocol.outcome import State

from ..faults.server import Peer, ScriptedServer
from ..interrupting import ByStep
from ..requirements import needs_reference_counts
from .servers.throttling import Connection, ThrottlingServer

BODY = b"hello\r\n.\r\n" * 10
SOON = Retry(first=0.05, longest=0.4, give_up=30, jitter=0.1)


def job(number: int, *recipients: str) -> Job:
    head = b"From: a@x.test\r\nSubject: %d\r\n\r\n" % number
    to = recipients or (f"b{number}@y.test",)
    return Job(f"job {number}", MailObject("a@x.test", to, (head, BODY)))


def jobs(count: int) -> Iterator[Job]:
    return map(job, range(count))


def sender(server: ThrottlingServer | ScriptedServer, **options: Any) -> BulkSender:
    url = f"smtp://{server.host if isinstance(server, ScriptedServer) else '127.0.0.1'}"
    options.setdefault("connections", 4)
    options.setdefault("retry", SOON)
    return BulkSender(f"{url}:{server.port}?name=client.test&timeout=10", **options)


def send(using: BulkSender, items: Iterable[object]) -> list[Delivery]:
    with using:
        return list(using.send(items))


def states(deliveries: Iterable[Delivery]) -> Counter[State]:
    return Counter(each.state for each in deliveries)


def all_once(server: ThrottlingServer, count: int) -> bool:
    """Whether each of so many recipients has got exactly one message, and its own."""
    own = all(
        b"\r\nSubject: %b\r\n" % each.recipients[0].partition("@")[0][1:].encode() in each.message
        and each.message.endswith(BODY)
        for each in server.log.accepted
    )
    everyone = Counter(f"b{number}@y.test" for number in range(count))
    return own and server.log.deliveries() == everyone


@pytest.mark.parametrize("chunking", [True, False], ids=["chunking", "data"])
@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "sequential"])
def test_a_campaign(pipelining: bool, chunking: bool) -> None:
    with ThrottlingServer(pipelining=pipelining, chunking=chunking) as server:
        using = sender(server)
        told = send(using, jobs(500))
    assert all_once(server, 500)
    assert {each.key for each in told} == {f"job {number}" for number in range(500)}
    one = next(each for each in told if each.key == "job 7")
    assert (one.recipient, one.state, one.attempts) == ("b7@y.test", State.ACCEPTED, 1)
    assert (one.code, one.enhanced, one.text) == (250, "2.0.0", "2.0.0 ok")
    assert one.host == f"127.0.0.1:{server.port}"
    assert abs(one.time - time.time()) < 60
    assert 1 <= len(server.log.connections) <= 4
    assert (using.status.taken, using.status.accepted, using.status.queued) == (500, 500, 0)


def test_all_connections_are_used() -> None:
    with ThrottlingServer() as server:
        send(sender(server), jobs(5000))
    assert [each.messages > 100 for each in server.log.connections] == [True] * 4


def test_what_is_a_job() -> None:
    message = EmailMessage()
    message["From"], message["To"] = "a@x.test", "c@y.test, d@y.test"
    items: list[object] = [("a@x.test", "b@y.test", b"x"), message, 42, ("a@x.test", [], b"x")]
    with ThrottlingServer() as server:
        told = send(sender(server), items)
    found = {(each.key, each.recipient): (each.state, each.text) for each in told}
    assert found[1, "b@y.test"][0] is State.ACCEPTED
    assert found[2, "c@y.test"][0] is found[2, "d@y.test"][0] is State.ACCEPTED
    assert found[3, ""][0] is State.REJECTED
    assert "a message is a tuple" in found[3, ""][1]
    assert found[4, ""] == (State.REJECTED, "the message has no recipients")
    assert server.log.deliveries() == Counter(["b@y.test", "c@y.test", "d@y.test"])


def test_what_can_not_be_sent_is_rejected_and_the_others_are_not() -> None:
    def items() -> Iterator[object]:
        yield job(1)
        yield Job("nul", MailObject("a@x.test", "b2@y.test", b"\0"))
        yield Job("injection", MailObject("a@x.test", "b3@y.test\r\nRSET", b"x"))
        yield job(4)

    with ThrottlingServer() as server:
        told = {each.key: each for each in send(sender(server), items())}
    assert "NUL" in told["nul"].text
    assert told["nul"].state is told["injection"].state is State.REJECTED
    assert told["job 1"].state is told["job 4"].state is State.ACCEPTED
    assert len(server.log.accepted) == 2


@pytest.mark.parametrize("with_journal", [True, False], ids=["journal", "none"])
def test_a_key_is_used_once_in_a_run(tmp_path: Path, with_journal: bool) -> None:
    """T12: two messages of one key were both delivered; a journal could not tell them apart."""
    items = [job(1), job(2), job(1), job(2, "b2@y.test", "c2@y.test"), job(3)]
    with ThrottlingServer() as server:
        if with_journal:
            with Journal(tmp_path / "j") as journal:
                told = send(sender(server, journal=journal), items)
        else:
            told = send(sender(server), items)
    assert server.log.deliveries() == Counter(["b1@y.test", "b2@y.test", "b3@y.test"])
    refused = [each for each in told if each.state is State.REJECTED]
    assert [(each.key, each.recipient) for each in refused] == [
        ("job 1", "b1@y.test"),
        ("job 2", "b2@y.test"),
        ("job 2", "c2@y.test"),
    ]
    assert all("is that of a message before" in each.text for each in refused)
    assert len(told) == 6


def test_keys_that_are_numbers_and_messages_that_get_a_number() -> None:
    """T12: a key may be the number of a message without one."""
    plain = ("a@x.test", "b@y.test", BODY)
    to_c, to_d = (Job(key, MailObject("a@x.test", "c@y.test", BODY)) for key in (2, 9))
    with ThrottlingServer() as server:
        # 1, 2, none, 2 again, 9, 6, and 7 for one more; the numbers count what is taken.
        told = send(sender(server), [plain, plain, "no message", to_c, to_d, plain, plain])
        told += send(sender(server), [to_c, plain, plain])
    assert Counter((each.key, each.state) for each in told) == Counter(
        [(key, State.ACCEPTED) for key in (1, 2, 9, 6, 7)]
        + [(3, State.REJECTED), (2, State.REJECTED)]
        + [(2, State.ACCEPTED), (2, State.REJECTED), (3, State.ACCEPTED)]
    )


def test_recipients_have_their_own_results() -> None:
    def refuse(recipient: str) -> str | None:
        return "550 5.1.1 who?" if recipient.startswith("no") else None

    with ThrottlingServer(refuse=refuse) as server:
        told = send(sender(server), [job(1, "yes@y.test", "no@y.test", "yes@z.test")])
    assert {each.recipient: each.code for each in told} == {
        "yes@y.test": 250,
        "no@y.test": 550,
        "yes@z.test": 250,
    }
    assert len(server.log.accepted) == 1


def test_a_suppression_list() -> None:
    with ThrottlingServer() as server:
        using = sender(server, suppress={"b1@y.test"})
        items = [job(1, "B1@y.test"), job(2), job(3, "b1@y.test", "b3@y.test")]
        told = send(using, items)
    assert sorted(each.recipient for each in told) == ["b2@y.test", "b3@y.test"]
    assert (using.status.suppressed, using.status.taken) == (2, 2)
    assert "B1@y.test" not in server.log.attempts


def test_connections_are_left_before_the_server_ends_them() -> None:
    with ThrottlingServer() as server:
        told = send(sender(server, max_per_connection=7), jobs(100))
    assert states(told) == {State.ACCEPTED: 100}
    assert max(each.messages for each in server.log.connections) == 7
    assert not server.log.refusals


def test_connections_that_are_too_old_are_left() -> None:
    def slowly() -> Iterator[Job]:
        for number in range(20):
            time.sleep(0.02)
            yield job(number)

    with ThrottlingServer() as server:
        send(sender(server, connections=1, max_connection_seconds=0.1), slowly())
    assert 2 <= len(server.log.connections) <= 20
    assert all_once(server, 20)


def test_the_number_after_which_the_server_closes_is_learnt() -> None:
    with ThrottlingServer(messages_per_connection=10) as server:
        told = send(sender(server), jobs(400))
    assert states(told) == {State.ACCEPTED: 400}
    assert all_once(server, 400)
    # Each that was open by then has to find out.
    assert len(server.log.refusals) <= 8


@pytest.mark.parametrize("unknown", [False, True], ids=["", "unknown recipients"])
@pytest.mark.parametrize("chunking", [True, False], ids=["chunking", "data"])
@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "sequential"])
def test_a_session_that_is_spent_and_stays_open(
    pipelining: bool, chunking: bool, unknown: bool
) -> None:
    """T8: OpenSMTPD says 452 to each MAIL after a hundred messages, and keeps the connection."""

    def refuse(recipient: str) -> str | None:
        is_unknown = unknown and recipient.partition("@")[0].endswith("7")
        return "550 5.1.1 who?" if is_unknown else None

    with ThrottlingServer(
        mails_per_connection=100, refuse=refuse, pipelining=pipelining, chunking=chunking
    ) as server:
        using = sender(server, connections=8)
        began = time.monotonic()
        told = send(using, jobs(3000))
        took = time.monotonic() - began
    assert took < 30
    assert len(told) == 3000
    assert states(told)[State.ACCEPTED] == (2700 if unknown else 3000)
    assert {each.attempts for each in told} == {1}
    assert set(server.log.deliveries().values()) == {1}
    # No more than it takes, and those that were open while the number was not known.
    assert len(server.log.connections) <= 27 + 8 + 8
    assert using._pool.limit == 8
    assert "it takes 100 messages per connection" in using.learned


def test_a_limit_of_connections() -> None:
    with ThrottlingServer(max_connections=2) as server:
        told = send(sender(server, connections=8), jobs(3000))
    assert states(told) == {State.ACCEPTED: 3000}
    assert all_once(server, 3000)
    greetings = [each for each in server.log.refusals if not each.command]
    assert 1 <= len(greetings) <= 12


def test_greylisting() -> None:
    with ThrottlingServer(greylist_seconds=0.2) as server:
        told = send(sender(server), jobs(60))
    assert states(told) == {State.ACCEPTED: 60}
    assert all_once(server, 60)
    assert {each.attempts for each in told} <= {2, 3, 4, 5}
    # Each with a wait that grows.
    assert max(map(len, server.log.attempts.values())) <= 5
    for times in server.log.attempts.values():
        assert times[1] - times[0] > 0.045


def test_what_is_refused_to_the_end_is_given_up() -> None:
    with ThrottlingServer(greylist_seconds=60) as server:
        using = sender(server, retry=Retry(first=0.05, longest=0.05, give_up=0.2))
        told = send(using, jobs(3))
    assert states(told) == {State.REJECTED: 3}
    for each in told:
        assert each.code == 451
        assert each.text.endswith(f"; given up after {each.attempts} attempts")
        assert each.attempts == len(server.log.attempts[each.recipient]) > 2
    assert using.status.waiting == using.status.queued == 0


def test_recipients_that_are_too_many_for_a_transaction() -> None:
    names = [f"b{number}@y.test" for number in range(25)]
    with ThrottlingServer(recipients_per_transaction=10) as server:
        told = send(sender(server), [job(1, *names)])
    assert states(told) == {State.ACCEPTED: 25}
    assert server.log.deliveries() == Counter(names)
    assert len(server.log.accepted) == 3


def test_a_server_that_ends_idle_sessions() -> None:
    def with_pauses() -> Iterator[Job]:
        for number in range(9):
            if number % 3 == 0:
                time.sleep(0.4)
            yield job(number)

    with ThrottlingServer(idle_seconds=0.2) as server:
        told = send(sender(server), with_pauses())
    assert states(told) == {State.ACCEPTED: 9}
    assert all_once(server, 9)
    assert all(each.attempts == 1 for each in told)


@pytest.mark.parametrize("at", ["mail", "content"])
def test_a_server_that_limits_the_rate_is_not_hammered(at: Any) -> None:
    with ThrottlingServer(rate_limit=(20, 0.5), rate_limit_at=at) as server:
        told = send(sender(server), jobs(60))
    assert states(told) == {State.ACCEPTED: 60}
    assert all_once(server, 60)
    # Many times as many could have been made in that time.
    assert len(server.log.refusals) < 200


def test_the_total_rate_is_kept() -> None:
    with ThrottlingServer() as server:
        began = time.monotonic()
        told = send(sender(server, rate=Rate(100)), jobs(60))
        took = time.monotonic() - began
    assert states(told) == {State.ACCEPTED: 60}
    # A tenth of a second's worth at once, and what the clocks of two threads may differ by.
    assert server.log.busiest(0.2) <= 20 + 11 + 5
    assert took > 0.4


def test_rates_of_domains_are_kept_and_do_not_slow_the_others() -> None:
    names = [f"b{number}@{domain}" for number in range(20) for domain in ("slow.test", "fast.test")]
    with ThrottlingServer() as server:
        limits = {"slow.test": Rate(40), "*": Rate(10_000)}
        using = sender(server, domain_rates=limits)
        told = send(using, (job(number, name) for number, name in enumerate(names)))
    assert states(told) == {State.ACCEPTED: 40}
    slow = [each.time for each in server.log.accepted if "slow" in each.recipients[0]]
    fast = [each.time for each in server.log.accepted if "fast" in each.recipients[0]]
    assert slow[-1] - slow[0] > 0.3
    assert fast[-1] < slow[10]


def refused_run(using: BulkSender, count: int) -> tuple[RunRefused, list[Delivery]]:
    """A run that the server refuses: how, and its results."""
    told: list[Delivery] = []

    def run() -> None:
        for each in using.send(jobs(count)):
            told.append(each)

    with using, pytest.raises(RunRefused) as caught:
        run()
    assert using.status.stopped == str(caught.value)
    return caught.value, told


@pytest.mark.parametrize("at", ["mail", "rcpt"])
@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "sequential"])
def test_a_login_that_was_forgotten(pipelining: bool, at: str, tmp_path: Path) -> None:
    """T10: 530 to everything burns no recipient, and another run sends to all."""
    said = "530 5.7.0 Authentication required"
    refuse: Any = {"mail": {"refuse_mail": lambda *_: said}, "rcpt": {"refuse": lambda _: said}}
    with Journal(tmp_path / "j") as journal:
        with ThrottlingServer(pipelining=pipelining, **refuse[at]) as server:
            using = sender(server, journal=journal)
            error, told = refused_run(using, 2000)
            assert error.needs_login
            assert said in str(error)
        assert states(told).keys() == {State.DEFERRED}
        assert using.status.rejected == using.status.waiting == 0
        assert set(journal.counts()) == {"queued"}
        assert len(server.log.refusals) < 100
    with Journal(tmp_path / "j") as journal:
        with ThrottlingServer() as server:
            told = send(sender(server, journal=journal), jobs(2000))
        assert states(told) == {State.ACCEPTED: 2000}
        assert {each.attempts for each in told} == {1}
        assert journal.counts() == {"accepted": 2000}
    assert all_once(server, 2000)


def test_an_account_whose_quota_is_used_up(tmp_path: Path) -> None:
    """T10's kind: from some message on, each MAIL is refused, whatever the connection."""
    counter = itertools.count()
    refuse = lambda *_: "550 5.7.1 daily quota exceeded" if next(counter) >= 300 else None  # noqa: E731
    with Journal(tmp_path / "j") as journal:
        with ThrottlingServer(refuse_mail=refuse) as server:
            error, told = refused_run(sender(server, journal=journal), 2000)
        assert "daily quota exceeded" in str(error)
        assert states(told)[State.ACCEPTED] == len(server.log.accepted) == 300
        assert journal.counts().keys() == {"accepted", "queued"}


def test_a_number_of_messages_that_is_told_for_good() -> None:
    """T8's kind: by 5yz. A fresh connection shows that it was for that one."""

    def refuse(_: str, connection: Connection) -> str | None:
        return "554 5.7.0 enough in this session" if connection.messages >= 20 else None

    with ThrottlingServer(refuse_mail=refuse) as server:
        told = send(sender(server), jobs(400))
    assert states(told) == {State.ACCEPTED: 400}
    assert all_once(server, 400)


def test_a_sender_that_is_not_allowed_among_others() -> None:
    """T10: that is about its messages, and the others are sent."""

    def items() -> Iterator[Job]:
        for number in range(500):
            domain = "bad.test" if number % 5 == 3 else "x.test"
            mail = MailObject(f"a@{domain}", f"b{number}@y.test", b"Subject: x\r\n\r\nx\r\n")
            yield Job(number, mail)

    refuse = lambda by, _: "550 5.7.1 not your address" if "bad" in by else None  # noqa: E731
    with ThrottlingServer(refuse_mail=refuse) as server:
        told = send(sender(server), items())
    assert states(told) == {State.ACCEPTED: 400, State.REJECTED: 100}
    assert {each.key for each in told if each.state is State.REJECTED} == set(range(3, 500, 5))
    assert {each.attempts for each in told} == {1}
    # How often a few refusals in a row make it look as if they were the session's is chance.
    assert len(server.log.connections) <= 4 + 20


@pytest.mark.parametrize(
    "options",
    [
        {"connections": 1},
        {"connections": 4},
        {"connections": 12},
        {"connections": 2, "max_per_connection": 5},
    ],
    ids=str,
)
@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "sequential"])
@pytest.mark.parametrize("bad", ["a@bad.test", "b@x.test"], ids=["domain", "address"])
@pytest.mark.parametrize("with_journal", [True, False])
def test_a_sender_that_is_not_allowed_and_has_the_first_messages(
    options: dict[str, int], pipelining: bool, bad: str, with_journal: bool, tmp_path: Path
) -> None:
    """T10: their messages are refused for their sender, also where those of others come later."""
    senders = [bad] * 150 + ["a@x.test"] * 50 + [bad] * 50 + ["a@x.test", bad] * 50

    def items() -> Iterator[Job]:
        for number, each in enumerate(senders):
            yield Job(number, MailObject(each, f"b{number}@y.test", b"Subject: x\r\n\r\nx\r\n"))

    refuse = lambda by, _: "550 5.7.1 not your address" if by == bad else None  # noqa: E731
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(Journal(tmp_path / "j")) if with_journal else None
        server = stack.enter_context(ThrottlingServer(pipelining=pipelining, refuse_mail=refuse))
        using = sender(server, journal=journal, **options)
        told = send(using, items())
        if journal is not None:
            assert journal.counts() == {"accepted": 100, "rejected": 250}
    assert {each.key for each in told if each.state is State.REJECTED} == {
        number for number, each in enumerate(senders) if each == bad
    }
    assert states(told) == {State.ACCEPTED: 100, State.REJECTED: 250}
    assert {each.attempts for each in told} == {1}
    assert len(server.log.accepted) == 100
    assert using.status.stopped is None
    # Each was tried once, and some once more, as their connection seemed to be spent.
    assert len(server.log.refusals) < 300


def test_many_senders_that_are_not_allowed() -> None:
    """So many different ones are not to blame each."""

    def items() -> Iterator[Job]:
        for number in itertools.count():
            yield Job(number, MailObject(f"a@x{number % 30}.test", f"b{number}@y.test", b"x"))

    with ThrottlingServer(refuse_mail=lambda *_: "550 5.7.1 not you") as server:
        with sender(server, connections=1) as using, pytest.raises(RunRefused):
            list(using.send(items()))
        assert using.status.rejected == 0
    assert len(server.log.refusals) < 50


@pytest.mark.parametrize("end", [math.inf, 300])
def test_messages_of_other_senders_are_looked_for_up_to_a_bound(end: float, tmp_path: Path) -> None:
    taken = 0

    def items() -> Iterator[Job]:
        nonlocal taken
        while taken < end:
            taken += 1
            yield job(taken)

    with (
        Journal(tmp_path / "j") as journal,
        ThrottlingServer(refuse_mail=lambda *_: "550 5.7.1 not you") as server,
        sender(server, journal=journal, max_waiting=500) as using,
    ):
        told: list[Delivery] = []

        def run() -> None:
            for each in using.send(items()):
                told.append(each)

        with pytest.raises(RunRefused, match=r"550 5\.7\.1 not you; it would refuse every message"):
            run()
        assert states(told) == {State.DEFERRED: taken}
        assert journal.counts().keys() == {"queued"}
    assert len({each.key for each in told}) == taken
    assert taken == 300 if end == 300 else 500 <= taken < 600
    assert len(server.log.refusals) < 100


def test_messages_of_other_senders_are_looked_for_only_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("csmtplib.bulk.holding._SEARCH_SECONDS", 0.2)

    def slowly() -> Iterator[Job]:
        for number in range(1000):
            yield job(number)
            if number > 20:
                time.sleep(0.01)

    with ThrottlingServer(refuse_mail=lambda *_: "550 5.7.1 not you") as server:
        with sender(server, connections=1) as using, pytest.raises(RunRefused):
            list(using.send(slowly()))
        assert using.status.taken < 500


def test_the_only_message_is_refused_at_mail(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        with ThrottlingServer(refuse_mail=lambda *_: "550 5.7.1 not you") as server:
            error, told = refused_run(sender(server, journal=journal), 1)
        assert not error.needs_login
        assert (states(told), journal.counts()) == ({State.DEFERRED: 1}, {"queued": 1})


def test_the_first_results_are_all_the_same_refusal(tmp_path: Path) -> None:
    """T10's kind: relaying is denied, to one recipient after the other."""
    with Journal(tmp_path / "j") as journal:
        with ThrottlingServer(refuse=lambda _: "554 5.7.1 Relay access denied") as server:
            error, told = refused_run(sender(server, journal=journal), 10_000)
        assert error.rejected == 50
        assert "the same refusal" in str(error)
        rejected = states(told)[State.REJECTED]
        assert 50 <= rejected < 1000
        assert journal.counts()["rejected"] == rejected
        assert journal.counts().keys() <= {"rejected", "queued"}


def test_a_run_that_fails_too_often_is_stopped() -> None:
    with ThrottlingServer(refuse=lambda _: "550 5.7.1 no") as server:
        using = sender(server, max_failed=10)
        told = send(using, jobs(10_000))
    assert 10 <= states(told)[State.REJECTED] < 200
    assert using.status.stopped is not None
    assert "were rejected" in using.status.stopped
    assert states(told).keys() <= {State.REJECTED, State.DEFERRED}
    left = [each for each in told if each.state is State.DEFERRED]
    assert all(each.text == using.status.stopped for each in left)


def test_a_share_of_failures_stops_it_too() -> None:
    counter = itertools.count()
    refuse = lambda _: "550 no" if next(counter) % 3 == 0 else None  # noqa: E731
    with ThrottlingServer(refuse=refuse) as server:
        using = sender(server, max_failed=0.25)
        told = send(using, jobs(10_000))
    assert using.status.stopped is not None
    assert 100 <= len(told) < 2000


def test_stopping() -> None:
    with ThrottlingServer() as server, sender(server) as using:
        told = []
        for each in using.send(jobs(100_000)):
            told.append(each)
            if len(told) == 100:
                using.stop("enough")
    accepted = [each for each in told if each.state is State.ACCEPTED]
    assert len(accepted) == len(server.log.accepted) >= 100
    left = [each for each in told if each.state is State.DEFERRED]
    assert all(each.text == "enough" for each in left)
    assert len(told) == len(accepted) + len(left) == using.status.taken < 5000


@pytest.mark.parametrize("with_journal", [True, False], ids=["journal", ""])
@pytest.mark.parametrize("ends", [True, False], ids=["all has left", "half has left"])
@pytest.mark.parametrize("before", [True, False], ids=["twice", "once"])
def test_stopping_at_once(before: bool, ends: bool, with_journal: bool, tmp_path: Path) -> None:
    """T1: the second Ctrl-C is acted on between two turns: what becomes of every message is known,
    and nothing is raised."""
    using: BulkSender

    def script(peer: Peer) -> None:
        peer.greet()
        peer.expect("MAIL")
        peer.say("250 ok")
        peer.expect("RCPT")
        peer.say("250 ok")
        peer.expect("DATA")
        if ends:
            peer.say("354 go on")
            peer.read_body()
        if before:
            using.stop("enough")
        using.stop("at once", at_once=True)
        peer.expect_close()

    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(Journal(tmp_path / "j")) if with_journal else None
        server = stack.enter_context(ScriptedServer(script))
        using = sender(server, connections=1, max_in_flight=1, journal=journal)
        told = send(using, jobs(3))
        if ends:
            first = told.pop(0)
            assert (first.key, first.state) == ("job 0", State.IN_DOUBT)
            assert first.text == using.status.stopped == ("enough" if before else "at once")
        assert set(states(told)) <= {State.DEFERRED}
        if journal is not None:
            counts = journal.counts()
            assert counts.pop("in doubt", 0) == ends
            assert set(counts) <= {"queued"}
    assert using._stop.reason is None
    assert not using._stop.at_once


@needs_reference_counts
def test_leaving_the_loop_brings_to_an_end_what_is_under_way(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        with ThrottlingServer() as server, sender(server, journal=journal) as using:
            for number, _ in enumerate(using.send(jobs(100_000))):
                if number == 100:
                    break
        assert journal.counts()["accepted"] == len(server.log.accepted)
        assert set(journal.counts()) <= {"accepted", "queued"}


@pytest.mark.parametrize(
    ("options", "seconds", "most"),
    [
        ({"pipelining": False}, 0.005, 10),
        ({"pipelining": False}, 0.0, 10),
        # Two on each connection, and what leaves in a moment.
        ({"chunking": False}, 0.005, 40),
        ({}, 0.005, 10 * 8 + 10),
    ],
    ids=["sequential, slow", "sequential", "pipelining, slow", "chunking, slow"],
)
def test_only_what_can_leave_next_is_recorded_as_sending(
    options: dict[str, Any], seconds: float, most: int, tmp_path: Path
) -> None:
    """T13: what a kill -9 leaves in doubt is what stands in the journal as sending on disk."""
    sending: list[int] = []

    def look(_: str) -> None:
        time.sleep(seconds)
        with JournalView(tmp_path / "j") as view:
            sending.append(view.counts().get("sending", 0))

    with Journal(tmp_path / "j") as journal:
        with ThrottlingServer(refuse=look, **options) as server:
            using = sender(server, connections=10, max_in_flight=8, journal=journal)
            told = send(using, jobs(400))
        assert journal.counts() == {"accepted": 400}
    assert states(told) == {State.ACCEPTED: 400}
    assert 1 <= max(sending) <= most
    assert len(server.log.connections) == 10


def test_only_what_the_rate_allows_is_recorded_as_sending(tmp_path: Path) -> None:
    """T13's kind."""
    sending: list[int] = []

    def look(_: str) -> None:
        with JournalView(tmp_path / "j") as view:
            sending.append(view.counts().get("sending", 0))

    with Journal(tmp_path / "j") as journal, ThrottlingServer(refuse=look) as server:
        told = send(sender(server, connections=10, rate=Rate(40), journal=journal), jobs(60))
    assert states(told) == {State.ACCEPTED: 60}
    # A tenth of a second's worth at once, and those of the next turn.
    assert max(sending) <= 5 + 2 + 5


def test_nothing_is_recorded_where_there_is_no_connection(tmp_path: Path) -> None:
    """T13's kind: a server that is not there leaves nothing in doubt."""
    with Journal(tmp_path / "j") as journal:
        using = BulkSender("smtp://127.0.0.1:1", journal=journal)
        with using, pytest.raises(ConnectionRefusedError):
            list(using.send(jobs(50)))
        assert journal.counts() == {}


def test_a_journal_of_the_first_version_resumes(version_1: Path) -> None:
    def to(key: str | int) -> Job:
        return Job(key, MailObject("a@x.test", f"b{key}@y.test", b"Subject: x\r\n\r\nx\r\n"))

    with ThrottlingServer() as server, sender(server, journal=str(version_1)) as using:
        told = list(using.send([to(key) for key in (1, "2", 3, 4, 5)]))
    assert {each.key: each.attempts for each in told} == {"2": 3, 4: 1, 5: 1}
    assert (using.status.completed_before, using.status.in_doubt_before) == (1, 1)
    assert server.log.deliveries() == Counter(["b2@y.test", "b4@y.test", "b5@y.test"])
    with Journal(version_1) as journal:
        assert journal.counts() == {"accepted": 4, "in doubt": 1}


def test_rates_and_journals_as_text(tmp_path: Path) -> None:
    path = tmp_path / "may.journal"
    for journal in (str(path), path):
        with (
            ThrottlingServer() as server,
            sender(server, rate="1000/s", domain_rates={"*": "60000/m"}, journal=journal) as using,
        ):
            list(using.send(jobs(3)))
            assert using.settings.rate == Rate(1000)
            assert using.settings.domain_rates == {"*": Rate(60_000, 60)}
            with pytest.raises(JournalError, match="in use"):
                Journal(path)
        with Journal(path) as found:
            assert found.counts() == {"accepted": 3}
    assert BulkSender("smtp://127.0.0.1:1", domain_rates="10/m").settings.domain_rates == Rate(
        10, 60
    )


def test_a_journal_of_the_callers_stays_open(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        sender_of_journal = BulkSender("smtp://127.0.0.1:1", journal=journal)
        sender_of_journal.close()
        assert journal.counts() == {}


def test_messages_that_can_not_be_made_end_the_run() -> None:
    def items() -> Iterator[Job]:
        yield from jobs(20)
        raise LookupError("no more")

    told: list[Delivery] = []

    def run(using: BulkSender) -> None:
        for each in using.send(items()):
            told.append(each)

    with (
        ThrottlingServer() as server,
        sender(server) as using,
        pytest.raises(LookupError, match="no more"),
    ):
        run(using)
    assert states(told)[State.ACCEPTED] == len(server.log.accepted)
    assert len(told) == using.status.taken == 20


def test_messages_are_taken_as_they_are_needed() -> None:
    taken = 0

    def items() -> Iterator[Job]:
        nonlocal taken
        for each in jobs(100_000):
            taken += 1
            yield each

    with ThrottlingServer() as server, sender(server) as using:
        told = using.send(items())
        for _ in range(10):
            next(told)
        # At most what may be under way on each connection.
        assert taken <= 10 + 4 * 100
        told.close()


def test_a_message_is_sent_while_the_next_one_is_long_in_coming() -> None:
    came: list[float] = []

    def items() -> Iterator[Job]:
        for number in range(4):
            time.sleep(0.15)
            came.append(time.monotonic())
            yield job(number)

    with ThrottlingServer() as server:
        send(sender(server), items())
    # Each but the first, for which the connection had to be opened.
    for accepted, following in zip(server.log.accepted[1:3], came[2:4], strict=True):
        assert accepted.time < following


@pytest.mark.parametrize(
    "limits",
    [
        {"greylist_seconds": 0.5},
        {"rate_limit": (5, 0.5)},
        {"refuse": lambda _: time.sleep(0.02)},
    ],
    ids=["greylisting", "rate", "slow"],
)
@pytest.mark.parametrize("rate", [None, Rate(50)], ids=["", "paced"])
def test_waiting_is_no_work(
    limits: dict[str, Any], rate: Rate | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0
    turn = Driver.turn

    def counted(driver: Driver) -> bool:
        nonlocal turns
        turns += 1
        return turn(driver)

    monkeypatch.setattr(Driver, "turn", counted)
    with ThrottlingServer(**limits) as server:
        using = sender(server, retry=Retry(first=0.7), domain_rates=rate)
        assert states(send(using, jobs(20))) == {State.ACCEPTED: 20}
    # It takes some seconds, of which each message and each twentieth of a second may have a few.
    assert turns < 1000


def test_only_one_run_at_a_time() -> None:
    with ThrottlingServer() as server, sender(server) as using:
        first = using.send(jobs(100))
        next(first)
        with pytest.raises(RuntimeError, match="already running"):
            next(using.send(jobs(1)))
        assert len(list(first)) == 99


def test_an_interrupt_while_a_run_begins_leaves_none_behind() -> None:
    """Ctrl-C at each step of send() up to the first message."""

    def is_interrupted_at(step: int) -> bool:
        using = BulkSender("smtp://127.0.0.1:1")
        interrupter = ByStep(step, bulk.__path__)
        with contextlib.suppress(KeyboardInterrupt), interrupter:
            list(using.send([]))
        # The next run is not refused.
        assert list(using.send([])) == []
        return interrupter.has_interrupted

    assert sum(1 for _ in itertools.takewhile(is_interrupted_at, itertools.count(1))) > 10


def test_connections_are_used_again_by_the_next_run() -> None:
    with ThrottlingServer() as server, sender(server, connections=1) as using:
        for number in range(5):
            assert states(using.send([job(number)])) == {State.ACCEPTED: 1}
    assert len(server.log.connections) == 1


def test_a_server_that_is_not_there() -> None:
    with ThrottlingServer() as server:
        pass
    using = sender(server)
    told: list[Delivery] = []
    with using, pytest.raises(ConnectionRefusedError):
        told.extend(using.send(jobs(5)))
    assert all(each.state is State.DEFERRED for each in told)


def test_a_connection_that_is_lost_before_the_end_of_a_message() -> None:
    """Nothing has been delivered, and another connection brings it."""

    def lose(peer: Peer) -> None:
        peer.greet()
        peer.expect("MAIL")
        peer.close()

    def take(peer: Peer) -> None:
        peer.greet()
        peer.expect("MAIL")
        peer.say("250 ok")
        peer.expect("RCPT")
        peer.say("250 ok")
        peer.expect("DATA")
        peer.say("354 go on")
        peer.read_body()
        peer.say("250 ok")
        peer.expect("QUIT")
        peer.say("221 bye")

    with ScriptedServer(lose, take) as server:
        told = send(sender(server, connections=1), [job(1)])
    assert states(told) == {State.ACCEPTED: 1}
    assert told[0].attempts == 1


def after_the_end(peer: Peer) -> None:
    """A server that is gone when it should answer to a message."""
    peer.greet()
    peer.expect("MAIL")
    peer.say("250 ok")
    peer.expect("RCPT")
    peer.say("250 ok")
    peer.expect("DATA")
    peer.say("354 go on")
    peer.read_body()
    peer.close()


def test_what_is_in_doubt_is_not_sent_again() -> None:
    with ScriptedServer(after_the_end) as server:
        using = sender(server, connections=1)
        told = send(using, [job(1)])
    assert states(told) == {State.IN_DOUBT: 1}
    assert using.status.in_doubt == 1


def test_what_is_in_doubt_is_sent_again_when_that_is_wanted() -> None:
    bodies = []

    def take(peer: Peer) -> None:
        after = peer
        after.greet()
        for command in ("MAIL", "RCPT"):
            peer.expect(command)
            peer.say("250 ok")
        peer.expect("DATA")
        peer.say("354 go on")
        bodies.append(peer.read_body())
        peer.say("250 ok")
        peer.expect("QUIT")
        peer.say("221 bye")

    with ScriptedServer(after_the_end, take) as server:
        told = send(sender(server, connections=1, in_doubt="resend"), [job(1)])
    assert states(told) == {State.ACCEPTED: 1}
    assert told[0].attempts == 2


def test_a_message_that_has_the_server_close_is_not_tried_for_ever() -> None:
    def lose(peer: Peer) -> None:
        peer.greet()
        peer.expect("MAIL")
        peer.close()

    with ScriptedServer(*[lose] * 3) as server:
        using = sender(server, connections=1, retry=Retry(first=1, give_up=0))
        told = send(using, [job(1)])
    assert states(told) == {State.REJECTED: 1}


def test_another_thread_may_stop_it() -> None:
    with ThrottlingServer(greylist_seconds=60) as server:
        using = sender(server, retry=Retry(first=30))
        timer = threading.Timer(0.3, using.stop, ["from outside"])
        timer.start()
        told = send(using, jobs(3))
        timer.join()
    assert states(told) == {State.DEFERRED: 3}
    # T23: with what the server has said.
    assert {each.code for each in told} == {451}
    assert {each.text for each in told} == {"4.7.1 greylisted, try again later; from outside"}


@needs_reference_counts
def test_results_that_are_never_asked_for() -> None:
    """T15: nothing was sent, and nothing said so."""
    using = BulkSender("smtp://127.0.0.1:1")
    with pytest.warns(
        RuntimeWarning, match=r"BulkSender\.send\(\) were never asked for, so nothing"
    ):
        using.send(jobs(3))


@pytest.mark.parametrize("item", [job(1), Job(1, job(1).mail), job(1).mail, tuple(job(1).mail)])
def test_one_job_instead_of_several(item: Any) -> None:
    """T15: its parts were taken for jobs."""
    with pytest.raises(TypeError, match="jobs must be an iterable of"):
        BulkSender("smtp://127.0.0.1:1").send(item)
    with pytest.raises(TypeError, match="jobs must be an iterable of messages, not int"):
        BulkSender("smtp://127.0.0.1:1").send(5)  # type: ignore[arg-type]


def test_jobs_with_messages_of_all_kinds() -> None:
    """T26: whatever send() takes as a message, a job takes, too; what is none is told of by key."""
    message = EmailMessage()
    message["From"], message["To"] = "a@x.test", "b@y.test"
    items = [
        Job("message", message),  # type: ignore[arg-type]
        Job("tuple", ("a@x.test", "c@y.test", b"x")),  # type: ignore[arg-type]
        Job("number", 5),  # type: ignore[arg-type]
        Job("recipient", MailObject("a@x.test", [None], b"x")),  # type: ignore[list-item]
        Job(None, MailObject("a@x.test", "e@y.test", b"x")),  # type: ignore[arg-type]
    ]
    with ThrottlingServer() as server:
        told = {each.key: (each.state, each.text) for each in send(sender(server), items)}
    assert told["message"][0] is told["tuple"][0] is State.ACCEPTED
    assert told["number"] == (State.REJECTED, told["number"][1])
    assert "a message is a tuple" in told["number"][1]
    assert "to_addrs must be an address as a str, or a sequence" in told["recipient"][1]
    assert told[None] == (  # type: ignore[index]
        State.REJECTED,
        "key must be an int or a str, not None",
    )
    assert server.log.deliveries() == Counter(["b@y.test", "c@y.test"])


RATE = r'must be a rate, such as "100/s" or Rate\(100\)'


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"connections": "4"}, "connections must be a whole number from 1 to .* not '4'"),
        ({"connections": 1.5}, r"connections must be a whole number from 1 to .* not 1\.5"),
        ({"connections": None}, "connections must be .* not None"),
        ({"connections": True}, "connections must be .* not True"),
        ({"max_in_flight": "x"}, "max_in_flight must be a whole number of at least 1, not 'x'"),
        ({"max_per_connection": 1.5}, "max_per_connection must be .* not 1.5"),
        ({"max_waiting": None}, "max_waiting must be .* not None"),
        ({"max_connection_seconds": "1m"}, "max_connection_seconds must be a number of seconds"),
        ({"max_connection_seconds": Decimal(1)}, "max_connection_seconds must be a number"),
        ({"idle_seconds": None}, "idle_seconds must be a number of seconds above 0, not None"),
        ({"max_failed": "5%"}, "max_failed must be a number above 0; below 1 it is a share, not"),
        ({"rate": 100}, f"rate {RATE}, not 100"),
        ({"rate": b"100/s"}, f"rate {RATE}, not b'100/s'"),
        ({"domain_rates": 100}, f"domain_rates {RATE}, or a mapping of domains to these, not 100"),
        ({"domain_rates": ["x.test"]}, f"domain_rates {RATE}, or a mapping"),
        ({"domain_rates": {"x.test": 5}}, rf"domain_rates\['x.test'\] {RATE}, not 5"),
        ({"domain_rates": {"x.test": None}}, rf"domain_rates\['x.test'\] {RATE}, not None"),
        ({"domain_rates": {5: Rate(5)}}, "a domain in domain_rates must be a str"),
        ({"retry": 60}, r"retry must be a Retry, such as Retry\(first=60\), not 60"),
        ({"retry": Retry}, "retry must be a Retry"),
        ({"suppress": "a@x.test"}, "suppress must be a set of addresses, not 'a@x.test'"),
        ({"suppress": b"a@x.test"}, "suppress must be a set of addresses"),
        pytest.param(
            {"suppress": iter(())}, "suppress must be a set of addresses", id="suppress, iterator"
        ),
        ({"suppress": None}, "suppress must be a set of addresses, not None"),
        ({"journal": 5}, "journal must be a Journal, or the path of one, such as .* not 5"),
        ({"journal": b"x"}, "journal must be a Journal, or the path of one"),
        ({"chunking": "no"}, "chunking must be True or False, not 'no'"),
        ({"server": None}, "server must be a URL such as submission://user@"),
        ({"server": b"smtp://127.0.0.1"}, "server must be a URL such as submission://user@"),
        ({"server": ("127.0.0.1", 25)}, "server must be a URL such as submission://user@"),
    ],
    ids=str,
)
def test_options_of_another_kind(options: dict[str, Any], said: str) -> None:
    """T26: named where they are given, with what to give instead."""
    with pytest.raises(TypeError, match=said):
        BulkSender(**{"server": "smtp://127.0.0.1:1", **options})


@pytest.mark.parametrize("reason", [None, 5, b"x"])
def test_reason_of_another_kind(reason: Any) -> None:
    """T26: it was the text of each Delivery that the run told of."""
    using = BulkSender("smtp://127.0.0.1:1")
    with pytest.raises(TypeError, match="reason must be a str, not "):
        using.stop(reason)
    assert using._stop.reason is None


@pytest.mark.parametrize("suppress", [{"b@x"}, ["b@x"], ("b@x",), {"b@x": 1}, frozenset()])
def test_what_may_hold_addresses(suppress: Any) -> None:
    """T26: whatever tells whether it has one."""
    assert BulkSender("smtp://127.0.0.1:1", suppress=suppress).settings.suppress is suppress


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"connections": 0}, "connections"),
        ({"connections": 100_000}, "connections"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"max_per_connection": 0}, "max_per_connection"),
        ({"max_failed": 0}, "max_failed"),
        ({"idle_seconds": -1}, "idle_seconds"),
        ({"in_doubt": "drop"}, "in_doubt"),
        ({"rate": "fast"}, "'fast' is no rate"),
        ({"domain_rates": {"x.test": "10/w"}}, "'10/w' is no rate"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BulkSender("smtp://127.0.0.1:1", **options)
