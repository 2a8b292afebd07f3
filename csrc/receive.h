/* The receive buffer of one connection, and the replies in it. */
#ifndef CSMTP_RECEIVE_H
#define CSMTP_RECEIVE_H

#include <stddef.h>
#include <stdint.h>

#include "reply.h"

typedef struct {
    uint8_t *bytes;
    size_t start, end; /* bytes[start] up to bytes[end] were received but not read */
    size_t room;
    size_t max_line, max_reply;
    csmtp_reply_scan scan; /* of the reply that begins at start */
} csmtp_receive;

/* Allocates nothing yet. max_line and max_reply are those of csmtp_reply_find. */
void csmtp_receive_init(csmtp_receive *receive, size_t max_line, size_t max_reply);
void csmtp_receive_free(csmtp_receive *receive);

/* Makes room for count more bytes and returns it, or NULL if there is no memory. The caller adds
 * the number of bytes that it puts there to receive->end. */
uint8_t *csmtp_receive_reserve(csmtp_receive *receive, size_t count);

/* Looks for a complete reply at receive->start; csmtp_reply_find describes what it sets in scan. */
csmtp_reply_status csmtp_receive_find(csmtp_receive *receive);

/* Drops the first count bytes, and what is known about the reply that begins there. */
void csmtp_receive_drop(csmtp_receive *receive, size_t count);

#endif
