# cython: language_level=3, boundscheck=False, wraparound=False
# cython: freethreading_compatible=True, subinterpreters_compatible=own_gil
"""Wrap the kernels of csrc/. This module only converts values, and decides nothing."""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcpy

from .errors import MIXED_CODES, ReplyMalformed, ReplyTooLong, unreadable_code


cdef extern from "Python.h":
    # Cython does not declare these.
    int PyUnicode_KIND(object text)
    bint PyUnicode_IS_ASCII(object text)
    void *PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    str PyUnicode_FromObject(object text)
    object PyUnicode_New(Py_ssize_t length, Py_UCS4 maxchar)


cdef enum:
    # Encoding a body of this length takes longer than passing the GIL to another thread.
    RELEASE_GIL_FROM = 65536


@cython.final
cdef class ReplyBuffer:
    """The receive buffer of one connection, and the replies in it."""

    def __cinit__(self, size_t max_line, size_t max_reply, /):
        csmtp_receive_init(&self._receive, max_line, max_reply)

    def __dealloc__(self):
        csmtp_receive_free(&self._receive)

    cdef int raise_in_use(self) except -1:
        raise RuntimeError("two threads use one connection: give each thread its own")

    def __len__(self):
        self.acquire()
        cdef Py_ssize_t count = self._receive.end - self._receive.start
        self.release()
        return count

    def feed(self, data, /):
        cdef bytes received = as_bytes(data)
        self.acquire()
        try:
            self._append(received)
        finally:
            self.release()

    cdef int _append(self, bytes data) except -1:
        cdef size_t count = PyBytes_GET_SIZE(data)
        cdef uint8_t *room = csmtp_receive_reserve(&self._receive, count)
        if room == NULL:
            raise MemoryError
        memcpy(room, PyBytes_AS_STRING(data), count)
        self._receive.end += count
        return 0

    def end_of_stream(self):
        self.acquire()
        try:
            return self._end_of_stream()
        finally:
            self.release()

    cdef bint _end_of_stream(self) except -1:
        cdef csmtp_receive *receive = &self._receive
        if receive.start == receive.end or receive.bytes[receive.end - 1] == c"\n":
            return False
        self._append(b"\n")
        return True

    def peek(self, Py_ssize_t count, /):
        self.acquire()
        try:
            return self._peek(count)
        finally:
            self.release()

    def take(self, Py_ssize_t count, /):
        self.acquire()
        try:
            return self._take(count)
        finally:
            self.release()

    cdef bytes _peek(self, Py_ssize_t count):
        count = min(max(count, 0), <Py_ssize_t>(self._receive.end - self._receive.start))
        return PyBytes_FromStringAndSize(
            <char *>self._receive.bytes + self._receive.start, count
        )

    cdef bytes _take(self, Py_ssize_t count):
        taken = self._peek(count)
        csmtp_receive_drop(&self._receive, PyBytes_GET_SIZE(taken))
        return taken

    def readline(self, Py_ssize_t limit=-1, /):
        self.acquire()
        try:
            return self._readline(limit)
        finally:
            self.release()

    cdef bytes _readline(self, Py_ssize_t limit):
        cdef Py_ssize_t unread = self._receive.end - self._receive.start
        cdef const uint8_t *data = self._receive.bytes + self._receive.start
        cdef const uint8_t *newline = NULL
        if unread > 0:
            newline = <const uint8_t *>memchr(
                data, c"\n", unread if limit < 0 else min(limit, unread)
            )
        if newline != NULL:
            return self._take(newline - data + 1)
        return self._take(limit) if 0 <= limit <= unread else None

    def reply(self):
        self.acquire()
        try:
            return self._reply()
        finally:
            self.release()

    cdef tuple _reply(self):
        cdef csmtp_receive *receive = &self._receive
        cdef csmtp_reply_status status = csmtp_receive_find(receive)
        if status == CSMTP_REPLY_MORE:
            return None
        if status != CSMTP_REPLY_DONE:
            return self._unreadable(status)
        cdef uint8_t *data = receive.bytes + receive.start
        code = receive.scan.code
        # In place, as the bytes of this reply are not needed any more.
        text = PyBytes_FromStringAndSize(
            <char *>data, csmtp_reply_join(data, receive.scan.line, data)
        )
        csmtp_receive_drop(receive, receive.scan.line)
        return code, text

    cdef tuple _unreadable(self, csmtp_reply_status status):
        """Return what replaces an unreadable reply if reading can go on; raise otherwise."""
        if status == CSMTP_REPLY_BAD_CODE:
            reply = self._take(self._receive.scan.line)
            return unreadable_code(reply, _joined(reply))
        if status == CSMTP_REPLY_MIXED_CODES:
            raise ReplyMalformed(
                MIXED_CODES, self._take(self._receive.scan.line)
            )
        too_long = self._take(self._receive.scan.searched)
        if status == CSMTP_REPLY_LINE_TOO_LONG:
            raise ReplyTooLong("Line too long.", too_long)
        raise ReplyTooLong("Reply too long.", too_long)


