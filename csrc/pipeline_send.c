/* What a pipeline sends and when, up to where a message is done. */
#include "pipeline_parts.h"

/* Replies and chunks that one message can have waiting in addition to those of its recipients and
 * buffers: MAIL, DATA or BDAT, the content, a lone dot, and RSET before, behind and after it. */
enum { EXTRA_ITEMS = 8 };

static const char rset[] = "RSET\r\n", lone_dot[] = ".\r\n";

static void send(csmtp_pipeline *pipeline, const void *bytes, size_t count)
{
    csmtp_ring *ring = &pipeline->chunks;
    csmtp_chunk *chunks = ring->items;
    if (count == 0)
        return;
    pipeline->emitted += count;
    if (ring->count > 0) {
        /* The commands of one message follow each other in memory. */
        csmtp_chunk *last = &chunks[csmtp_ring_index(ring, ring->count - 1)];
        if (last->bytes + last->count == (const uint8_t *)bytes) {
            last->count += count;
            return;
        }
    }
    chunks[csmtp_ring_append(ring)] = (csmtp_chunk){bytes, count};
}

static void expect(csmtp_pipeline *pipeline, csmtp_stage kind, csmtp_message *message, size_t index)
{
    csmtp_expected *expected = pipeline->expected.items;
    expected[csmtp_ring_append(&pipeline->expected)] =
        (csmtp_expected){pipeline->emitted, message, index, kind};
    if (message)
        message->unanswered++;
}

static void send_reset_for(csmtp_pipeline *pipeline, csmtp_stage kind)
{
    pipeline->must_reset = false;
    send(pipeline, rset, sizeof rset - 1);
    expect(pipeline, kind, NULL, 0);
}

void csmtp_pipeline_send_reset(csmtp_pipeline *pipeline)
{
    send_reset_for(pipeline, CSMTP_RSET);
}

static void send_command(csmtp_pipeline *pipeline, const csmtp_message *message, size_t number)
{
    size_t start = number > 0 ? message->command_ends[number - 1] : 0;
    send(pipeline, message->commands + start, message->command_ends[number] - start);
}

static void send_content(csmtp_pipeline *pipeline, csmtp_message *message)
{
    if (pipeline->steps.mode == CSMTP_CHUNKING) {
        /* If BDAT fails, what becomes of the transaction is up to the server (RFC 3030 section 2),
         * and another message must not be sent in it. */
        pipeline->must_reset = true;
        send_command(pipeline, message, 1 + message->recipient_count);
    } else if (message->accepted == 0) {
        /* The server wants a message for no recipient. It gets an empty one and nothing else. */
        send(pipeline, lone_dot, sizeof lone_dot - 1);
        expect(pipeline, CSMTP_LONE_DOT, message, 0);
        return;
    }
    message->content_begun = true;
    message->streamed = message->answered < message->recipient_count;
    message->content_start = pipeline->emitted;
    for (size_t i = 0; i < message->chunk_count; i++)
        send(pipeline, message->chunks[i].bytes, message->chunks[i].count);
    expect(pipeline, CSMTP_CONTENT, message, 0);
    if (csmtp_steps_should_probe(&pipeline->steps, message))
        send_reset_for(pipeline, CSMTP_PROBE);
}

