/* The receive buffer of one connection, and the replies in it. */
#ifndef CSMTP_RECEIVE_H
#define CSMTP_RECEIVE_H

#include <stddef.h>
#include <stdint.h>

#include "reply.h"

typedef struct {
    uint8_t *octets;
    size_t start, end; /* what was received and not read: octets[start] up to octets[end] */
    size_t room;
    size_t max_line, max_reply;
    csmtp_reply_scan scan; /* of the reply that begins at start */
} csmtp_receive;

/* Allocates nothing yet. max_line and max_reply are as in csmtp_reply_find. */
void csmtp_receive_init(csmtp_receive *receive, size_t max_line, size_t max_reply);
void csmtp_receive_free(csmtp_receive *receive);

/* Room for count more octets behind receive->end, which the caller moves on by what it has put
 * there; NULL where there is no memory. */
uint8_t *csmtp_receive_reserve(csmtp_receive *receive, size_t count);

/* Looks for a whole reply at receive->start; see csmtp_reply_find for what scan tells then. */
csmtp_reply_status csmtp_receive_find(csmtp_receive *receive);

/* Forgets the first count octets, and what was found out about the reply that began there. */
void csmtp_receive_drop(csmtp_receive *receive, size_t count);

#endif
