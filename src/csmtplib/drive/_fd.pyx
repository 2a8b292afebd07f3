# cython: language_level=3, boundscheck=False, wraparound=False
# cython: freethreading_compatible=True, subinterpreters_compatible=own_gil
"""The loop of csrc/fdloop.c, wrapped: this module converts, and looks for signals."""

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
        double phase_seconds[4]
        double idle_seconds
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

    enum:
        CSMTP_LINES

    void csmtp_line_begin(csmtp_line *line)
    void csmtp_line_shift(csmtp_line *line, double seconds)
    csmtp_run_status csmtp_fd_run(
        csmtp_line *lines, size_t count, int wake, size_t receive_octets, double slice
    )
    double csmtp_now()


cdef enum:
    # After so long signals are looked for, as they may come to another thread than this.
    SLICE_MILLISECONDS = 100


@cython.final
cdef class Line:
    """A connection that is run, by its descriptor."""

    cdef Pipeline _pipeline
    cdef csmtp_line _line
    cdef object _phases, _idle
    cdef double _left  # when it was run last

    def __cinit__(self, Pipeline pipeline not None, int fd, phases, idle, /):
        """phases: seconds for each transaction.Phase. idle: seconds without an octet, or None."""
        command, data, block, content = phases
        self._phases, self._idle = phases, idle
        self._pipeline = pipeline
        self._line.pipeline = &pipeline.table
        self._line.fd = fd
        self._line.watch.phase_seconds = [command, data, block, content]
        self._line.watch.idle_seconds = -1.0 if idle is None else idle
        pipeline._replies.occupy()
        csmtp_line_begin(&self._line)
        pipeline._replies.vacate()
        self._left = csmtp_now()

    cdef int _settle(self) except -1:
        """Tells the pipeline how its part of a run has ended; its buffer is still occupied."""
        cdef Pipeline pipeline = self._pipeline
        cdef csmtp_run_status status = self._line.status
        if status == CSMTP_RUN_UNREADABLE or status == CSMTP_RUN_FAULT:
            pipeline.received(pipeline.table.unreadable)
        elif status == CSMTP_RUN_END:
            pipeline.ended()
        elif status == CSMTP_RUN_PHASE_OVER or status == CSMTP_RUN_IDLE_OVER:
            is_phase = status == CSMTP_RUN_PHASE_OVER
            allowed = self._phases[self._line.watch.phase] if is_phase else self._idle
            pipeline.lost(TimeoutError(NO_PROGRESS % allowed))
        elif status == CSMTP_RUN_ERRNO:
            pipeline.lost(OSError(self._line.error, os.strerror(self._line.error)))
        elif status == CSMTP_RUN_NO_MEMORY:
            pipeline.lost(MemoryError("no memory for what the server says"))
        return 0


def run(Line line not None, size_t target, size_t receive_octets, seconds, before_content, /):
    """Runs a line, without the GIL, until `target` messages are left, the connection is lost, or so
    many seconds have passed, where that is not None. Content that is held is released, after
    `before_content` was called, where that is not None.

    receive_octets: how much is read at once. Raises what a signal handler raises.
    """
    cdef Pipeline pipeline = line._pipeline
    cdef ReplyBuffer replies = pipeline._replies
    cdef double longest = SLICE_MILLISECONDS / 1e3
    cdef double left = longest if seconds is None else seconds
    cdef bint is_over, is_held
    end = 0.0 if seconds is None else monotonic() + seconds
    while True:
        replies.occupy()
        try:
            line._line.target = target
            with nogil:
                csmtp_fd_run(&line._line, 1, -1, receive_octets, min(left, longest))
            line._settle()
            is_held = csmtp_pipeline_is_held(&pipeline.table)
            is_over = line._line.status == CSMTP_RUN_DONE or pipeline._failure is not None
        finally:
            replies.vacate()
        PyErr_CheckSignals()
        if before_content is not None and is_held:
            before_content()
            pipeline.release()
            continue
        if is_over:
            return
        if seconds is not None:
            left = end - monotonic()
            if left <= 0:
                return


def run_together(lines, targets, int wake, size_t receive_octets, double seconds, /):
    """Runs several lines, without the GIL, until one of them has no more than its target of
    messages left or is lost, for so many seconds, or until there is something to read from the
    descriptor `wake`. Time between the runs is left out of the limits.

    receive_octets: how much is read at once. Raises what a signal handler raises.
    """
    # A list of our own: whatever becomes of the caller's, these lines stay.
    cdef list run = list(lines)
    cdef size_t count = len(run), occupied = 0, number
    cdef Line line
    cdef csmtp_line *together
    cdef double entered = csmtp_now(), longest = min(seconds, SLICE_MILLISECONDS / 1e3)
    if count > CSMTP_LINES:
        raise ValueError(f"at most {CSMTP_LINES} connections are run together")
    if <size_t>len(targets) != count:
        raise ValueError("as many targets as lines are needed")
    together = <csmtp_line *>malloc((count + 1) * sizeof(csmtp_line))
    if together == NULL:
        raise MemoryError
    try:
        for number in range(count):
            line = run[number]
            line._pipeline._replies.occupy()
            occupied += 1
            line._line.target = targets[number]
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
            line._settle()
    finally:
        for number in range(occupied):
            line = run[number]
            line._pipeline._replies.vacate()
        free(together)
    PyErr_CheckSignals()
