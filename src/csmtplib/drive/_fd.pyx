# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""The loop of csrc/fdloop.c, wrapped: this module converts, and looks for signals."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.stddef cimport size_t
from libc.stdlib cimport free, malloc

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


# Seconds after which signals are looked for, as they may come to another thread than this.
cdef double SLICE = 0.1


@cython.final
cdef class Line:
    """A connection that is run, by its descriptor."""

    cdef Pipeline _pipeline
    cdef csmtp_line _line
    cdef object _phases, _idle
    cdef double _left  # when it was run last

    def __init__(self, Pipeline pipeline not None, int fd, phases, idle):
        """phases: seconds for each transaction.Phase. idle: seconds without an octet, or None."""
        pipeline.check_idle()
        command, data, block, content = phases
        self._phases, self._idle = phases, idle
        self._pipeline = pipeline
        self._line.pipeline = &pipeline.table
        self._line.fd = fd
        self._line.watch.phase_seconds = [command, data, block, content]
        self._line.watch.idle_seconds = -1.0 if idle is None else idle
        csmtp_line_begin(&self._line)
        self._left = csmtp_now()

    cdef int _settle(self) except -1:
        """Tells the pipeline how its part of a run has ended."""
        cdef Pipeline pipeline = self._pipeline
        cdef csmtp_run_status status = self._line.status
        if status == CSMTP_RUN_UNREADABLE or status == CSMTP_RUN_FAULT:
            pipeline.received(pipeline.table.unreadable)
        elif status == CSMTP_RUN_END:
            pipeline.end_of_stream()
        elif status == CSMTP_RUN_PHASE_OVER or status == CSMTP_RUN_IDLE_OVER:
            is_phase = status == CSMTP_RUN_PHASE_OVER
            allowed = self._phases[self._line.watch.phase] if is_phase else self._idle
            pipeline.lose(TimeoutError(NO_PROGRESS % allowed))
        elif status == CSMTP_RUN_ERRNO:
            pipeline.lose(OSError(self._line.error, os.strerror(self._line.error)))
        elif status == CSMTP_RUN_NO_MEMORY:
            pipeline.lose(MemoryError("no memory for what the server says"))
        return 0


def run(Line line not None, size_t target, size_t receive_octets, seconds, before_content):
    """Runs a line, without the GIL, until `target` messages are left, the connection is lost, or so
    many seconds have passed, where that is not None. Content that is held is released, after
    `before_content` was called, where that is not None.

    receive_octets: how much is read at once. Raises what a signal handler raises.
    """
    cdef Pipeline pipeline = line._pipeline
    cdef double left = SLICE if seconds is None else seconds
    end = 0.0 if seconds is None else monotonic() + seconds
    line._line.target = target
    while True:
        pipeline.check_idle()
        pipeline.running = True
        with nogil:
            csmtp_fd_run(&line._line, 1, -1, receive_octets, min(left, SLICE))
        pipeline.running = False
        line._settle()
        PyErr_CheckSignals()
        if before_content is not None and csmtp_pipeline_is_held(&pipeline.table):
            before_content()
            csmtp_pipeline_release(&pipeline.table)
            continue
        if line._line.status == CSMTP_RUN_DONE or pipeline.failure is not None:
            return
        if seconds is not None:
            left = end - monotonic()
            if left <= 0:
                return


def run_together(lines, targets, int wake, size_t receive_octets, double seconds):
    """Runs several lines, without the GIL, until one of them has no more than its target of
    messages left or is lost, for so many seconds, or until there is something to read from the
    descriptor `wake`. Time between the runs is left out of the limits.

    receive_octets: how much is read at once. Raises what a signal handler raises.
    """
    cdef size_t count = len(lines), number
    cdef Line line
    cdef csmtp_line *together
    cdef double entered = csmtp_now(), slice_seconds = min(seconds, SLICE)
    if count > CSMTP_LINES:
        raise ValueError(f"at most {CSMTP_LINES} connections are run together")
    for line, target in zip(lines, targets, strict=True):
        line._pipeline.check_idle()
        line._line.target = target
    together = <csmtp_line *>malloc((count + 1) * sizeof(csmtp_line))
    if together == NULL:
        raise MemoryError
    for number in range(count):
        line = lines[number]
        csmtp_line_shift(&line._line, entered - line._left)
        line._pipeline.running = True
        together[number] = line._line
    with nogil:
        csmtp_fd_run(together, count, wake, receive_octets, slice_seconds)
    entered = csmtp_now()
    for number in range(count):
        line = lines[number]
        line._line = together[number]
        line._left = entered
        line._pipeline.running = False
    free(together)
    for line in lines:
        line._settle()
    PyErr_CheckSignals()
