#include "pipeline_parts.h"

#include <stdlib.h>
#include <string.h>

void csmtp_pipeline_init(csmtp_pipeline *pipeline, csmtp_receive *receive, csmtp_mode mode,
                         bool lmtp, bool strict, csmtp_step proof, size_t large)
{
    memset(pipeline, 0, sizeof *pipeline);
    pipeline->receive = receive;
    csmtp_steps_init(&pipeline->steps, mode, lmtp, strict, proof);
    pipeline->strict = strict;
    pipeline->held = !strict && !(mode == CSMTP_CHUNKING && proof > CSMTP_ALONE);
    pipeline->large = large;
}

void csmtp_pipeline_free(csmtp_pipeline *pipeline, void (*release)(void *))
{
    while (pipeline->first) {
        csmtp_message *message = pipeline->first;
        pipeline->first = message->next;
        csmtp_message_free(message, release);
    }
    free(pipeline->expected.items);
    free(pipeline->chunks.items);
    free(pipeline->texts);
    const csmtp_steps *steps = &pipeline->steps;
    csmtp_pipeline_init(pipeline, pipeline->receive, steps->mode, steps->lmtp, pipeline->strict,
                        steps->proof, pipeline->large);
}

void csmtp_pipeline_learn(csmtp_pipeline *pipeline, csmtp_step proof, csmtp_step limit)
{
    csmtp_steps_learn(&pipeline->steps, proof, limit);
    if (!pipeline->fault)
        csmtp_pipeline_advance(pipeline);
}

bool csmtp_pipeline_push(csmtp_pipeline *pipeline, void *tag, void *owner,
                         const csmtp_chunk *commands, size_t command_count,
                         const csmtp_chunk *chunks, size_t chunk_count, int64_t terminator)
{
    csmtp_message *message =
        csmtp_message_new(pipeline->steps.mode, pipeline->strict, commands, command_count, chunks,
                          chunk_count);
    if (!message)
        return false;
    if (!csmtp_pipeline_reserve(pipeline, message->recipient_count, chunk_count)) {
        csmtp_message_free(message, NULL);
        return false;
    }
    message->tag = tag;
    message->owner = owner;
    message->terminator = terminator;

    if (pipeline->last)
        pipeline->last->next = message;
    pipeline->last = message;
    if (!pipeline->first)
        pipeline->first = message;
    if (!pipeline->incomplete)
        pipeline->incomplete = message;
    pipeline->count++;
    pipeline->byte_count += message->byte_count;
    if (pipeline->fault) {
        csmtp_pipeline_complete_all(pipeline, false);
        return true;
    }
    if (!pipeline->unsent)
        pipeline->unsent = message;
    csmtp_pipeline_advance(pipeline);
    return true;
}

void csmtp_pipeline_send_content(csmtp_pipeline *pipeline)
{
    pipeline->held = false;
    if (!pipeline->fault)
        csmtp_pipeline_advance(pipeline);
}

bool csmtp_pipeline_replace(csmtp_pipeline *pipeline, void **owner, const csmtp_chunk *chunks,
                            size_t chunk_count, int64_t terminator)
{
    csmtp_message *message = csmtp_pipeline_next_message(pipeline);
    /* BDAT has announced the size. */
    if (!csmtp_pipeline_is_held(pipeline) || pipeline->steps.mode == CSMTP_CHUNKING ||
        chunk_count > message->chunk_count)
        return false;
    void *former = message->owner;
    message->owner = *owner;
    *owner = former;
    pipeline->byte_count -= message->byte_count;
    pipeline->unsent_chunks -= message->chunk_count - chunk_count;
    message->chunks = chunks;
    message->chunk_count = chunk_count;
    message->byte_count = csmtp_chunks_length(chunks, chunk_count);
    message->terminator = terminator;
    pipeline->byte_count += message->byte_count;
    return true;
}

