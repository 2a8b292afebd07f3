/* Replies of an SMTP server (RFC 5321 section 4.2): where one ends, and its text. */
#ifndef CSMTP_REPLY_H
#define CSMTP_REPLY_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    CSMTP_REPLY_MORE,          /* no whole reply yet: read on */
    CSMTP_REPLY_DONE,          /* scan->code, and scan->line octets of reply */
    CSMTP_REPLY_BAD_CODE,      /* a line without three digits and SP, "-" or its end */
    CSMTP_REPLY_MIXED_CODES,   /* two lines of one reply differ in their codes */
    CSMTP_REPLY_LINE_TOO_LONG,
    CSMTP_REPLY_TOO_LONG
} csmtp_reply_status;

/* How far the octets of one reply were looked at, so that none is searched twice. */
typedef struct {
    size_t line;     /* where the line that is being read begins */
    size_t searched; /* octets that were searched for the end of that line */
    int code;        /* of the lines before it, -1 while there is none */
} csmtp_reply_scan;

void csmtp_reply_scan_init(csmtp_reply_scan *scan);

/* Looks for the end of the reply that begins at octets[0]. Call it again with the same octets and
 * more behind them while it answers MORE. max_line and max_reply count the line ends too. On DONE,
 * BAD_CODE and MIXED_CODES scan->line is how many octets were used, the offending line included;
 * where something is too long, scan->searched is how many octets were allowed. */
csmtp_reply_status csmtp_reply_find(csmtp_reply_scan *scan, const uint8_t *octets, size_t count,
                                    size_t max_line, size_t max_reply);

/* Joins the texts of the lines in a reply: without code and separator, stripped of SP, TAB, CR and
 * LF at both ends, LF between two lines. text has room for count octets, and may be the reply's own
 * place; returns how many it has. */
size_t csmtp_reply_join(const uint8_t *reply, size_t count, uint8_t *text);

#endif
