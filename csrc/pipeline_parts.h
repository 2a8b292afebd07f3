/* What the files pipeline*.c share. Not for drivers. */
#ifndef CSMTP_PIPELINE_PARTS_H
#define CSMTP_PIPELINE_PARTS_H

#include "pipeline.h"

/* What is to be sent next of a message. */
enum { CSMTP_PART_START, CSMTP_PART_MAIL, CSMTP_PART_RCPT, CSMTP_PART_DATA, CSMTP_PART_CONTENT };

/* Returns the reply that is expected next, or NULL. */
static inline csmtp_expected *csmtp_pipeline_head(const csmtp_pipeline *pipeline)
{
    const csmtp_ring *ring = &pipeline->expected;
    return ring->count > 0 ? (csmtp_expected *)ring->items + ring->first : NULL;
}

/* Sends what may be sent by now. */
void csmtp_pipeline_advance(csmtp_pipeline *pipeline);

/* Makes room in the rings for what a message can need. Returns false if there is no memory; then
 * nothing changes. */
bool csmtp_pipeline_reserve(csmtp_pipeline *pipeline, size_t recipient_count, size_t chunk_count);

/* Returns the message that is being sent, or is next to be sent, or NULL. */
static inline csmtp_message *csmtp_pipeline_next_message(const csmtp_pipeline *pipeline)
{
    if (pipeline->current)
        return pipeline->current;
    return pipeline->retry ? pipeline->retry : pipeline->unsent;
}

void csmtp_pipeline_send_reset(csmtp_pipeline *pipeline);

/* Completes the messages at the head that have all their replies, or sends one again. */
void csmtp_pipeline_complete_answered(csmtp_pipeline *pipeline);

/* Completes all messages; no reply will come any more. */
void csmtp_pipeline_complete_all(csmtp_pipeline *pipeline, bool in_doubt);

#endif
