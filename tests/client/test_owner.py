"""client/owner.py: one thread at a time."""

from __future__ import annotations

import contextlib
import copy
import itertools
import pickle
from _thread import get_ident
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import csmtplib
from csmtplib.client.owner import LazyOwnerLock, OwnerLock

from ..bulk.servers.logging_sink import LoggingSink, running_logging_sink
from ..drive.talking import in_thread
from ..interrupting import ByStep
from ..protocol.serving import Host
from ..requirements import needs_signals
from .loopback import DEADLINE, Loopback


def elsewhere(function: Callable[[], object]) -> None:
    """Calls a function in another thread, and raises what it raises."""
    with in_thread(function):
        pass


def use(lock: OwnerLock) -> None:
    lock.acquire()
    lock.release()


def read(lock: OwnerLock) -> None:
    lock.begin_step(to_send=False)
    lock.release()


def test_one_thread_at_a_time() -> None:
    lock = OwnerLock()
    lock.acquire()
    assert lock.is_mine
    for call in (lock.acquire, lock.begin_step, lock.check_not_in_use):
        with pytest.raises(RuntimeError, match="in use by another thread"):
            elsewhere(call)
    lock.release()
    assert not lock.is_mine
    elsewhere(lock.check_not_in_use)
    elsewhere(lambda: use(lock))


def test_a_pipeline_is_not_interrupted_by_its_own_thread() -> None:
    lock = OwnerLock()
    lock.acquire()
    assert lock.is_streaming
    for call in (lock.acquire, lock.begin_step, lock.check_not_in_use):
        with pytest.raises(RuntimeError, match=r"in use by send_many\(\)"):
            call()
    lock.release()
    assert not lock.is_streaming


def test_steps_within_a_step() -> None:
    lock = OwnerLock()
    assert not lock.is_within_step
    assert lock.begin_step()
    assert lock.is_within_step
    assert not lock.is_streaming
    assert not lock.begin_step()
    lock.check_not_in_use()
    with pytest.raises(RuntimeError, match="in use by another thread"):
        elsewhere(lock.begin_step)
    lock.release()
    assert lock.begin_step()
    lock.release()


def test_a_lent_connection_is_nobodys_and_not_free() -> None:
    """While send_many() asks for the next message, another thread may drive the connection."""
    lock = OwnerLock()
    lock.acquire()
    lock.is_lent = True
    assert not lock.is_mine
    assert not lock.is_streaming
    with pytest.raises(RuntimeError, match="in use by another thread"):
        lock.acquire()
    lock.is_lent = False
    assert lock.is_streaming


def test_who_waits_for_a_reply_keeps_others_from_sending() -> None:
    lock = OwnerLock()
    lock.asker = get_ident()
    for call in (lock.acquire, lock.begin_step):
        with pytest.raises(RuntimeError, match="in use by another thread"):
            elsewhere(call)
    # Refused, it is as free as before.
    elsewhere(lambda: read(lock))
    lock.acquire()
    lock.release()
    lock.asker = 0
    elsewhere(lambda: use(lock))


def test_a_closed_connection_owes_nothing() -> None:
    lock = OwnerLock()
    lock.awaited_replies = 2
    lock.asker = get_ident()
    lock.forget_replies()
    assert lock.awaited_replies == 0
    elsewhere(lambda: use(lock))


def test_the_lock_is_made_when_it_is_needed() -> None:
    smtp = csmtplib.SMTP.__new__(csmtplib.SMTP)
    assert smtp._lock is smtp._lock
    assert smtp._lock is not csmtplib.SMTP()._lock
    assert isinstance(csmtplib.SMTP._lock, LazyOwnerLock)


def test_several_threads_ask_first() -> None:
    smtp = csmtplib.SMTP()
    locks: list[OwnerLock] = []
    with (
        in_thread(lambda: locks.append(smtp._lock)),
        in_thread(lambda: locks.append(smtp._lock)),
    ):
        locks.append(smtp._lock)
    assert locks == [smtp._lock] * 3


def test_who_was_never_connected_can_be_copied() -> None:
    smtp = csmtplib.SMTP(timeout=3)
    assert copy.deepcopy(smtp).timeout == 3
    assert pickle.loads(pickle.dumps(smtp)).timeout == 3


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoggingSink]:
    with running_logging_sink(tmp_path_factory.mktemp("sink") / "log", chunking=False) as running:
        yield running


def by_commands(smtp: csmtplib.SMTP) -> None:
    smtp.noop()
    smtp.mail("a@x.test")
    smtp.rset()


def by_sendmail(smtp: csmtplib.SMTP) -> None:
    smtp.sendmail("a@x.test", "b@y.test", b"hello\r\n")


def by_send_many(smtp: csmtplib.SMTP) -> None:
    mail = csmtplib.MailObject("a@x.test", "b@y.test", b"hello\r\n")
    for _ in smtp.send_many([mail, mail]):
        pass


@needs_signals
# Before the first result, and in a generator that is closed.
@pytest.mark.filterwarnings("ignore:the results of", "ignore:Exception ignored")
@pytest.mark.parametrize("call", [by_commands, by_sendmail, by_send_many])
@pytest.mark.parametrize("pipelining", [True, False])
def test_an_interrupt_leaves_no_connection_in_use(
    sink: LoggingSink, call: Callable[[csmtplib.SMTP], None], pipelining: bool
) -> None:
    """Wherever it comes: else the object could be closed by nobody, and not be used again."""
    for at in itertools.count(1):
        smtp = csmtplib.SMTP("127.0.0.1", sink.port, "client.test", timeout=10)
        smtp.pipelining = pipelining
        smtp.ehlo()
        interrupter = ByStep(at, [str(Path(csmtplib.__path__[0]))])
        with contextlib.suppress(KeyboardInterrupt), interrupter:
            call(smtp)
            smtp.close()
        smtp._lock.check_not_in_use()
        smtp.close()
        if not interrupter.has_interrupted:
            break
    assert at > 50


ANSWERS = {name: f"250 {name}" for name in ("mail", "rcpt", "message", "rset", "noop")}


@needs_signals
@pytest.mark.filterwarnings("ignore:Exception ignored")  # in a generator that is closed
@pytest.mark.parametrize("client", [csmtplib.SMTP, csmtplib.LMTP])
@pytest.mark.parametrize("pipelining", [True, False])
def test_an_interrupt_of_sendmail_leaves_no_reply_to_the_next_command(
    client: type[csmtplib.SMTP], pipelining: bool
) -> None:
    """Wherever it comes: or that command would become text of the message, and wait for ever."""
    for at in itertools.count(1):
        host = Host("PIPELINING", lmtp=client is csmtplib.LMTP, **ANSWERS)
        with Loopback(host) as server:
            smtp = client(*server.address, "client.test")
            assert smtp.sock is not None
            smtp.sock.settimeout(DEADLINE)
            smtp.pipelining = pipelining
            smtp.ehlo_or_helo_if_needed()
            interrupter = ByStep(at, [str(Path(csmtplib.__path__[0]))])
            with contextlib.suppress(KeyboardInterrupt), interrupter:
                by_sendmail(smtp)
            if smtp.sock is not None:
                assert smtp.noop() == (250, b"noop"), at
            smtp.close()
        if not interrupter.has_interrupted:
            break
    assert at > 50
