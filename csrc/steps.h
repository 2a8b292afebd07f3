/* How early commands may be sent to a host: what it has proved to handle, and what it has not.
 *
 * A step that the host has not proved yet is tried with something that can't be lost: the first
 * envelope, whose refusal is doubted at first; one whole BDAT transaction with no other behind it;
 * a RSET behind the end of a message. If a refusal may be about sending early and not about the
 * message, the pipeline sends the message again, one command at a time. The second reply shows
 * which it was. */
#ifndef CSMTP_STEPS_H
#define CSMTP_STEPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "message.h"

/* How early a command may be sent. A host proves each step before more depends on it. */
typedef enum {
    CSMTP_ALONE,      /* after every reply */
    CSMTP_FLIGHT,     /* with the other commands of its envelope */
    CSMTP_WHOLE,      /* with its whole transaction (BDAT) */
    CSMTP_NEXT        /* behind the end of the message before it */
} csmtp_step;

typedef struct {
    csmtp_mode mode;
    bool lmtp;
    bool strict;         /* see csmtp_pipeline */
    csmtp_step proof;    /* the last step that this host has proved to handle */
    csmtp_step limit;    /* the last step that may be taken or tried */
    size_t doubts;       /* messages whose refusal may be about sending early */
    bool answers_behind; /* the host has answered a RSET behind the end of a message */
} csmtp_steps;

void csmtp_steps_init(csmtp_steps *steps, csmtp_mode mode, bool lmtp, bool strict,
                      csmtp_step proof);

/* The last step of a mode. */
csmtp_step csmtp_last_step(csmtp_mode mode);

/* Lowers the limit, and the proof if it is above that. */
void csmtp_steps_restrict(csmtp_steps *steps, csmtp_step limit);

/* Takes over what other connections to the host have shown. This raises the proof and lowers the
 * limit, never the reverse. */
void csmtp_steps_learn(csmtp_steps *steps, csmtp_step proof, csmtp_step limit);

/* Notes that the host has handled a step. */
void csmtp_steps_prove(csmtp_steps *steps, csmtp_step step);

/* Notes that it has handled the step that the content of a message was sent by. */
void csmtp_steps_prove_content(csmtp_steps *steps, const csmtp_message *message);

/* Whether whole transactions may be sent without waiting for the replies to RCPT. */
static inline bool csmtp_steps_may_stream(const csmtp_steps *steps)
{
    return steps->mode == CSMTP_CHUNKING && steps->limit >= CSMTP_WHOLE &&
           steps->proof >= CSMTP_FLIGHT;
}

/* Whether to send a RSET behind a message now, to see whether the host answers what follows the end
 * of one. */
bool csmtp_steps_should_probe(const csmtp_steps *steps, const csmtp_message *message);

/* Notes the reply to that RSET. */
void csmtp_steps_book_probe(csmtp_steps *steps, bool is_success);

/* Notes that a refusal may be about sending early, if it may. */
void csmtp_steps_doubt(csmtp_steps *steps, csmtp_message *message, csmtp_stage command, int code,
                       const uint8_t *text, size_t count);

/* Notes that a refusal is about what the command says: others sent with it were accepted. */
void csmtp_steps_clear_doubt(csmtp_steps *steps, csmtp_message *message);

/* Draws the conclusion from a message that was sent again, one command at a time. */
void csmtp_steps_resolve_doubt(csmtp_steps *steps, const csmtp_message *message);

#endif
