/* The transaction table of one connection (RFC 5321 section 3.3, RFC 2920, RFC 3030), without I/O:
 * what to write, what each reply answers, what has become of each message.
 *
 * A driver asks what is wanted, gathers and writes, says how much it wrote, puts what it reads into
 * the receive buffer and has it booked. Messages are pushed at one end, and settled in their order
 * at the other. Nothing is allocated but in csmtp_pipeline_push, unless a reply that has to be kept
 * is longer than any before. */
#ifndef CSMTP_PIPELINE_H
#define CSMTP_PIPELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "receive.h"

/* How many commands may leave before the reply to the first of them is there. */
typedef enum {
    CSMTP_LOCKSTEP,  /* one */
    CSMTP_PIPELINED, /* MAIL, RCPT and DATA, the next message's behind the content */
    CSMTP_CHUNKED    /* whole transactions, by BDAT */
} csmtp_gear;

/* What the decisive reply answered, or how a message ended without one. */
typedef enum {
    CSMTP_LOST,     /* its end had not left, or the server will not come to it any more */
    CSMTP_IN_DOUBT, /* its end had left, and there is no telling */
    CSMTP_MAIL,
    CSMTP_RCPT,
    CSMTP_DATA,
    CSMTP_CONTENT,
    /* Answers that belong to no message: */
    CSMTP_RSET,
    CSMTP_NOBODY /* to the empty message that a server gets which wants one for no recipient */
} csmtp_stage;

enum { CSMTP_WANT_WRITE = 1, CSMTP_WANT_READ = 2 };

/* What is being waited for; each has a time limit of its own. */
typedef enum {
    CSMTP_PHASE_COMMAND,
    CSMTP_PHASE_DATA,
    CSMTP_PHASE_BLOCK, /* for a block of a message to leave */
    CSMTP_PHASE_CONTENT,
    CSMTP_PHASES
} csmtp_phase;

/* Why the connection can't be used on. */
typedef enum {
    CSMTP_SOUND,
    CSMTP_SURPLUS,       /* a reply that answers no command */
    CSMTP_PREMATURE,     /* a refusal in the midst of a message */
    CSMTP_NO_SMTP,       /* a preliminary reply, or none of SMTP's */
    CSMTP_WRONG_SUCCESS, /* good news that can't be the answer to what waits for one */
    CSMTP_CLOSED,        /* 421 */
    CSMTP_CLOSED_AMIDST, /* 421 in the midst of a message */
    CSMTP_NO_CHUNKING,   /* BDAT is not known */
    CSMTP_NO_MEMORY,
    CSMTP_UNREADABLE     /* what csmtp_receive_find says of the buffer; or a driver's fault */
} csmtp_fault;

typedef struct {
    const uint8_t *octets;
    size_t count;
} csmtp_chunk;

/* A reply that is kept: its text is at texts.octets + text. */
typedef struct {
    int code;
    size_t text, text_count;
} csmtp_kept;

typedef struct {
    csmtp_kept reply;
    bool accepted;     /* by RCPT */
    csmtp_stage stage; /* CSMTP_LOST while the message's own reply is this recipient's too */
} csmtp_recipient;

typedef struct csmtp_message {
    struct csmtp_message *next;
    void *tag, *owner; /* the caller's; owner keeps chunks alive */
    const csmtp_chunk *chunks;
    size_t chunk_count, octets;
    int64_t terminator;         /* offset in the content, then in all that is written */
    size_t *command_ends;       /* in commands: of MAIL, each RCPT, DATA or BDAT */
    uint8_t *commands;
    csmtp_recipient *recipients;
    size_t recipient_count, answered, accepted, others, next_final;
    size_t unanswered;          /* replies that are expected for it */
    csmtp_stage stage;
    csmtp_kept reply;
    bool data_ok, begun, sent;
} csmtp_message;

typedef struct {
    uint64_t due; /* how much has to be written for the reply to be the answer */
    csmtp_message *message;
    size_t index;
    csmtp_stage kind;
} csmtp_expected;

typedef struct {
    csmtp_expected *items;
    size_t first, count, room; /* room is a power of two, or 0 */
} csmtp_expected_ring;

typedef struct {
    csmtp_chunk *items;
    size_t first, count, room;
} csmtp_chunk_ring;

