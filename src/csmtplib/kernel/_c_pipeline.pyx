# cython: language_level=3, boundscheck=False, wraparound=False
# cython: freethreading_compatible=True, subinterpreters_compatible=own_gil
"""Wrap the pipeline of csrc/pipeline.c. This module only converts values, and decides nothing."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from ._c cimport (
    CSMTP_BODY_CRLF,
    CSMTP_BODY_DOTS,
    CSMTP_REPLY_MORE,
    as_bytes,
    csmtp_body,
    csmtp_body_finish,
    csmtp_body_growth,
    csmtp_body_init,
    csmtp_body_scan,
    csmtp_body_scan_add,
    csmtp_body_scan_init,
    encoded_chunk,
)
from .errors import (
    CLOSED,
    CLOSED_IN_CONTENT,
    END_OF_CONNECTION,
    NO_CHUNKING,
    NOTHING_HELD,
    TOO_FEW_COMMANDS,
    WROTE_TOO_MUCH,
    ChunkingRefused,
    ReplyError,
    ResetRefused,
    SessionClosed,
    unexpected,
)


cdef enum:
    GATHERED_CHUNKS = 64


cdef void _release(void *owned) noexcept:
    Py_XDECREF(<PyObject *>owned)


@cython.final
cdef class Content:
    """The bytes of one message, as they are sent."""

    def __cinit__(self, buffers, bint dots, bytes end=None, /):
        # Everything happens here and not in __init__: once others can see it, it never changes.
        self._owners = []
        self._chunks = NULL
        self._chunk_count = self.byte_count = self.size = self.longest_line = 0
        self.has_nul = self.has_8bit = False
        cdef list whole = [buffers] if type(buffers) is bytes else list(buffers)
        cdef Py_ssize_t text
        self._chunks = <csmtp_chunk *>malloc((len(whole) + 1) * sizeof(csmtp_chunk))
        if self._chunks == NULL:
            raise MemoryError
        if end is None:
            end = self._encode(whole, dots)
        else:
            for buffer in whole:
                self._add(as_bytes(buffer))
        text = self.byte_count
        self._add(end)
        # The server may have the whole message from here on: the first byte of what may end it, or
        # the last byte of a chunk whose size BDAT has announced.
        self.terminator = text if dots else <Py_ssize_t>self.byte_count - 1

    def __dealloc__(self):
        free(self._chunks)

    cdef int _add(self, bytes chunk) except -1:
        cdef size_t count = PyBytes_GET_SIZE(chunk)
        if count > 0:
            self._owners.append(chunk)
            self._chunks[self._chunk_count].bytes = <const uint8_t *>PyBytes_AS_STRING(chunk)
            self._chunks[self._chunk_count].count = count
            self._chunk_count += 1
            self.byte_count += count
        return 0

    cdef bytes _encode(self, list buffers, bint dots):
        cdef csmtp_body body, lines
        cdef csmtp_body_scan found
        cdef uint8_t end[5]
        cdef size_t count
        cdef const uint8_t *data
        cdef bytes chunk, sent
        csmtp_body_init(&body, CSMTP_BODY_CRLF | (CSMTP_BODY_DOTS if dots else 0))
        csmtp_body_init(&lines, CSMTP_BODY_CRLF)
        csmtp_body_scan_init(&found)
        for buffer in buffers:
            chunk = as_bytes(buffer)
            data = <const uint8_t *>PyBytes_AS_STRING(chunk)
            count = PyBytes_GET_SIZE(chunk)
            if count == 0:
                continue
            csmtp_body_scan_add(&found, data, count)
            sent = encoded_chunk(&body, chunk)
            # The dots that are added do not count (RFC 1870 section 5).
            self.size += count
            if sent is not chunk:
                self.size += csmtp_body_growth(&lines, data, count)
            lines.last = data[count - 1]
            self._add(sent)
        self.longest_line = found.longest_line
        self.has_nul = found.has_nul
        self.has_8bit = found.has_8bit
        count = csmtp_body_finish(&body, end)
        self.size += count - (3 if dots else 0)
        return PyBytes_FromStringAndSize(<char *>end, count)


@cython.final
cdef class Pipeline:
    """The transactions of one connection, without I/O."""

    def __cinit__(
        self, ReplyBuffer replies not None, int mode, bint lmtp, bint strict, int proof,
        size_t large, /
    ):
        if not 0 <= mode <= 2 or not 0 <= proof <= CSMTP_NEXT:
            raise ValueError(f"invalid mode or step: {mode}, {proof}")
        self._replies = replies
        self._failure = None
        self._pulled = 0
        csmtp_pipeline_init(
            &self.table, &replies._receive, <csmtp_mode>mode, lmtp, strict, <csmtp_step>proof, large
        )

    def __dealloc__(self):
        csmtp_pipeline_free(&self.table, _release)

    # Whatever works with the table acquires the receive buffer, which belongs to the connection.

    def __len__(self):
        self._replies.acquire()
        cdef size_t count = self.table.count
        self._replies.release()
        return count

    @property
    def failure(self):
        self._replies.acquire()
        failure = self._failure
        self._replies.release()
        return failure

    @property
    def strict(self):
        return bool(self.table.strict)

    @property
    def proof(self):
        self._replies.acquire()
        cdef int proof = self.table.steps.proof
        self._replies.release()
        return proof

    @property
    def limit(self):
        self._replies.acquire()
        cdef int limit = self.table.steps.limit
        self._replies.release()
        return limit

    @property
    def doubts(self):
        self._replies.acquire()
        cdef size_t doubts = self.table.steps.doubts
        self._replies.release()
        return doubts

    def learn(self, int proof, int limit, /):
        if not 0 <= proof <= CSMTP_NEXT or not 0 <= limit <= CSMTP_NEXT:
            raise ValueError(f"invalid step: {proof}, {limit}")
        self._replies.acquire()
        csmtp_pipeline_learn(&self.table, <csmtp_step>proof, <csmtp_step>limit)
        self._replies.release()

    @property
    def byte_count(self):
        self._replies.acquire()
        cdef size_t byte_count = self.table.byte_count
        self._replies.release()
        return byte_count

    @property
    def booked(self):
        self._replies.acquire()
        cdef uint64_t booked = self.table.booked
        self._replies.release()
        return booked

    def push(self, tag, commands, Content content not None, /):
        # A copy, so that nobody else can remove a line meanwhile.
        cdef list lines = list(commands)
        cdef Py_ssize_t count = len(lines), number = 0
        cdef csmtp_chunk few[16]
        cdef csmtp_chunk *chunks = few
        cdef bytes line
        cdef bint is_pushed
        if count < 2:
            raise ValueError(TOO_FEW_COMMANDS)
        if count > 16:
            chunks = <csmtp_chunk *>malloc(count * sizeof(csmtp_chunk))
            if chunks == NULL:
                raise MemoryError
        try:
            for line in lines:
                if line is None:
                    raise TypeError("expected bytes for a command, not None")
                chunks[number].bytes = <const uint8_t *>PyBytes_AS_STRING(line)
                chunks[number].count = PyBytes_GET_SIZE(line)
                number += 1
            self._replies.acquire()
            is_pushed = csmtp_pipeline_push(
                &self.table, <void *>tag, <void *>content, chunks, count,
                content._chunks, content._chunk_count, content.terminator
            )
            if is_pushed:
                Py_INCREF(tag)
                Py_INCREF(content)
            self._replies.release()
            if not is_pushed:
                raise MemoryError
        finally:
            if chunks != few:
                free(chunks)

    def send_content(self, Content content=None, /):
        cdef void *owner = <void *>content
        cdef bint is_held = True
        self._replies.acquire()
        if content is not None:
            is_held = csmtp_pipeline_replace(
                &self.table, &owner, content._chunks, content._chunk_count, content.terminator
            )
            if is_held:
                Py_INCREF(content)
        if is_held:
            csmtp_pipeline_send_content(&self.table)
        self._replies.release()
        if not is_held:
            raise ValueError(NOTHING_HELD)
        if content is not None:
            _release(owner)

    def want(self):
        self._replies.acquire()
        cdef unsigned want = csmtp_pipeline_want(&self.table)
        self._replies.release()
        return want

    def phase(self):
        self._replies.acquire()
        cdef int phase = csmtp_pipeline_phase(&self.table)
        self._replies.release()
        return phase

    def pull(self, size_t limit, /):
        self._replies.acquire()
        try:
            return self._pull(limit)
        finally:
            self._replies.release()

    cdef bytes _pull(self, size_t limit):
        cdef csmtp_chunk chunks[GATHERED_CHUNKS]
        if self._pulled > 0:
            limit = min(limit, self._pulled)
        cdef size_t count = csmtp_pipeline_gather(&self.table, chunks, GATHERED_CHUNKS, limit)
        cdef size_t byte_count = 0, number
        for number in range(count):
            byte_count += chunks[number].count
        self._pulled = byte_count
        pulled = PyBytes_FromStringAndSize(NULL, byte_count)
        cdef char *out = PyBytes_AS_STRING(pulled)
        for number in range(count):
            memcpy(out, chunks[number].bytes, chunks[number].count)
            out += chunks[number].count
        csmtp_pipeline_hand(&self.table, byte_count)
        return pulled

    def wrote(self, size_t count, /):
        self._replies.acquire()
        try:
            self._wrote(count)
        finally:
            self._replies.release()

    cdef int _wrote(self, size_t count) except -1:
        if self._failure is not None:
            return 0
        if count > self.table.emitted - self.table.written:
            raise ValueError(WROTE_TOO_MUCH)
        if count > 0:
            self._pulled = 0
        csmtp_pipeline_wrote(&self.table, count)
        return 0

    def receive(self):
        self._replies.acquire()
        try:
            self.handle_received(csmtp_pipeline_receive(&self.table))
        finally:
            self._replies.release()

    cdef int handle_received(self, csmtp_reply_status status) except -1:
        """Decide what an unreadable reply means, and go on if that is possible."""
        while status != CSMTP_REPLY_MORE:
            try:
                code, text = self._replies._unreadable(status)
            except ReplyError as error:
                self._failure = error
                csmtp_pipeline_fail(&self.table, CSMTP_UNREADABLE, True)
                return 0
            csmtp_pipeline_book(
                &self.table, code, <const uint8_t *>PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)
            )
            status = csmtp_pipeline_receive(&self.table)
        return self._set_failure()

    cdef int _set_failure(self) except -1:
        cdef csmtp_fault fault = self.table.fault
        cdef csmtp_stored_reply *reply = &self.table.fault_reply
        if fault == CSMTP_NO_FAULT or self._failure is not None:
            return 0
        if fault == CSMTP_NO_MEMORY:
            self._failure = MemoryError("no memory for the reply of the server")
            return 0
        text = PyBytes_FromStringAndSize(<char *>self.table.texts + reply.text, reply.text_count)
        if fault == CSMTP_CLOSED:
            self._failure = SessionClosed(CLOSED, reply.code, text)
        elif fault == CSMTP_CLOSED_IN_CONTENT:
            self._failure = SessionClosed(CLOSED_IN_CONTENT, reply.code, text)
        elif fault == CSMTP_NO_CHUNKING:
            self._failure = ChunkingRefused(NO_CHUNKING, b"%d %b" % (reply.code, text))
        else:
            self._failure = unexpected(fault - CSMTP_SURPLUS, reply.code, text)
        return 0

    def lose(self, error, /):
        self._replies.acquire()
        self.handle_loss(error)
        self._replies.release()

    cdef void handle_loss(self, object error) noexcept:
        if self._failure is not None:
            return
        if self.table.reset_refused and isinstance(error, END_OF_CONNECTION):
            self._failure = ResetRefused()
            csmtp_pipeline_fail(&self.table, CSMTP_CLOSED, False)
        else:
            self._failure = error
            is_late = isinstance(error, TimeoutError)
            csmtp_pipeline_fail(
                &self.table, CSMTP_TIMEOUT if is_late else CSMTP_UNREADABLE, True
            )

    def end_of_stream(self):
        self._replies.acquire()
        try:
            self.handle_end_of_stream()
        finally:
            self._replies.release()

    cdef int handle_end_of_stream(self) except -1:
        if not self.table.strict and self._replies._end_of_stream():
            self.handle_received(csmtp_pipeline_receive(&self.table))
        self.handle_loss(EOFError("the server closed the connection"))
        return 0

    def take(self):
        self._replies.acquire()
        try:
            return self._take()
        finally:
            self._replies.release()

    cdef list _take(self):
        cdef list completed = []
        cdef const csmtp_message *message = csmtp_pipeline_completed(&self.table)
        cdef size_t index
        cdef dict own_replies
        while message != NULL:
            own_replies = {}
            if message.own_replies > 0:
                for index in range(message.recipient_count):
                    if message.recipients[index].stage != CSMTP_LOST:
                        own_replies[index] = (
                            <int>message.recipients[index].stage,
                            self._reply(&message.recipients[index].reply),
                        )
            reply = None
            if message.stage > CSMTP_IN_DOUBT and message.own_replies < message.recipient_count:
                reply = self._reply(&message.reply)
            completed.append((<object>message.tag, <int>message.stage, reply, own_replies))
            csmtp_pipeline_drop(&self.table, _release)
            message = csmtp_pipeline_completed(&self.table)
        return completed

    cdef tuple _reply(self, const csmtp_stored_reply *reply):
        text = PyBytes_FromStringAndSize(<char *>self.table.texts + reply.text, reply.text_count)
        return reply.code, text
