# Declarations of the kernels in csrc/; their headers describe them.

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t


cdef extern from "reply.h" nogil:
    ctypedef enum csmtp_reply_status:
        CSMTP_REPLY_MORE
        CSMTP_REPLY_DONE
        CSMTP_REPLY_BAD_CODE
        CSMTP_REPLY_MIXED_CODES
        CSMTP_REPLY_LINE_TOO_LONG
        CSMTP_REPLY_TOO_LONG

    ctypedef struct csmtp_reply_scan:
        size_t line
        size_t searched
        int code

    size_t csmtp_reply_join(const uint8_t *reply, size_t count, uint8_t *text)


cdef extern from "receive.h" nogil:
    ctypedef struct csmtp_receive:
        uint8_t *bytes
        size_t start
        size_t end
        csmtp_reply_scan scan

    void csmtp_receive_init(csmtp_receive *receive, size_t max_line, size_t max_reply)
    void csmtp_receive_free(csmtp_receive *receive)
    uint8_t *csmtp_receive_reserve(csmtp_receive *receive, size_t count)
    csmtp_reply_status csmtp_receive_find(csmtp_receive *receive)
    void csmtp_receive_drop(csmtp_receive *receive, size_t count)


cdef extern from "body.h" nogil:
    enum:
        CSMTP_BODY_CRLF
        CSMTP_BODY_DOTS

    ctypedef struct csmtp_body:
        uint8_t last

    ctypedef struct csmtp_body_scan:
        size_t longest_line
        bint has_nul
        bint has_8bit

    void csmtp_body_init(csmtp_body *body, unsigned what)
    size_t csmtp_body_growth(const csmtp_body *body, const uint8_t *bytes, size_t count)
    size_t csmtp_body_encode(
        csmtp_body *body, const uint8_t *bytes, size_t count, uint8_t *out
    )
    void csmtp_body_skip(csmtp_body *body, const uint8_t *bytes, size_t count)
    size_t csmtp_body_finish(csmtp_body *body, uint8_t *out)
    void csmtp_body_scan_init(csmtp_body_scan *scan)
    void csmtp_body_scan_add(csmtp_body_scan *scan, const uint8_t *bytes, size_t count)


cdef extern from "command.h" nogil:
    size_t csmtp_find_control(const uint8_t *bytes, size_t count)
    bint csmtp_is_plain_address(const uint8_t *bytes, size_t count)


@cython.final
cdef class ReplyBuffer:
    cdef csmtp_receive _receive
    cdef bint _in_use

    # A connection belongs to one thread. While a driver runs without the GIL, or on a Python that
    # has none, another thread could find the buffer, or the table of the pipeline, half changed. So
    # whatever works with either acquires the buffer first, and a second thread gets RuntimeError.

    cdef inline int acquire(self) except -1:
        with cython.critical_section(self):
            if self._in_use:
                self.raise_in_use()
            self._in_use = True
        return 0

    cdef inline void release(self) noexcept:
        with cython.critical_section(self):
            self._in_use = False

    cdef int raise_in_use(self) except -1

    # For callers that have acquired it.
    cdef int _append(self, bytes bytes) except -1
    cdef bint _end_of_stream(self) except -1
    cdef bytes _peek(self, Py_ssize_t count)
    cdef bytes _take(self, Py_ssize_t count)
    cdef bytes _readline(self, Py_ssize_t limit)
    cdef tuple _reply(self)
    cdef tuple _unreadable(self, csmtp_reply_status status)


cdef bytes as_bytes(object bytes)
cdef size_t growth_of(const csmtp_body *body, const uint8_t *bytes, size_t count) noexcept
cdef bytes encoded_chunk(csmtp_body *body, bytes chunk)
