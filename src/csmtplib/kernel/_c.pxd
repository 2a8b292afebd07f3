# What the kernels in csrc/ declare; their headers say what each does.

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

    void csmtp_reply_scan_init(csmtp_reply_scan *scan)
    csmtp_reply_status csmtp_reply_find(
        csmtp_reply_scan *scan, const uint8_t *octets, size_t count, size_t max_line, size_t max_reply
    )
    size_t csmtp_reply_join(const uint8_t *reply, size_t count, uint8_t *text)


cdef extern from "body.h" nogil:
    enum:
        CSMTP_BODY_CRLF
        CSMTP_BODY_DOTS

    ctypedef struct csmtp_body:
        pass

    ctypedef struct csmtp_body_survey:
        size_t longest_line
        bint has_nul
        bint has_8bit

    void csmtp_body_init(csmtp_body *body, unsigned what)
    size_t csmtp_body_growth(const csmtp_body *body, const uint8_t *octets, size_t count)
    size_t csmtp_body_encode(
        csmtp_body *body, const uint8_t *octets, size_t count, uint8_t *out
    )
    void csmtp_body_skip(csmtp_body *body, const uint8_t *octets, size_t count)
    size_t csmtp_body_finish(csmtp_body *body, uint8_t *out)
    void csmtp_body_survey_init(csmtp_body_survey *survey)
    void csmtp_body_survey_add(csmtp_body_survey *survey, const uint8_t *octets, size_t count)


cdef extern from "command.h" nogil:
    size_t csmtp_find_control(const uint8_t *octets, size_t count)
    bint csmtp_is_plain_address(const uint8_t *octets, size_t count)
