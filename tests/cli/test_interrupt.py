"""The first, the second and the third Ctrl-C (cli/interrupt.py)."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from csmtplib.cli.interrupt import Interrupt

from ..requirements import needs_signals

pytestmark = needs_signals


@pytest.fixture(autouse=True)
def _default_handlers() -> Iterator[None]:
    """Those of a program that was started in the foreground."""
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    terminate = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, terminate)


def test_only_the_third_raises(capfd: pytest.CaptureFixture[str]) -> None:
    """T1: an exception at any moment costs results; flags are acted on between two turns."""
    stopped = []
    with Interrupt("stopping", stop=lambda: stopped.append(interrupt.insisted)) as interrupt:
        assert (interrupt.requested, interrupt.insisted) == (False, False)
        signal.raise_signal(signal.SIGINT)
        assert (interrupt.requested, interrupt.insisted) == (True, False)
        signal.raise_signal(signal.SIGINT)
        assert (interrupt.requested, interrupt.insisted) == (True, True)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert stopped == [False, True]
    assert capfd.readouterr().err == "csmtplib: stopping\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_raises_where_there_is_nothing_to_lose() -> None:
    with Interrupt() as interrupt:
        interrupt.is_idle = True
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        interrupt.is_idle = False
        signal.raise_signal(signal.SIGINT)
        assert interrupt.insisted


def test_sigterm_is_a_first_one_and_no_other() -> None:
    with Interrupt(signals=(signal.SIGINT, signal.SIGTERM)) as interrupt:
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
        assert (interrupt.requested, interrupt.insisted) == (True, False)
        signal.raise_signal(signal.SIGINT)
        assert interrupt.insisted
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_who_ignores_it_goes_on_ignoring_it() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interrupt() as interrupt:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
        assert not interrupt.requested


def test_not_in_another_thread() -> None:
    found = []

    def enter() -> None:
        with Interrupt():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
