/* The transactions of one connection (RFC 5321 section 3.3, RFC 2920, RFC 3030), without I/O: what
 * to write, which command each reply answers, what has become of each message.
 *
 * Commands are sent as early as the host has been seen to handle; see steps.h.
 *
 * A driver asks what is wanted, gathers bytes and writes them, reports how many it wrote, puts what
 * it reads into the receive buffer and has the replies booked. Messages are pushed at one end, and
 * completed in order at the other. Memory is allocated in csmtp_pipeline_push only, unless a reply
 * that has to be stored is longer than any before.
 *
 * The code: message.c (one message), steps.c (how early to send), pipeline_send.c (what is sent,
 * and when a message is done), pipeline_answer.c (what replies mean), pipeline.c (the rest of what
 * is declared here). */
#ifndef CSMTP_PIPELINE_H
#define CSMTP_PIPELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "message.h"
#include "receive.h"
#include "ring.h"
#include "steps.h"

enum { CSMTP_WANT_WRITE = 1, CSMTP_WANT_READ = 2 };

/* What the pipeline is waiting for; each has a time limit of its own. */
typedef enum {
    CSMTP_PHASE_COMMAND,
    CSMTP_PHASE_DATA,
    CSMTP_PHASE_BLOCK, /* until a block of a message is written */
    CSMTP_PHASE_CONTENT,
    CSMTP_PHASE_PROBE, /* the reply to the first RSET behind the end of a message */
    CSMTP_PHASE_EARLY, /* the reply to a MAIL that was sent behind the end of a message */
    CSMTP_PHASES
} csmtp_phase;

/* Why the connection can no longer be used. */
typedef enum {
    CSMTP_NO_FAULT,
    CSMTP_SURPLUS,             /* a reply that answers no command */
    CSMTP_PREMATURE,           /* a refusal while a message is being sent */
    CSMTP_INVALID_CODE,        /* a preliminary reply, or a code that SMTP does not have */
    CSMTP_UNEXPECTED_SUCCESS,  /* a success that can't be the reply to the command that waits */
    CSMTP_CLOSED,              /* 421 */
    CSMTP_CLOSED_IN_CONTENT,   /* 421 while a message is being sent */
    CSMTP_NO_CHUNKING,         /* the server does not know BDAT */
    CSMTP_NO_MEMORY,
    CSMTP_TIMEOUT,             /* no reply in time: set by the driver */
    CSMTP_UNREADABLE           /* an error of csmtp_receive_find, or of the driver */
} csmtp_fault;

/* A reply that is expected. */
typedef struct {
    uint64_t due; /* how many bytes have to be written before the reply can be the answer */
    csmtp_message *message;
    size_t index;
    csmtp_stage kind;
} csmtp_expected;

typedef struct {
    csmtp_receive *receive; /* the connection's */
    csmtp_steps steps;
    bool strict;            /* replies that RFC 5321 does not allow are faults; RSET is sent */
    bool held;              /* content that the server has asked for waits to be released */
    size_t large;           /* content of more bytes waits for the replies to RCPT */

    csmtp_message *first;      /* of all: first those completed but not dropped, then the others */
    csmtp_message *incomplete; /* the first of the others */
    csmtp_message *unsent;
    csmtp_message *current;    /* the one being sent; NULL between two */
    csmtp_message *retry;      /* the first that is not completed, if it is sent again */
    csmtp_message *last;
    size_t count;             /* messages that are not completed */
    size_t byte_count;        /* of their contents */
    uint64_t booked;          /* replies so far */

    csmtp_reply_status unreadable; /* what csmtp_pipeline_receive returned last */
    csmtp_fault fault;
    csmtp_phase failed_in;
    csmtp_stored_reply fault_reply; /* if a reply is the fault; its code is 0 if the reply is
                                       incomplete. Kept until a message is dropped */

    csmtp_ring expected;      /* of csmtp_expected */
    csmtp_ring chunks;        /* of csmtp_chunk */
    size_t unsent_replies, unsent_chunks; /* room in the rings that unsent messages may need */
    uint64_t emitted, written;
    uint64_t handed;          /* how many bytes may have been sent: at least those written */
    unsigned part;            /* of the message that is being sent */
    size_t recipient;
    bool must_reset;
    bool reset_refused;       /* the last reply was 554 to RSET */

    uint8_t *texts;           /* of the stored replies, in the order in which they came */
    size_t text_end, text_room, text_completed;
} csmtp_pipeline;