/* Sends the next part of a message. Returns false after the last. */
static bool send_next_part(csmtp_pipeline *pipeline, csmtp_message *message)
{
    switch (pipeline->part) {
    case CSMTP_PART_START:
        pipeline->part = CSMTP_PART_MAIL;
        pipeline->current = message;
        message->sent_early = pipeline->expected.count > 0;
        if (pipeline->must_reset)
            csmtp_pipeline_send_reset(pipeline);
        return true;
    case CSMTP_PART_MAIL:
        pipeline->part = CSMTP_PART_RCPT;
        pipeline->recipient = 0;
        send_command(pipeline, message, 0);
        expect(pipeline, CSMTP_MAIL, message, 0);
        return true;
    case CSMTP_PART_RCPT:
        if (message->stage == CSMTP_MAIL)
            break;
        message->in_flight = message->in_flight || pipeline->expected.count > 0;
        send_command(pipeline, message, 1 + pipeline->recipient);
        expect(pipeline, CSMTP_RCPT, message, pipeline->recipient);
        if (++pipeline->recipient == message->recipient_count) {
            bool is_chunked = pipeline->steps.mode == CSMTP_CHUNKING;
            pipeline->part = is_chunked ? CSMTP_PART_CONTENT : CSMTP_PART_DATA;
        }
        return true;
    default:
        break;
    }
    if (csmtp_message_has_no_recipient(message) && !message->data_ok) {
        /* The transaction may still be open. */
        if (pipeline->strict)
            csmtp_pipeline_send_reset(pipeline);
        return false;
    }
    if (pipeline->part == CSMTP_PART_DATA) {
        pipeline->part = CSMTP_PART_CONTENT;
        send_command(pipeline, message, 1 + message->recipient_count);
        expect(pipeline, CSMTP_DATA, message, 0);
        return true;
    }
    send_content(pipeline, message);
    return false;
}

bool csmtp_pipeline_is_held(const csmtp_pipeline *pipeline)
{
    const csmtp_message *message = csmtp_pipeline_next_message(pipeline);
    return pipeline->held && pipeline->part == CSMTP_PART_CONTENT && message &&
           message->accepted > 0 && pipeline->expected.count == 0 &&
           (message->data_ok || pipeline->steps.mode == CSMTP_CHUNKING);
}

/* Whether the next part of a message must wait, usually for replies to what was sent before. */
static bool must_wait(const csmtp_pipeline *pipeline, const csmtp_message *message)
{
    const csmtp_steps *steps = &pipeline->steps;
    if (pipeline->expected.count == 0)
        return csmtp_pipeline_is_held(pipeline);
    if (steps->limit == CSMTP_ALONE || message->retried)
        return true;
    if (pipeline->part == CSMTP_PART_START) {
        /* If an LMTP server sent too few replies to a message, its replies to the next one would be
         * taken for the missing ones. */
        bool may_follow = steps->proof == CSMTP_NEXT ||
                          (steps->answers_behind && message->byte_count > pipeline->large);
        return !may_follow || steps->lmtp || steps->doubts > 0;
    }
    if (pipeline->part != CSMTP_PART_CONTENT)
        return false;
    return !csmtp_steps_may_stream(steps) || message->byte_count > pipeline->large;
}

void csmtp_pipeline_advance(csmtp_pipeline *pipeline)
{
    csmtp_message *message;
    while ((message = csmtp_pipeline_next_message(pipeline)) && !must_wait(pipeline, message)) {
        if (send_next_part(pipeline, message))
            continue;
        if (message == pipeline->retry)
            pipeline->retry = NULL;
        else
            pipeline->unsent = message->next;
        pipeline->unsent_replies -= 1 + message->recipient_count + EXTRA_ITEMS;
        pipeline->unsent_chunks -=
            1 + message->recipient_count + message->chunk_count + EXTRA_ITEMS;
        pipeline->part = CSMTP_PART_START;
        pipeline->current = NULL;
        message->sent = true;
        csmtp_pipeline_complete_answered(pipeline);
    }
}

bool csmtp_pipeline_reserve(csmtp_pipeline *pipeline, size_t recipient_count, size_t chunk_count)
{
    size_t replies = pipeline->unsent_replies + 1 + recipient_count + EXTRA_ITEMS;
    size_t chunks = pipeline->unsent_chunks + 1 + recipient_count + chunk_count + EXTRA_ITEMS;
    if (!csmtp_ring_reserve(&pipeline->expected, replies, sizeof(csmtp_expected)) ||
        !csmtp_ring_reserve(&pipeline->chunks, chunks, sizeof(csmtp_chunk)))
        return false;
    pipeline->unsent_replies = replies;
    pipeline->unsent_chunks = chunks;
    return true;
}

