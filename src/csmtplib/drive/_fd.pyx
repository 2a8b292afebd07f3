# cython: language_level=3, boundscheck=False, wraparound=False
# cython: freethreading_compatible=True, subinterpreters_compatible=own_gil
"""Wrap the loop of csrc/fdloop.c. This module converts values, and checks for signals."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.stddef cimport size_t
from libc.stdlib cimport free, malloc

from ..kernel._c cimport ReplyBuffer
from ..kernel._c_pipeline cimport (
    Pipeline,
    csmtp_pipeline,
    csmtp_pipeline_is_held,
    csmtp_pipeline_release,
)

import os
from time import monotonic

from ..protocol.limits import NO_PROGRESS


cdef extern from "fdloop.h" nogil:
    ctypedef struct csmtp_watch:
        double phase_seconds[6]
        double early_round_trips
        double idle_seconds
        double gap
        int phase

    ctypedef enum csmtp_run_status:
        CSMTP_RUN_DONE
        CSMTP_RUN_SLICE
        CSMTP_RUN_FAULT
        CSMTP_RUN_UNREADABLE
        CSMTP_RUN_END
        CSMTP_RUN_PHASE_OVER
        CSMTP_RUN_IDLE_OVER
        CSMTP_RUN_ERRNO
        CSMTP_RUN_NO_MEMORY

    ctypedef struct csmtp_line:
        csmtp_pipeline *pipeline
        int fd
        size_t target
        csmtp_watch watch
        csmtp_run_status status
        int error
        bint quick_acks

    enum:
        CSMTP_LINES

    double csmtp_watch_seconds(const csmtp_watch *watch)
    void csmtp_line_begin(csmtp_line *line)
    void csmtp_line_shift(csmtp_line *line, double seconds)
    csmtp_run_status csmtp_fd_run(
        csmtp_line *lines, size_t count, int wake, size_t receive_octets, double slice
    )
    double csmtp_now()


cdef enum:
    # How often to check for signals, as they may be delivered to another thread.
    SLICE_MILLISECONDS = 100


@cython.final
cdef class Line:
    """A connection to run, by its descriptor."""

    cdef Pipeline _pipeline
    cdef csmtp_line _line
    cdef object _idle
    cdef double _left  # when the last run ended

    def __cinit__(
        self,
        Pipeline pipeline not None,
        int fd,
        phases,
        idle,
        double early_round_trips,
        bint quick_acks=True,
        /,
    ):
        """phases, idle, early_round_trips: as in protocol.limits.Limits. quick_acks: acknowledge
        replies at once while more are expected."""
        command, data, block, content, probe, early = tuple(phases)
        self._idle = idle
        self._pipeline = pipeline
        self._line.pipeline = &pipeline.table
        self._line.fd = fd
        self._line.quick_acks = quick_acks
        self._line.watch.phase_seconds = [command, data, block, content, probe, early]
        self._line.watch.early_round_trips = early_round_trips
        self._line.watch.idle_seconds = -1.0 if idle is None else idle
        pipeline._replies.acquire()
        csmtp_line_begin(&self._line)
        pipeline._replies.release()
        self._left = csmtp_now()

    @property
    def gap(self):
        """Return the longest wait between two replies to one flight, in seconds."""
        return self._line.watch.gap

    cdef int _report_end(self) except -1:
        """Report to the pipeline how a run has ended. The receive buffer must still be acquired."""
        cdef Pipeline pipeline = self._pipeline
        cdef csmtp_run_status status = self._line.status
        if status == CSMTP_RUN_UNREADABLE or status == CSMTP_RUN_FAULT:
            pipeline.handle_received(pipeline.table.unreadable)
        elif status == CSMTP_RUN_END:
            pipeline.handle_end_of_stream()
        elif status == CSMTP_RUN_PHASE_OVER or status == CSMTP_RUN_IDLE_OVER:
            is_phase = status == CSMTP_RUN_PHASE_OVER
            allowed = csmtp_watch_seconds(&self._line.watch) if is_phase else self._idle
            pipeline.handle_loss(TimeoutError(NO_PROGRESS % allowed))
        elif status == CSMTP_RUN_ERRNO:
            pipeline.handle_loss(OSError(self._line.error, os.strerror(self._line.error)))
        elif status == CSMTP_RUN_NO_MEMORY:
            pipeline.handle_loss(MemoryError("no memory for the reply of the server"))
        return 0


def run(Line line not None, size_t target, size_t receive_octets, seconds, before_content, /):
    """Run a connection, without the GIL, until `target` messages are left, the connection is lost,
    or `seconds` have passed, unless that is None. If content is held, call `before_content`, unless
    that is None, and release the content. What `before_content` returns replaces it, unless that is
    None.

    receive_octets: the size of one read. Raises what a signal handler raises.
    """
    cdef Pipeline pipeline = line._pipeline
    cdef ReplyBuffer replies = pipeline._replies
    cdef double longest = SLICE_MILLISECONDS / 1e3
    cdef double left = longest if seconds is None else seconds
    cdef bint is_over, is_held
    end = 0.0 if seconds is None else monotonic() + seconds
    while True:
        replies.acquire()
        try:
            line._line.target = target
            with nogil:
                csmtp_fd_run(&line._line, 1, -1, receive_octets, min(left, longest))
            line._report_end()
            is_held = csmtp_pipeline_is_held(&pipeline.table)
            is_over = line._line.status == CSMTP_RUN_DONE or pipeline._failure is not None
        finally:
            replies.release()
        PyErr_CheckSignals()
        if before_content is not None and is_held:
            pipeline.release(before_content())
            continue
        if is_over:
            return
        if seconds is not None:
            left = end - monotonic()
            if left <= 0:
                return


def run_together(lines, targets, int wake, size_t receive_octets, double seconds, /):
    """Run several connections, without the GIL, until one of them is lost or has at most its target
    of messages left, until `seconds` have passed, or until the descriptor `wake` becomes readable,
    unless that is negative. Time between the runs does not count for the limits.

    receive_octets: the size of one read. Raises what a signal handler raises.
    """
    # Copies, as the caller may change the lists meanwhile.
    cdef list run = list(lines), left = list(targets)
    cdef size_t count = len(run), acquired = 0, number
    cdef Line line
    cdef csmtp_line *together
    cdef double entered = csmtp_now(), longest = min(seconds, SLICE_MILLISECONDS / 1e3)
    if count > CSMTP_LINES:
        raise ValueError(f"at most {CSMTP_LINES} connections can be run together")
    if <size_t>len(left) != count:
        raise ValueError(f"{count} connections need as many targets, not {len(left)}")
    for each in run:
        if not isinstance(each, Line):
            raise TypeError(f"expected Line, not {type(each).__name__}")
    together = <csmtp_line *>malloc((count + 1) * sizeof(csmtp_line))
    if together == NULL:
        raise MemoryError
    try:
        for number in range(count):
            line = run[number]
            line._pipeline._replies.acquire()
            acquired += 1
            line._line.target = left[number]
        for number in range(count):
            line = run[number]
            csmtp_line_shift(&line._line, entered - line._left)
            together[number] = line._line
        with nogil:
            csmtp_fd_run(together, count, wake, receive_octets, longest)
        entered = csmtp_now()
        for number in range(count):
            line = run[number]
            line._line = together[number]
            line._left = entered
        for line in run:
            line._report_end()
    finally:
        for number in range(acquired):
            line = run[number]
            line._pipeline._replies.release()
        free(together)
    PyErr_CheckSignals()
