"""client/owner.py: one thread at a time."""

from __future__ import annotations

import copy
import pickle
from _thread import get_ident
from collections.abc import Callable

import pytest

import csmtplib
from csmtplib.client.owner import LazyOwnerLock, OwnerLock

from ..drive.talking import in_thread


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
    owner, lock.owner = lock.owner, 0
    assert not lock.is_mine
    assert not lock.is_streaming
    with pytest.raises(RuntimeError, match="in use by another thread"):
        lock.acquire()
    lock.owner = owner
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
