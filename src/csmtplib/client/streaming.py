"""SMTP.send_many(): the loop between a caller's messages, the pipeline and the results."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from smtplib import SMTPServerDisconnected
from typing import TYPE_CHECKING

from .. import kernel
from ..drive import transactions
from ..kernel.transaction import Want
from ..protocol import limits
from ..protocol.features import Features
from ..protocol.submission import Result, Submission
from . import pipelining

if TYPE_CHECKING:
    from .smtp import SMTP

# Seconds for which messages that come quickly wait for each other, to leave in one write.
_GATHER = 0.001


def send_many(
    smtp: SMTP, messages: Iterable[object], max_in_flight: int, chunking: bool
) -> Iterator[Result]:
    """See SMTP.send_many()."""
    smtp.ehlo_or_helo_if_needed()
    gear = pipelining.offered_gear(smtp, chunking=chunking)
    replies = smtp._occupy()
    try:
        submission = Submission(
            replies,
            Features(smtp.esmtp_features),
            gear,
            lmtp=smtp._is_lmtp,
            proved=gear in smtp._proved_gears,
            max_in_flight=max_in_flight,
            audit=partial(sys.audit, "smtplib.send", smtp),
        )
        stream = _Stream(smtp, submission, replies, messages, max_in_flight)
        yield from stream.results()
        pipelining.learn(smtp, gear, submission.pipeline)
        failure = submission.pipeline.failure
    except BaseException:
        # The loop over the results was left before its end.
        smtp.close()
        raise
    finally:
        smtp._let_go()
    stream.end(failure)


class _Stream:
    def __init__(
        self,
        smtp: SMTP,
        submission: Submission,
        replies: kernel.ReplyBuffer,
        messages: Iterable[object],
        max_in_flight: int,
    ) -> None:
        self._smtp = smtp
        self._sock = smtp.sock
        self._submission = submission
        self._replies = replies
        self._messages = iter(messages)
        self._more = True
        self._half = max_in_flight // 2
        assert smtp.sock is not None
        self._allowed = limits.at_least(smtp.sock.gettimeout())
        self._raised: BaseException | None = None
        transactions.prepare(self._sock)

    def results(self) -> Iterator[Result]:
        """All results, in order."""
        submission = self._submission
        while self._more or len(submission):
            yield from self._fill()
            # Half of the window stays on its way while the other is filled again.
            half = min(self._half, max(len(submission.pipeline) - 1, 0))
            self._run(half if self._more and not submission.is_over else 0)
            yield from submission.results()
            if submission.is_over and not len(submission):
                if submission.pipeline.failure is None:
                    # Whether there is one message too many shows when it is asked for.
                    self._take_one()
                    yield from submission.results()
                return

    def end(self, failure: Exception | None) -> None:
        """Raises what has ended the stream before its time; failure: of the pipeline."""
        if failure is not None:
            self._smtp.close()
        if self._raised is not None:
            raise self._raised
        if failure is not None:
            raise pipelining.disconnected(failure) from failure
        if self._more:
            self._smtp.quit()
            raise SMTPServerDisconnected(
                "the server takes no more messages on one connection (LIMITS MAILMAX): connect "
                "again for the rest"
            )

    def _fill(self) -> Iterator[Result]:
        """Takes messages while there is room; yields results that come in meanwhile."""
        submission = self._submission
        pipeline = submission.pipeline
        last_run = before = time.monotonic()
        while self._more and submission.has_room() and self._take_one():
            now = time.monotonic()
            took = now - before
            if not pipeline.proved:
                # Nothing could leave behind it.
                self._run(0)
            elif took > _GATHER:
                # The next may be as long in coming: meanwhile this one is sent.
                self._run(0, took)
            elif now - last_run > _GATHER and pipeline.want() & Want.WRITE:
                # Where they come quickly, they leave together.
                self._run(0, 0)
            else:
                before = now
                continue
            last_run = time.monotonic()
            yield from submission.results()
            before = time.monotonic()

    def _take_one(self) -> bool:
        """Takes a message on; False where there is none."""
        try:
            item = next(self._messages)
        except StopIteration:
            self._more = False
            return False
        except BaseException as error:
            # What was taken before is still to be told.
            self._more = False
            self._raised = error
            return False
        self._submission.add(item)
        return True

    def _run(self, target: int, seconds: float | None = None) -> None:
        """Runs until so many messages are left, or for so many seconds."""
        pipeline = self._submission.pipeline
        if self._smtp.sock is not self._sock:
            pipeline.lose(SMTPServerDisconnected("the connection was closed between two results"))
        try:
            transactions.run(
                pipeline, self._replies, self._sock, target, self._allowed, seconds=seconds
            )
        except BaseException as error:
            pipeline.lose(InterruptedError(f"interrupted: {type(error).__name__}"))
            self._raised = error
