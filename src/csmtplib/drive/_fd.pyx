# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""The loop of csrc/fdloop.c, wrapped: this module converts, and looks for signals."""

from cpython.exc cimport PyErr_CheckSignals
from libc.stddef cimport size_t

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

    void csmtp_watch_begin(csmtp_watch *watch, const csmtp_pipeline *pipeline)
    csmtp_run_status csmtp_fd_run(
        csmtp_pipeline *pipeline, int fd, size_t target, size_t receive_octets, double slice,
        csmtp_watch *watch, int *error
    )


# Seconds after which signals are looked for, as they may come to another thread than this.
cdef double SLICE = 0.1


def run(
    Pipeline pipeline not None,
    int fd,
    size_t target,
    phases,
    idle,
    size_t receive_octets,
    seconds,
    before_content,
):
    """Runs a pipeline over a descriptor, without the GIL, until `target` messages are left, the
    connection is lost, or so many seconds have passed, where that is not None. Content that is held
    is released, after `before_content` was called, where that is not None.

    phases: seconds for each transaction.Phase. idle: seconds without an octet, or None.
    receive_octets: how much is read at once. Raises what a signal handler raises.
    """
    cdef csmtp_watch watch
    cdef csmtp_run_status status
    cdef int error = 0
    cdef double left = SLICE if seconds is None else seconds
    command, data, block, content = phases
    watch.phase_seconds = [command, data, block, content]
    watch.idle_seconds = -1.0 if idle is None else idle
    end = 0.0 if seconds is None else monotonic() + seconds
    pipeline.check_idle()
    csmtp_watch_begin(&watch, &pipeline.table)
    while True:
        pipeline.check_idle()
        pipeline.running = True
        with nogil:
            status = csmtp_fd_run(
                &pipeline.table, fd, target, receive_octets, min(left, SLICE), &watch, &error
            )
        pipeline.running = False
        if status == CSMTP_RUN_UNREADABLE or status == CSMTP_RUN_FAULT:
            pipeline.received(pipeline.table.unreadable)
        elif status == CSMTP_RUN_END:
            pipeline.end_of_stream()
        elif status == CSMTP_RUN_PHASE_OVER or status == CSMTP_RUN_IDLE_OVER:
            allowed = phases[<int>watch.phase] if status == CSMTP_RUN_PHASE_OVER else idle
            pipeline.lose(TimeoutError(NO_PROGRESS % allowed))
        elif status == CSMTP_RUN_ERRNO:
            pipeline.lose(OSError(error, os.strerror(error)))
        elif status == CSMTP_RUN_NO_MEMORY:
            pipeline.lose(MemoryError("no memory for what the server says"))
        PyErr_CheckSignals()
        if before_content is not None and csmtp_pipeline_is_held(&pipeline.table):
            before_content()
            csmtp_pipeline_release(&pipeline.table)
            continue
        if status == CSMTP_RUN_DONE or pipeline.failure is not None:
            return
        if seconds is not None:
            left = end - monotonic()
            if left <= 0:
                return