cdef bytes _joined(bytes reply):
    text = bytearray(reply)
    cdef uint8_t *data = <uint8_t *>PyByteArray_AS_STRING(text)
    return PyBytes_FromStringAndSize(
        <char *>data, csmtp_reply_join(data, PyByteArray_GET_SIZE(text), data)
    )


cdef bytes as_bytes(object data):
    # A copy if need be: another thread could change a bytearray while the GIL is released.
    return <bytes>data if type(data) is bytes else bytes(memoryview(data))


cdef void _encode(
    csmtp_body *body, const uint8_t *data, size_t count, uint8_t *out
) noexcept:
    if count < RELEASE_GIL_FROM:
        csmtp_body_encode(body, data, count, out)
    else:
        with nogil:
            csmtp_body_encode(body, data, count, out)


cdef size_t growth_of(const csmtp_body *body, const uint8_t *data, size_t count) noexcept:
    cdef size_t growth
    if count < RELEASE_GIL_FROM:
        return csmtp_body_growth(body, data, count)
    with nogil:
        growth = csmtp_body_growth(body, data, count)
    return growth


cdef str _as_str(object text):
    # Cython's own check of arguments refuses subclasses, but message headers are subclasses of str.
    if not isinstance(text, str):
        raise TypeError(f"expected str, not {type(text).__name__}")
    return PyUnicode_FromObject(text)


def fix_eols(text, /):
    return _fix_eols(_as_str(text))


cdef str _fix_eols(str text):
    if PyUnicode_KIND(text) != 1:
        # Not even Latin-1: it can't be sent as it is, so this need not be fast.
        return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
    cdef csmtp_body body
    cdef const uint8_t *data = <const uint8_t *>PyUnicode_DATA(text)
    cdef Py_ssize_t count = PyUnicode_GET_LENGTH(text)
    csmtp_body_init(&body, CSMTP_BODY_CRLF)
    cdef size_t growth = growth_of(&body, data, count)
    # csmtp_body_encode() leaves out the LF of a lone CR at the very end.
    cdef bint owes_lf = count > 0 and data[count - 1] == c"\r"
    if growth == 0 and not owes_lf:
        return text
    fixed = PyUnicode_New(count + growth + owes_lf, 127 if PyUnicode_IS_ASCII(text) else 255)
    cdef uint8_t *out = <uint8_t *>PyUnicode_DATA(fixed)
    _encode(&body, data, count, out)
    if owes_lf:
        out[count + growth] = c"\n"
    return fixed


def quote_periods(data, /):
    cdef csmtp_body body
    csmtp_body_init(&body, CSMTP_BODY_DOTS)
    return encoded_chunk(&body, as_bytes(data))


cdef bytes encoded_chunk(csmtp_body *body, bytes chunk):
    """Return the chunk as it is sent: the same object if nothing has to be changed."""
    cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(chunk)
    cdef Py_ssize_t count = PyBytes_GET_SIZE(chunk)
    cdef size_t growth = growth_of(body, data, count)
    if growth == 0:
        csmtp_body_skip(body, data, count)
        return chunk
    encoded = PyBytes_FromStringAndSize(NULL, count + growth)
    _encode(body, data, count, <uint8_t *>PyBytes_AS_STRING(encoded))
    return encoded


