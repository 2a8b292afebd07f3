# Declarations of csrc/pipeline.h; the header describes them.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint64_t

from ._c cimport ReplyBuffer, csmtp_receive, csmtp_reply_status


cdef extern from "pipeline.h" nogil:
    ctypedef enum csmtp_mode:
        pass

    ctypedef enum csmtp_step:
        CSMTP_NEXT

    ctypedef enum csmtp_stage:
        CSMTP_LOST
        CSMTP_IN_DOUBT

    ctypedef enum csmtp_phase:
        pass

    ctypedef enum csmtp_fault:
        CSMTP_NO_FAULT
        CSMTP_SURPLUS
        CSMTP_PREMATURE
        CSMTP_INVALID_CODE
        CSMTP_UNEXPECTED_SUCCESS
        CSMTP_CLOSED
        CSMTP_CLOSED_IN_CONTENT
        CSMTP_NO_CHUNKING
        CSMTP_NO_MEMORY
        CSMTP_TIMEOUT
        CSMTP_UNREADABLE

    ctypedef struct csmtp_chunk:
        const uint8_t *bytes
        size_t count

    ctypedef struct csmtp_stored_reply:
        int code
        size_t text
        size_t text_count

    ctypedef struct csmtp_recipient:
        csmtp_stored_reply reply
        csmtp_stage stage

    ctypedef struct csmtp_message:
        void *tag
        csmtp_recipient *recipients
        size_t recipient_count
        size_t own_replies
        csmtp_stage stage
        csmtp_stored_reply reply

    ctypedef struct csmtp_steps:
        csmtp_step proof
        csmtp_step limit
        size_t doubts

    ctypedef struct csmtp_pipeline:
        csmtp_steps steps
        bint strict
        bint reset_refused
        size_t count
        size_t byte_count
        uint64_t booked
        uint64_t emitted
        uint64_t written
        csmtp_reply_status unreadable
        csmtp_fault fault
        csmtp_stored_reply fault_reply
        uint8_t *texts

    void csmtp_pipeline_init(
        csmtp_pipeline *pipeline, csmtp_receive *receive, csmtp_mode mode, bint lmtp, bint strict,
        csmtp_step proof, size_t large
    )
    void csmtp_pipeline_learn(csmtp_pipeline *pipeline, csmtp_step proof, csmtp_step limit)
    bint csmtp_pipeline_push(
        csmtp_pipeline *pipeline, void *tag, void *owner, const csmtp_chunk *commands,
        size_t command_count, const csmtp_chunk *chunks, size_t chunk_count, int64_t terminator
    )
    bint csmtp_pipeline_is_held(const csmtp_pipeline *pipeline)
    void csmtp_pipeline_send_content(csmtp_pipeline *pipeline)
    bint csmtp_pipeline_replace(
        csmtp_pipeline *pipeline, void **owner, const csmtp_chunk *chunks, size_t chunk_count,
        int64_t terminator
    )
    unsigned csmtp_pipeline_want(const csmtp_pipeline *pipeline)
    csmtp_phase csmtp_pipeline_phase(const csmtp_pipeline *pipeline)
    size_t csmtp_pipeline_gather(
        const csmtp_pipeline *pipeline, csmtp_chunk *chunks, size_t max_chunks, size_t max_bytes
    )
    void csmtp_pipeline_hand(csmtp_pipeline *pipeline, size_t count)
    void csmtp_pipeline_wrote(csmtp_pipeline *pipeline, size_t count)
    csmtp_reply_status csmtp_pipeline_receive(csmtp_pipeline *pipeline)
    void csmtp_pipeline_book(
        csmtp_pipeline *pipeline, int code, const uint8_t *text, size_t count
    )
    void csmtp_pipeline_fail(csmtp_pipeline *pipeline, csmtp_fault fault, bint in_doubt)
    const csmtp_message *csmtp_pipeline_completed(const csmtp_pipeline *pipeline)


cdef extern from "pipeline.h":
    # With the GIL, as release needs it.
    void csmtp_pipeline_free(csmtp_pipeline *pipeline, void (*release)(void *) noexcept)
    void csmtp_pipeline_drop(csmtp_pipeline *pipeline, void (*release)(void *) noexcept)


cdef class Content:
    cdef list _owners
    cdef csmtp_chunk *_chunks
    cdef size_t _chunk_count
    cdef readonly size_t byte_count, size, longest_line
    cdef readonly Py_ssize_t terminator
    cdef readonly bint has_nul, has_8bit

    cdef int _add(self, bytes chunk) except -1
    cdef bytes _encode(self, list buffers, bint dots)


cdef class Pipeline:
    cdef csmtp_pipeline table
    cdef ReplyBuffer _replies
    cdef object _failure
    cdef size_t _pulled

    # For drivers that have acquired the receive buffer and change the table.
    cdef int handle_received(self, csmtp_reply_status status) except -1
    cdef int handle_end_of_stream(self) except -1
    cdef void handle_loss(self, object error) noexcept

    cdef bytes _pull(self, size_t limit)
    cdef int _wrote(self, size_t count) except -1
    cdef list _take(self)
    cdef int _set_failure(self) except -1
    cdef tuple _reply(self, const csmtp_stored_reply *reply)
