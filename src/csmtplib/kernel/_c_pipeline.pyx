# cython: language_level=3, boundscheck=False, wraparound=False
# cython: freethreading_compatible=True, subinterpreters_compatible=own_gil
"""The transaction table of csrc/pipeline.c, wrapped: this module converts, and decides nothing."""

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
    csmtp_body_survey,
    csmtp_body_survey_add,
    csmtp_body_survey_init,
    encoded_chunk,
)
from .errors import ChunkingRefused, ReplyError, SessionClosed, unexpected


cdef enum:
    GATHERED_CHUNKS = 64


cdef void _release(void *owned) noexcept:
    Py_XDECREF(<PyObject *>owned)


@cython.final
cdef class Content:
    """The octets of one message, as they go over the wire."""

    def __cinit__(self, buffers, bint dots, bytes end=None, /):
        # All of it here, and nothing in __init__: from when others can see it, it does not change.
        self._owners = []
        self._chunks = NULL
        self._chunk_count = self.octets = self.size = self.longest_line = 0
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
        text = self.octets
        self._add(end)
        # From where on there is no telling whether the server has it all: the first octet of what
        # may end it, or the last of a chunk that BDAT has counted.
        self.terminator = text if dots else <Py_ssize_t>self.octets - 1

    def __dealloc__(self):
        free(self._chunks)

    cdef int _add(self, bytes chunk) except -1:
        cdef size_t count = PyBytes_GET_SIZE(chunk)
        if count > 0:
            self._owners.append(chunk)
            self._chunks[self._chunk_count].octets = <const uint8_t *>PyBytes_AS_STRING(chunk)
            self._chunks[self._chunk_count].count = count
            self._chunk_count += 1
            self.octets += count
        return 0

    cdef bytes _encode(self, list buffers, bint dots):
        cdef csmtp_body body, lines
        cdef csmtp_body_survey found
        cdef uint8_t end[5]
        cdef size_t count
        cdef const uint8_t *octets
        cdef bytes chunk, sent
        csmtp_body_init(&body, CSMTP_BODY_CRLF | (CSMTP_BODY_DOTS if dots else 0))
        csmtp_body_init(&lines, CSMTP_BODY_CRLF)
        csmtp_body_survey_init(&found)
        for buffer in buffers:
            chunk = as_bytes(buffer)
            octets = <const uint8_t *>PyBytes_AS_STRING(chunk)
            count = PyBytes_GET_SIZE(chunk)
            if count == 0:
                continue
            csmtp_body_survey_add(&found, octets, count)
            sent = encoded_chunk(&body, chunk)
            # Dots that lines gain don't count (RFC 1870 section 5).
            self.size += count
            if sent is not chunk:
                self.size += csmtp_body_growth(&lines, octets, count)
            lines.last = octets[count - 1]
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
        self, ReplyBuffer replies not None, int gear, bint lmtp, bint strict, bint proved,
        size_t large, /
    ):
        self._replies = replies
        self._failure = None
        self._pulled = 0
        csmtp_pipeline_init(
            &self.table, &replies._receive, <csmtp_gear>gear, lmtp, strict, proved, large
        )

    def __dealloc__(self):
        csmtp_pipeline_free(&self.table, _release)

    # Whoever works with the table occupies the receive buffer, which is the connection's.

    def __len__(self):
        self._replies.occupy()
        cdef size_t count = self.table.count
        self._replies.vacate()
        return count

    @property
    def failure(self):
        self._replies.occupy()
        failure = self._failure
        self._replies.vacate()
        return failure

    @property
    def strict(self):
        return bool(self.table.strict)

    @property
    def proved(self):
        self._replies.occupy()
        cdef bint proved = self.table.proved
        self._replies.vacate()
        return bool(proved)

    @property
    def octets(self):
        self._replies.occupy()
        cdef size_t octets = self.table.octets
        self._replies.vacate()
        return octets

    @property
    def booked(self):
        self._replies.occupy()
        cdef uint64_t booked = self.table.booked
        self._replies.vacate()
        return booked

    def push(self, tag, commands, Content content not None, /):
        # A copy: nobody else takes a line out of it meanwhile.
        cdef list lines = list(commands)
        cdef Py_ssize_t count = len(lines), number = 0
        cdef csmtp_chunk few[16]
        cdef csmtp_chunk *chunks = few
        cdef bytes line
        cdef bint is_pushed
        if count < 2:
            raise ValueError("a transaction needs MAIL and at least one RCPT")
        if count > 16:
            chunks = <csmtp_chunk *>malloc(count * sizeof(csmtp_chunk))
            if chunks == NULL:
                raise MemoryError
        try:
            for line in lines:
                chunks[number].octets = <const uint8_t *>PyBytes_AS_STRING(line)
                chunks[number].count = PyBytes_GET_SIZE(line)
                number += 1
            self._replies.occupy()
            is_pushed = csmtp_pipeline_push(
                &self.table, <void *>tag, <void *>content, chunks, count,
                content._chunks, content._chunk_count, content.terminator
            )
            if is_pushed:
                Py_INCREF(tag)
                Py_INCREF(content)
            self._replies.vacate()
            if not is_pushed:
                raise MemoryError
        finally:
            if chunks != few:
                free(chunks)

    def release(self):
        self._replies.occupy()
        csmtp_pipeline_release(&self.table)
        self._replies.vacate()

    def want(self):
        self._replies.occupy()
        cdef unsigned want = csmtp_pipeline_want(&self.table)
        self._replies.vacate()
        return want

    def phase(self):
        self._replies.occupy()
        cdef int phase = csmtp_pipeline_phase(&self.table)
        self._replies.vacate()
        return phase

    def pull(self, size_t limit, /):
        self._replies.occupy()
        try:
            return self._pull(limit)
        finally:
            self._replies.vacate()

    cdef bytes _pull(self, size_t limit):
        cdef csmtp_chunk chunks[GATHERED_CHUNKS]
        if self._pulled > 0:
            limit = min(limit, self._pulled)
        cdef size_t count = csmtp_pipeline_gather(&self.table, chunks, GATHERED_CHUNKS, limit)
        cdef size_t octets = 0, number
        for number in range(count):
            octets += chunks[number].count
        self._pulled = octets
        pulled = PyBytes_FromStringAndSize(NULL, octets)
        cdef char *out = PyBytes_AS_STRING(pulled)
        for number in range(count):
            memcpy(out, chunks[number].octets, chunks[number].count)
            out += chunks[number].count
        return pulled

    def wrote(self, size_t count, /):
        self._replies.occupy()
        try:
            self._wrote(count)
        finally:
            self._replies.vacate()

    cdef int _wrote(self, size_t count) except -1:
        if self._failure is not None:
            return 0
        if count > self.table.emitted - self.table.written:
            raise ValueError("more was written than there is to write")
        if count > 0:
            self._pulled = 0
        csmtp_pipeline_wrote(&self.table, count)
        return 0

    def receive(self):
        self._replies.occupy()
        try:
            self.received(csmtp_pipeline_receive(&self.table))
        finally:
            self._replies.vacate()

    cdef int received(self, csmtp_reply_status status) except -1:
        """Says what an unreadable reply means, and goes on where that can be."""
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
        return self._note_failure()

    cdef int _note_failure(self) except -1:
        cdef csmtp_fault fault = self.table.fault
        cdef csmtp_kept *reply = &self.table.fault_reply
        if fault == CSMTP_SOUND or self._failure is not None:
            return 0
        if fault == CSMTP_NO_MEMORY:
            self._failure = MemoryError("no memory for what the server says")
            return 0
        text = PyBytes_FromStringAndSize(<char *>self.table.texts + reply.text, reply.text_count)
        if fault == CSMTP_CLOSED:
            self._failure = SessionClosed("the server closes the session", reply.code, text)
        elif fault == CSMTP_CLOSED_AMIDST:
            self._failure = SessionClosed(
                "the server refuses a message that it has not got", reply.code, text
            )
        elif fault == CSMTP_NO_CHUNKING:
            self._failure = ChunkingRefused(
                "the server does not know BDAT", b"%d %b" % (reply.code, text)
            )
        else:
            self._failure = unexpected(fault - CSMTP_SURPLUS, reply.code, text)
        return 0

    def lose(self, error, /):
        self._replies.occupy()
        self.lost(error)
        self._replies.vacate()

    cdef void lost(self, object error) noexcept:
        if self._failure is None:
            self._failure = error
            csmtp_pipeline_fail(&self.table, CSMTP_UNREADABLE, True)

    def end_of_stream(self):
        self._replies.occupy()
        try:
            self.ended()
        finally:
            self._replies.vacate()

    cdef int ended(self) except -1:
        if not self.table.strict and self._replies._end_of_stream():
            self.received(csmtp_pipeline_receive(&self.table))
        self.lost(EOFError("the server closed the connection"))
        return 0

    def take(self):
        self._replies.occupy()
        try:
            return self._take()
        finally:
            self._replies.vacate()

    cdef list _take(self):
        cdef list settled = []
        cdef const csmtp_message *message = csmtp_pipeline_settled(&self.table)
        cdef size_t index
        cdef dict others
        while message != NULL:
            others = {}
            if message.others > 0:
                for index in range(message.recipient_count):
                    if message.recipients[index].stage != CSMTP_LOST:
                        others[index] = (
                            <int>message.recipients[index].stage,
                            self._reply(&message.recipients[index].reply),
                        )
            reply = None
            if message.stage > CSMTP_IN_DOUBT and message.others < message.recipient_count:
                reply = self._reply(&message.reply)
            settled.append((<object>message.tag, <int>message.stage, reply, others))
            csmtp_pipeline_drop(&self.table, _release)
            message = csmtp_pipeline_settled(&self.table)
        return settled

    cdef tuple _reply(self, const csmtp_kept *reply):
        text = PyBytes_FromStringAndSize(<char *>self.table.texts + reply.text, reply.text_count)
        return reply.code, text
