/* One message of a pipeline: its commands and content, and what the server has answered. */
#ifndef CSMTP_MESSAGE_H
#define CSMTP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many commands may be sent before the reply to the first of them. */
typedef enum {
    CSMTP_SEQUENTIAL, /* one */
    CSMTP_PIPELINING, /* MAIL, RCPT and DATA; those of the next message follow the content */
    CSMTP_CHUNKING    /* whole transactions, with BDAT */
} csmtp_mode;

/* The command whose reply decided the fate of a message, or how the message ended without one. */
typedef enum {
    CSMTP_LOST,     /* its end was not sent, or the server will not process it any more */
    CSMTP_IN_DOUBT, /* its end was sent, but no reply came */
    CSMTP_MAIL,
    CSMTP_RCPT,
    CSMTP_DATA,
    CSMTP_CONTENT,
    /* Commands that decide nothing about a message: */
    CSMTP_RSET,
    CSMTP_LONE_DOT, /* the "." sent when a server answers 354 although it refused every recipient */
    CSMTP_PROBE     /* the RSET sent behind the end of a message to try CSMTP_NEXT */
} csmtp_stage;

typedef struct {
    const uint8_t *bytes;
    size_t count;
} csmtp_chunk;

/* A stored reply: its text begins at offset `text` in the pipeline's texts. */
typedef struct {
    int code;
    size_t text, text_count;
} csmtp_stored_reply;

typedef struct {
    csmtp_stored_reply reply;
    bool accepted;     /* by RCPT */
    csmtp_stage stage; /* CSMTP_LOST while the message's reply is also this recipient's */
} csmtp_recipient;

typedef struct csmtp_message {
    struct csmtp_message *next;
    void *tag, *owner; /* the caller's; owner keeps chunks alive */
    const csmtp_chunk *chunks;
    size_t chunk_count, byte_count;
    int64_t terminator;     /* the offset in the content from which on it may be complete */
    uint64_t content_start; /* offset of the content in everything written, once it has begun */
    size_t *command_ends;   /* in commands: of MAIL, each RCPT, DATA or BDAT */
    uint8_t *commands;
    csmtp_recipient *recipients;
    size_t recipient_count, answered, accepted, own_replies, next_final;
    size_t unanswered;      /* replies that are expected for this message */
    csmtp_stage stage;
    csmtp_stored_reply reply;
    bool data_ok, content_begun, sent;
    bool sent_early;            /* MAIL was sent before the replies to everything before it */
    bool in_flight;             /* some commands were sent before the replies to others */
    bool has_uncounted_success; /* RCPT got a 2xx code that smtplib does not know */
    bool streamed;              /* the content was sent before the replies to RCPT */
    bool retried;               /* the message is sent again, one command at a time */
    csmtp_stage doubted; /* the command whose refusal may be about sending early, or CSMTP_LOST */
    int doubted_code;
    size_t doubted_recipient; /* whose RCPT it was, if it was one */
    bool doubted_early; /* sent_early at that time */
} csmtp_message;

/* Returns the number of bytes in some chunks. */
size_t csmtp_chunks_length(const csmtp_chunk *chunks, size_t count);

/* Makes a message; see csmtp_pipeline_push. `strict`: write DATA in capitals. Returns NULL if there
 * is no memory. */
csmtp_message *csmtp_message_new(csmtp_mode mode, bool strict, const csmtp_chunk *commands,
                                 size_t command_count, const csmtp_chunk *chunks,
                                 size_t chunk_count);

/* Frees a message; release, unless NULL, is called for its tag and its owner. */
void csmtp_message_free(csmtp_message *message, void (*release)(void *));

/* Forgets every reply to a message, to send it again or to call it unsent. */
void csmtp_message_forget_answers(csmtp_message *message);

/* Whether commands were sent together, and not all were answered. Some hosts lose commands that
 * follow close behind others; then nobody knows which reply answers which command. */
bool csmtp_message_is_cut_short(const csmtp_message *message);

/* Forgets the replies that refused recipients, except 421, which is about the session. */
void csmtp_message_forget_refusals(csmtp_message *message);

/* Whether it is known that no recipient will get the message. */
static inline bool csmtp_message_has_no_recipient(const csmtp_message *message)
{
    return message->stage != CSMTP_LOST ||
           (message->answered == message->recipient_count && message->accepted == 0);
}

#endif