static void complete(csmtp_pipeline *pipeline, csmtp_message *message)
{
    pipeline->incomplete = message->next;
    pipeline->count--;
    pipeline->byte_count -= message->byte_count;
    /* Texts are stored in the order of the messages, except those of a message that is sent again:
     * they come after texts of messages behind it. */
    if (!pipeline->strict || (pipeline->steps.doubts == 0 && !message->retried))
        pipeline->text_completed = pipeline->text_end;
    if (message->own_replies == message->recipient_count) {
        message->stage = CSMTP_RCPT;
        for (size_t i = 0; i < message->recipient_count; i++)
            if (message->recipients[i].stage > message->stage)
                message->stage = message->recipients[i].stage;
        message->reply = (csmtp_stored_reply){0};
    }
}

/* Starts to send a message again, one command at a time. */
static void retry(csmtp_pipeline *pipeline, csmtp_message *message)
{
    if (!csmtp_pipeline_reserve(pipeline, message->recipient_count, message->chunk_count)) {
        csmtp_pipeline_fail(pipeline, CSMTP_NO_MEMORY, true);
        return;
    }
    csmtp_message_forget_answers(message);
    message->retried = true;
    pipeline->retry = message;
}

void csmtp_pipeline_complete_answered(csmtp_pipeline *pipeline)
{
    csmtp_message *message;
    while ((message = pipeline->incomplete) && message->sent && message->unanswered == 0) {
        if (message->doubted && pipeline->strict) {
            if (!message->retried) {
                retry(pipeline, message);
                return;
            }
            csmtp_steps_resolve_doubt(&pipeline->steps, message);
        }
        complete(pipeline, message);
    }
}

void csmtp_pipeline_complete_all(csmtp_pipeline *pipeline, bool in_doubt)
{
    uint64_t left = pipeline->handed > pipeline->written ? pipeline->handed : pipeline->written;
    while (pipeline->incomplete) {
        csmtp_message *message = pipeline->incomplete;
        if (message->doubted && !message->retried && pipeline->strict)
            csmtp_message_forget_answers(message);
        else if (pipeline->strict && csmtp_message_is_cut_short(message))
            csmtp_message_forget_refusals(message);
        int64_t content_left = (int64_t)(left - message->content_start);
        bool has_left = message->content_begun && content_left > message->terminator;
        if (in_doubt && message->stage == CSMTP_LOST && has_left)
            message->stage = CSMTP_IN_DOUBT;
        complete(pipeline, message);
    }
    pipeline->unsent = pipeline->retry = pipeline->current = NULL;
    pipeline->unsent_replies = pipeline->unsent_chunks = 0;
}

/* Returns the last step that is not under suspicion after the loss of the connection. */
static csmtp_step limit_after_fault(const csmtp_pipeline *pipeline)
{
    bool is_silent = pipeline->fault == CSMTP_TIMEOUT;
    switch (pipeline->failed_in) {
    case CSMTP_PHASE_PROBE:
        return CSMTP_WHOLE;
    case CSMTP_PHASE_EARLY:
        return is_silent ? CSMTP_WHOLE : CSMTP_NEXT;
    case CSMTP_PHASE_COMMAND:
    case CSMTP_PHASE_DATA:
        /* The host has answered some commands but not all: some hosts lose commands that follow
         * close behind others. */
        return is_silent && pipeline->steps.proof < CSMTP_FLIGHT && pipeline->booked > 0
                   ? CSMTP_ALONE
                   : CSMTP_NEXT;
    default:
        return CSMTP_NEXT;
    }
}

void csmtp_pipeline_fail(csmtp_pipeline *pipeline, csmtp_fault fault, bool in_doubt)
{
    if (pipeline->fault)
        return;
    pipeline->failed_in = csmtp_pipeline_phase(pipeline);
    pipeline->fault = fault;
    csmtp_steps_restrict(&pipeline->steps, limit_after_fault(pipeline));
    csmtp_pipeline_complete_all(pipeline, in_doubt);
    pipeline->expected.count = 0;
    pipeline->chunks.count = 0;
}