@cython.final
cdef class BodyEncoder:
    """Normalise line ends to CR LF and double leading dots, chunk by chunk."""

    cdef csmtp_body _body

    # Two threads that share an encoder may garble the output, but corrupt no memory.

    @cython.critical_section
    def __init__(self, bint dots=True):
        csmtp_body_init(&self._body, CSMTP_BODY_CRLF | (CSMTP_BODY_DOTS if dots else 0))

    def encode(self, data, /):
        # With a copy: whatever another thread does meanwhile, the room that was measured for these
        # bytes must still be enough.
        cdef csmtp_body body
        with cython.critical_section(self):
            body = self._body
        encoded = encoded_chunk(&body, as_bytes(data))
        with cython.critical_section(self):
            self._body = body
        return encoded

    @cython.critical_section
    def finish(self):
        cdef uint8_t end[5]
        return PyBytes_FromStringAndSize(<char *>end, csmtp_body_finish(&self._body, end))


def scan(data, /):
    cdef csmtp_body_scan found
    cdef bytes body = as_bytes(data)
    cdef const uint8_t *first = <const uint8_t *>PyBytes_AS_STRING(body)
    cdef Py_ssize_t count = PyBytes_GET_SIZE(body)
    csmtp_body_scan_init(&found)
    if count < RELEASE_GIL_FROM:
        csmtp_body_scan_add(&found, first, count)
    else:
        with nogil:
            csmtp_body_scan_add(&found, first, count)
    return found.longest_line, bool(found.has_nul), bool(found.has_8bit)


def has_control(text, /):
    cdef Py_UCS4 character
    cdef str exact = _as_str(text)
    if PyUnicode_IS_ASCII(exact):
        return csmtp_find_control(
            <const uint8_t *>PyUnicode_DATA(exact), PyUnicode_GET_LENGTH(exact)
        ) != <size_t>PyUnicode_GET_LENGTH(exact)
    for character in exact:
        if character < 0x20 or character == 0x7F:
            return True
    return False


def is_plain_address(address, /):
    cdef str exact = _as_str(address)
    return bool(PyUnicode_IS_ASCII(exact) and csmtp_is_plain_address(
        <const uint8_t *>PyUnicode_DATA(exact), PyUnicode_GET_LENGTH(exact)
    ))


def envelope_lines(
    str mail not None, sender, str mail_parameters not None,
    str rcpt not None, recipients, str rcpt_parameters not None, /
):
    cdef bytes line = _envelope_line(mail, sender, mail_parameters)
    cdef list lines = [line]
    if line is None:
        return None
    for recipient in recipients:
        line = _envelope_line(rcpt, recipient, rcpt_parameters)
        if line is None:
            return None
        lines.append(line)
    return lines


cdef bytes _envelope_line(str verb, object address, str parameters):
    """Return None if the address or the parameters need a closer look."""
    if type(address) is not str or not PyUnicode_IS_ASCII(address):
        return None
    if not PyUnicode_IS_ASCII(parameters) or not PyUnicode_IS_ASCII(verb):
        return None
    cdef Py_ssize_t counts[5]
    cdef const void *parts[5]
    cdef Py_ssize_t count = 0, number
    parts[0], counts[0] = PyUnicode_DATA(verb), PyUnicode_GET_LENGTH(verb)
    parts[1], counts[1] = PyUnicode_DATA(address), PyUnicode_GET_LENGTH(address)
    parts[2], counts[2] = <const char *>b">", 1
    parts[3], counts[3] = PyUnicode_DATA(parameters), PyUnicode_GET_LENGTH(parameters)
    parts[4], counts[4] = <const char *>b"\r\n", 2
    if not csmtp_is_plain_address(<const uint8_t *>parts[1], counts[1]):
        return None
    if csmtp_find_control(<const uint8_t *>parts[3], counts[3]) != <size_t>counts[3]:
        return None
    for number in range(5):
        count += counts[number]
    line = PyBytes_FromStringAndSize(NULL, count)
    cdef char *out = PyBytes_AS_STRING(line)
    for number in range(5):
        memcpy(out, parts[number], counts[number])
        out += counts[number]
    return line