typedef struct {
    csmtp_receive *receive; /* the connection's */
    csmtp_gear gear;
    bool lmtp;
    bool strict;            /* replies that RFC 5321 does not have are faults; RSET is sent */
    bool proved;            /* the gear has brought a message through */
    bool held;              /* content that the server has asked for waits to be released */
    size_t large;           /* octets from which on content waits for the replies to RCPT */

    csmtp_message *first;     /* in order: those to be taken, those to be settled */
    csmtp_message *unsettled;
    csmtp_message *unsent;
    csmtp_message *last;
    size_t count;             /* not settled */
    size_t octets;            /* of their contents */
    uint64_t booked;          /* replies so far */

    csmtp_reply_status unreadable; /* what csmtp_pipeline_receive answered last */
    csmtp_fault fault;
    csmtp_phase failed_in;
    csmtp_kept fault_reply;   /* where a reply is the fault; of code 0 where it has but begun. Kept
                                 until a message is dropped */

    csmtp_expected_ring expected;
    csmtp_chunk_ring chunks;
    size_t unsent_replies, unsent_chunks; /* rooms in the rings for those that are not sent yet */
    uint64_t emitted, written;
    unsigned step;
    size_t recipient;
    bool must_reset;

    uint8_t *texts;           /* of replies that are kept, in the order in which they came */
    size_t text_end, text_room, text_settled;
} csmtp_pipeline;

void csmtp_pipeline_init(csmtp_pipeline *pipeline, csmtp_receive *receive, csmtp_gear gear,
                         bool lmtp, bool strict, bool proved, size_t large);

/* Frees all; release is called for the tag and the owner of each message that is left. */
void csmtp_pipeline_free(csmtp_pipeline *pipeline, void (*release)(void *));

/* Adds a message: commands are MAIL and each RCPT, with CR LF; chunks are kept by reference, up to
 * csmtp_pipeline_drop. terminator is the offset in the content from which on it may be complete, -1
 * where it is so before its first octet. False where there is no memory; nothing changes then. */
bool csmtp_pipeline_push(csmtp_pipeline *pipeline, void *tag, void *owner,
                         const csmtp_chunk *commands, size_t command_count,
                         const csmtp_chunk *chunks, size_t chunk_count, int64_t terminator);

/* Without strict, content that the server has asked for by 354 is held until this is called, and so
 * is what BDAT would send where the gear is not proved. */
bool csmtp_pipeline_is_held(const csmtp_pipeline *pipeline);
void csmtp_pipeline_release(csmtp_pipeline *pipeline);

/* What a driver is to do: CSMTP_WANT_WRITE | CSMTP_WANT_READ. */
unsigned csmtp_pipeline_want(const csmtp_pipeline *pipeline);
/* What is being waited for; after a fault, what was then. */
csmtp_phase csmtp_pipeline_phase(const csmtp_pipeline *pipeline);

/* The next octets to write, in at most max_chunks and max_octets; returns how many chunks. */
size_t csmtp_pipeline_gather(const csmtp_pipeline *pipeline, csmtp_chunk *chunks,
                             size_t max_chunks, size_t max_octets);
void csmtp_pipeline_wrote(csmtp_pipeline *pipeline, size_t count);

/* Books the replies in the receive buffer. CSMTP_REPLY_MORE: all that were there, or up to a fault,
 * which pipeline->fault tells. Another status is about the next reply, which is left in the buffer:
 * the caller says what it means, by csmtp_pipeline_book or csmtp_pipeline_fail. */
csmtp_reply_status csmtp_pipeline_receive(csmtp_pipeline *pipeline);

/* Books one reply. */
void csmtp_pipeline_book(csmtp_pipeline *pipeline, int code, const uint8_t *text, size_t count);

/* The connection is lost: settles all messages. in_doubt: the server may have done what it was told
 * and did not answer. */
void csmtp_pipeline_fail(csmtp_pipeline *pipeline, csmtp_fault fault, bool in_doubt);

/* The first message if it is settled, else NULL; it stays readable until it is dropped. */
const csmtp_message *csmtp_pipeline_settled(const csmtp_pipeline *pipeline);
void csmtp_pipeline_drop(csmtp_pipeline *pipeline, void (*release)(void *));

#endif