unsigned csmtp_pipeline_want(const csmtp_pipeline *pipeline)
{
    return (pipeline->chunks.count > 0 ? CSMTP_WANT_WRITE : 0u) |
           (pipeline->expected.count > 0 ? CSMTP_WANT_READ : 0u);
}

csmtp_phase csmtp_pipeline_phase(const csmtp_pipeline *pipeline)
{
    const csmtp_expected *head = csmtp_pipeline_head(pipeline);
    if (pipeline->fault)
        return pipeline->failed_in;
    if (!head || head->due > pipeline->written)
        return CSMTP_PHASE_BLOCK;
    if (head->kind == CSMTP_DATA)
        return CSMTP_PHASE_DATA;
    if (head->kind == CSMTP_PROBE)
        return CSMTP_PHASE_PROBE;
    if (head->kind == CSMTP_MAIL && head->message->sent_early &&
        pipeline->steps.mode != CSMTP_CHUNKING)
        return CSMTP_PHASE_EARLY;
    return head->kind == CSMTP_CONTENT || head->kind == CSMTP_LONE_DOT ? CSMTP_PHASE_CONTENT
                                                                       : CSMTP_PHASE_COMMAND;
}

size_t csmtp_pipeline_gather(const csmtp_pipeline *pipeline, csmtp_chunk *chunks,
                             size_t max_chunks, size_t max_bytes)
{
    const csmtp_ring *ring = &pipeline->chunks;
    const csmtp_chunk *waiting = ring->items;
    size_t filled = 0;
    while (filled < max_chunks && filled < ring->count && max_bytes > 0) {
        csmtp_chunk chunk = waiting[csmtp_ring_index(ring, filled)];
        if (chunk.count > max_bytes)
            chunk.count = max_bytes;
        max_bytes -= chunk.count;
        chunks[filled++] = chunk;
    }
    return filled;
}

void csmtp_pipeline_hand(csmtp_pipeline *pipeline, size_t count)
{
    pipeline->handed = pipeline->written + count;
}

void csmtp_pipeline_wrote(csmtp_pipeline *pipeline, size_t count)
{
    csmtp_ring *ring = &pipeline->chunks;
    csmtp_chunk *chunks = ring->items;
    pipeline->handed = pipeline->written += count;
    while (count > 0 && ring->count > 0) { /* it is empty if the pipeline failed meanwhile */
        csmtp_chunk *first = &chunks[ring->first];
        if (count < first->count) {
            first->bytes += count;
            first->count -= count;
            return;
        }
        count -= first->count;
        csmtp_ring_drop_first(ring);
    }
}

const csmtp_message *csmtp_pipeline_completed(const csmtp_pipeline *pipeline)
{
    return pipeline->first != pipeline->incomplete ? pipeline->first : NULL;
}

/* Drops the texts of completed messages. Those that are left belong to messages that are not
 * completed: few, usually none. They move to the front. */
static void drop_texts(csmtp_pipeline *pipeline)
{
    size_t gone = pipeline->text_completed;
    pipeline->text_end -= gone;
    memmove(pipeline->texts, pipeline->texts + gone, pipeline->text_end);
    pipeline->text_completed = 0;
    if (pipeline->text_end == 0)
        return;
    for (csmtp_message *each = pipeline->first; each; each = each->next) {
        if (each->reply.text_count > 0)
            each->reply.text -= gone;
        for (size_t i = 0; i < each->recipient_count && each->own_replies > 0; i++)
            if (each->recipients[i].stage != CSMTP_LOST)
                each->recipients[i].reply.text -= gone;
    }
}

void csmtp_pipeline_drop(csmtp_pipeline *pipeline, void (*release)(void *))
{
    csmtp_message *message = pipeline->first;
    pipeline->first = message->next;
    if (!pipeline->first)
        pipeline->last = NULL;
    if (pipeline->first == pipeline->incomplete && pipeline->text_completed > 0)
        drop_texts(pipeline);
    csmtp_message_free(message, release);
}
