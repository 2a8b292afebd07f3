"""bulk/sender.py and its loop (run, intake, answers, fleet): campaigns into servers that have
limits."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from csmtplib.bulk import BulkSender, Delivery, Job, Journal, Rate, Retry
from csmtplib.bulk.run import Run
from csmtplib.protocol.mail_object import MailObject
from csmtplib.protocol.outcome import State

from ..faults.server import Peer, ScriptedServer
from ..requirements import needs_reference_counts
from .servers.throttling import ThrottlingServer

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
@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "lockstep"])
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
    assert found[4, ""] == (State.REJECTED, "the message has no recipient")
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


@needs_reference_counts
def test_leaving_the_loop_brings_to_an_end_what_is_under_way(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        with ThrottlingServer() as server, sender(server, journal=journal) as using:
            for number, _ in enumerate(using.send(jobs(100_000))):
                if number == 100:
                    break
        assert journal.counts()["accepted"] == len(server.log.accepted)
        assert set(journal.counts()) <= {"accepted", "queued"}


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
    turn = Run._turn

    def counted(run: Run) -> None:
        nonlocal turns
        turns += 1
        turn(run)

    monkeypatch.setattr(Run, "_turn", counted)
    with ThrottlingServer(**limits) as server:
        using = sender(server, retry=Retry(first=0.7), domain_rates=rate)
        assert states(send(using, jobs(20))) == {State.ACCEPTED: 20}
    # It takes some seconds, of which each message and each twentieth of a second may have a few.
    assert turns < 1000


def test_only_one_run_at_a_time() -> None:
    with ThrottlingServer() as server, sender(server) as using:
        first = using.send(jobs(100))
        next(first)
        with pytest.raises(RuntimeError, match="one send"):
            next(using.send(jobs(1)))
        assert len(list(first)) == 99


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
    assert {each.text for each in told} == {"from outside"}


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
    ],
)
def test_options_out_of_range(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BulkSender("smtp://127.0.0.1:1", **options)