void csmtp_pipeline_init(csmtp_pipeline *pipeline, csmtp_receive *receive, csmtp_mode mode,
                         bool lmtp, bool strict, csmtp_step proof, size_t large);

/* See csmtp_steps_learn. */
void csmtp_pipeline_learn(csmtp_pipeline *pipeline, csmtp_step proof, csmtp_step limit);

/* Frees everything; calls release for the tag and the owner of each message that is left. */
void csmtp_pipeline_free(csmtp_pipeline *pipeline, void (*release)(void *));

/* Adds a message. commands are MAIL and each RCPT, with CR LF; chunks are referenced, not copied,
 * until csmtp_pipeline_drop. terminator is the offset in the content from which on it may be
 * complete, or -1 if it may be complete before its first byte. Returns false if there is no memory;
 * then nothing changes. */
bool csmtp_pipeline_push(csmtp_pipeline *pipeline, void *tag, void *owner,
                         const csmtp_chunk *commands, size_t command_count,
                         const csmtp_chunk *chunks, size_t chunk_count, int64_t terminator);

/* Without strict, content that the server has asked for with 354 is held until it is released. So
 * is content for BDAT while no message has come through that way. */
bool csmtp_pipeline_is_held(const csmtp_pipeline *pipeline);
void csmtp_pipeline_send_content(csmtp_pipeline *pipeline);

/* Replaces the content that is held for DATA by another, of at most as many chunks as its message
 * was pushed with, and puts the former owner into *owner. Returns false if nothing is held; then
 * nothing changes. */
bool csmtp_pipeline_replace(csmtp_pipeline *pipeline, void **owner, const csmtp_chunk *chunks,
                            size_t chunk_count, int64_t terminator);

/* What the driver should do: CSMTP_WANT_WRITE | CSMTP_WANT_READ. */
unsigned csmtp_pipeline_want(const csmtp_pipeline *pipeline);
/* What the pipeline is waiting for; after a fault, what it was waiting for then. */
csmtp_phase csmtp_pipeline_phase(const csmtp_pipeline *pipeline);

/* Gets the next bytes to write, in at most max_chunks and max_bytes. Returns how many chunks. */
size_t csmtp_pipeline_gather(const csmtp_pipeline *pipeline, csmtp_chunk *chunks,
                             size_t max_chunks, size_t max_bytes);
/* Notes that the next count bytes are handed to the system. Until csmtp_pipeline_wrote reports how
 * many it took (0 for none), all of them count as sent if the connection fails: a driver may be
 * interrupted between the two calls. */
void csmtp_pipeline_hand(csmtp_pipeline *pipeline, size_t count);
void csmtp_pipeline_wrote(csmtp_pipeline *pipeline, size_t count);

/* Books the replies in the receive buffer. Returns CSMTP_REPLY_MORE when all complete replies are
 * booked, or after a fault, which pipeline->fault then names. Any other status is about the next
 * reply, which stays in the buffer: the caller says what it means, with csmtp_pipeline_book or
 * csmtp_pipeline_fail. */
csmtp_reply_status csmtp_pipeline_receive(csmtp_pipeline *pipeline);

/* Books one reply. */
void csmtp_pipeline_book(csmtp_pipeline *pipeline, int code, const uint8_t *text, size_t count);

/* Completes all messages, as the connection is lost. in_doubt: the server may have carried out
 * commands that it did not answer. */
void csmtp_pipeline_fail(csmtp_pipeline *pipeline, csmtp_fault fault, bool in_doubt);

/* Returns the first message if it is completed, else NULL. It is readable until it is dropped. */
const csmtp_message *csmtp_pipeline_completed(const csmtp_pipeline *pipeline);
void csmtp_pipeline_drop(csmtp_pipeline *pipeline, void (*release)(void *));

#endif
