/* Finds the end and the text of a reply (RFC 5321 section 4.2). */
#ifndef CSMTP_REPLY_H
#define CSMTP_REPLY_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    CSMTP_REPLY_MORE,          /* the reply is not complete: read on */
    CSMTP_REPLY_DONE,          /* a reply of scan->line bytes with the code scan->code */
    CSMTP_REPLY_BAD_CODE,      /* a line that has no three digits followed by SP, "-" or its end */
    CSMTP_REPLY_MIXED_CODES,   /* lines of one reply have different codes */
    CSMTP_REPLY_LINE_TOO_LONG,
    CSMTP_REPLY_TOO_LONG
} csmtp_reply_status;

/* How far one reply was searched, so that no byte is searched twice. */
typedef struct {
    size_t line;     /* where the current line begins */
    size_t searched; /* up to where its end was searched for */
    int code;        /* of the lines before it, or -1 if there are none */
} csmtp_reply_scan;

void csmtp_reply_scan_init(csmtp_reply_scan *scan);

/* Looks for the end of the reply that begins at bytes[0]. While it returns MORE, call it again
 * with the same bytes and more behind them. max_line and max_reply include the line ends. After
 * DONE, BAD_CODE and MIXED_CODES, scan->line is the number of bytes used, including the offending
 * line. If something is too long, scan->searched is the number of bytes allowed. */
csmtp_reply_status csmtp_reply_find(csmtp_reply_scan *scan, const uint8_t *bytes, size_t count,
                                    size_t max_line, size_t max_reply);

/* Joins the texts of the lines of a reply: without code and separator, stripped of SP, TAB, CR and
 * LF at both ends, with LF between two lines. text must have room for count bytes, and may be the
 * same memory as reply. Returns the length of the text. */
size_t csmtp_reply_join(const uint8_t *reply, size_t count, uint8_t *text);

#endif
