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
    csmtp_pipeline_send_content,
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

    ctypedef struct csmtp_connection:
        csmtp_pipeline *pipeline
        int fd
        size_t target
        csmtp_watch watch
        csmtp_run_status status
        int error
        bint quick_acks
        double limit

    enum:
        CSMTP_CONNECTIONS

    double csmtp_watch_seconds(const csmtp_watch *watch)
    void csmtp_connection_begin(csmtp_connection *connection)
    void csmtp_connection_shift(csmtp_connection *connection, double seconds)
    csmtp_run_status csmtp_fd_run(
        csmtp_connection *connections, size_t count, int wake, size_t receive_bytes, double slice
    )
    double csmtp_now()


cdef enum:
    # How often to check for signals, as they may be delivered to another thread.
    SLICE_MILLISECONDS = 100


@cython.final
cdef class Connection:
    """A connection to run, by its descriptor."""

    cdef Pipeline _pipeline
    cdef csmtp_connection _connection
    cdef object _idle
    cdef bint _end_cuts_off
    cdef double _left  # when the last run ended

    def __cinit__(
        self,
        Pipeline pipeline not None,
        int fd,
        phases,
        idle,
        double early_round_trips,
        bint quick_acks=True,
        bint end_cuts_off=False,
        /,
    ):
        """phases, idle, early_round_trips: as in protocol.limits.Limits. quick_acks: acknowledge
        replies at once while more are expected. end_cuts_off: a last reply without a line end is
        none, also where the pipeline is not strict."""
        command, data, block, content, probe, early = tuple(phases)
        self._idle = idle
        self._pipeline = pipeline
        self._connection.pipeline = &pipeline.table
        self._connection.fd = fd
        self._connection.quick_acks = quick_acks
        self._end_cuts_off = end_cuts_off
        self._connection.watch.phase_seconds = [command, data, block, content, probe, early]
        self._connection.watch.early_round_trips = early_round_trips
        self._connection.watch.idle_seconds = -1.0 if idle is None else idle
        pipeline._replies.acquire()
        csmtp_connection_begin(&self._connection)
        pipeline._replies.release()
        self._left = csmtp_now()

    @property
    def gap(self):
        """Return the longest wait between two replies to one flight, in seconds."""
        return self._connection.watch.gap

    @property
    def seconds_left(self):
        """Return how long the connection may wait by its time limits, after a run of 0 s that did
        not end it."""
        return self._connection.limit - csmtp_now()

    cdef int _report_end(self) except -1:
        """Report to the pipeline how a run has ended. The receive buffer must still be acquired."""
        cdef Pipeline pipeline = self._pipeline
        cdef csmtp_run_status status = self._connection.status
        if status == CSMTP_RUN_UNREADABLE or status == CSMTP_RUN_FAULT:
            pipeline.handle_received(pipeline.table.unreadable)
        elif status == CSMTP_RUN_END and self._end_cuts_off:
            pipeline.handle_loss(EOFError("the server closed the connection"))
        elif status == CSMTP_RUN_END:
            pipeline.handle_end_of_stream()
        elif status == CSMTP_RUN_PHASE_OVER or status == CSMTP_RUN_IDLE_OVER:
            is_phase = status == CSMTP_RUN_PHASE_OVER
            allowed = csmtp_watch_seconds(&self._connection.watch) if is_phase else self._idle
            pipeline.handle_loss(TimeoutError(NO_PROGRESS % allowed))
        elif status == CSMTP_RUN_ERRNO:
            error = self._connection.error
            pipeline.handle_loss(OSError(error, os.strerror(error)))
        elif status == CSMTP_RUN_NO_MEMORY:
            pipeline.handle_loss(MemoryError("no memory for the reply of the server"))
        return 0


def run(
    Connection connection not None,
    size_t target,
    size_t receive_bytes,
    seconds,
    before_content,
    /,
):
    """Run a connection, without the GIL, until `target` messages are left, the connection is lost,
    or `seconds` have passed, unless that is None. If content is held, call `before_content`, unless
    that is None, and release the content. What `before_content` returns replaces it, unless that is
    None.

    receive_bytes: the size of one read. Raises what a signal handler raises.
    """
    cdef Pipeline pipeline = connection._pipeline
    cdef ReplyBuffer replies = pipeline._replies
    cdef double longest = SLICE_MILLISECONDS / 1e3
    cdef double left = longest if seconds is None else seconds
    cdef bint is_over, is_held
    end = 0.0 if seconds is None else monotonic() + seconds
    while True:
        replies.acquire()
        try:
            connection._connection.target = target
            with nogil:
                csmtp_fd_run(&connection._connection, 1, -1, receive_bytes, min(left, longest))
            connection._report_end()
            is_held = csmtp_pipeline_is_held(&pipeline.table)
            is_done = connection._connection.status == CSMTP_RUN_DONE
            is_over = is_done or pipeline._failure is not None
        finally:
            replies.release()
        PyErr_CheckSignals()
        if before_content is not None and is_held:
            pipeline.send_content(before_content())
            continue
        if is_over:
            return
        if seconds is not None:
            left = end - monotonic()
            if left <= 0:
                return


def run_together(connections, targets, int wake, size_t receive_bytes, double seconds, /):
    """Run several connections, without the GIL, until one of them is lost or has at most its target
    of messages left, until `seconds` have passed, or until the descriptor `wake` becomes readable,
    unless that is negative. Time between the runs does not count for the limits.

    receive_bytes: the size of one read. Raises what a signal handler raises.
    """
    # Copies, as the caller may change the lists meanwhile.
    cdef list run = list(connections), left = list(targets)
    cdef size_t count = len(run), acquired = 0, number
    cdef Connection connection
    cdef csmtp_connection *together
    cdef double entered = csmtp_now(), longest = min(seconds, SLICE_MILLISECONDS / 1e3)
    if count > CSMTP_CONNECTIONS:
        raise ValueError(f"at most {CSMTP_CONNECTIONS} connections can be run together")
    if <size_t>len(left) != count:
        raise ValueError(f"{count} connections need as many targets, not {len(left)}")
    for each in run:
        if not isinstance(each, Connection):
            raise TypeError(f"expected Connection, not {type(each).__name__}")
    together = <csmtp_connection *>malloc((count + 1) * sizeof(csmtp_connection))
    if together == NULL:
        raise MemoryError
    try:
        for number in range(count):
            connection = run[number]
            connection._pipeline._replies.acquire()
            acquired += 1
            connection._connection.target = left[number]
        for number in range(count):
            connection = run[number]
            csmtp_connection_shift(&connection._connection, entered - connection._left)
            together[number] = connection._connection
        with nogil:
            csmtp_fd_run(together, count, wake, receive_bytes, longest)
        entered = csmtp_now()
        for number in range(count):
            connection = run[number]
            connection._connection = together[number]
            connection._left = entered
        for connection in run:
            connection._report_end()
    finally:
        for number in range(acquired):
            connection = run[number]
            connection._pipeline._replies.release()
        free(together)
    PyErr_CheckSignals()
