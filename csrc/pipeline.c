#include "pipeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is to be sent next of a message. */
enum { START, MAIL, RCPT, DATA, CONTENT };

/* Replies and chunks beside those of its recipients and buffers that one message can have waiting:
 * MAIL, DATA or BDAT, the content, a lone dot, and RSET before, behind and after it. */
enum { BESIDE = 8 };

static const char rset[] = "RSET\r\n", lone_dot[] = ".\r\n";

/* Rings. They grow when a message is pushed, by what it can need. */

static size_t room_for(size_t room, size_t count)
{
    if (room == 0)
        room = 16;
    while (room < count)
        room *= 2;
    return room;
}

static bool reserve_expected(csmtp_expected_ring *ring, size_t more)
{
    if (ring->count + more <= ring->room)
        return true;
    size_t room = room_for(ring->room, ring->count + more);
    csmtp_expected *items = malloc(room * sizeof *items);
    if (!items)
        return false;
    for (size_t i = 0; i < ring->count; i++)
        items[i] = ring->items[(ring->first + i) & (ring->room - 1)];
    free(ring->items);
    *ring = (csmtp_expected_ring){items, 0, ring->count, room};
    return true;
}

static bool reserve_chunks(csmtp_chunk_ring *ring, size_t more)
{
    if (ring->count + more <= ring->room)
        return true;
    size_t room = room_for(ring->room, ring->count + more);
    csmtp_chunk *items = malloc(room * sizeof *items);
    if (!items)
        return false;
    for (size_t i = 0; i < ring->count; i++)
        items[i] = ring->items[(ring->first + i) & (ring->room - 1)];
    free(ring->items);
    *ring = (csmtp_chunk_ring){items, 0, ring->count, room};
    return true;
}

static csmtp_expected *head_of(const csmtp_pipeline *pipeline)
{
    const csmtp_expected_ring *ring = &pipeline->expected;
    return ring->count > 0 ? &ring->items[ring->first] : NULL;
}

void csmtp_pipeline_init(csmtp_pipeline *pipeline, csmtp_receive *receive, csmtp_gear gear,
                         bool lmtp, bool strict, bool proved, size_t large)
{
    memset(pipeline, 0, sizeof *pipeline);
    pipeline->receive = receive;
    pipeline->gear = gear;
    pipeline->lmtp = lmtp;
    pipeline->strict = strict;
    pipeline->proved = proved;
    pipeline->held = !strict && !(gear == CSMTP_CHUNKED && proved);
    pipeline->large = large;
}

static void free_message(csmtp_message *message, void (*release)(void *))
{
    if (release) {
        release(message->tag);
        release(message->owner);
    }
    free(message);
}

void csmtp_pipeline_free(csmtp_pipeline *pipeline, void (*release)(void *))
{
    while (pipeline->first) {
        csmtp_message *message = pipeline->first;
        pipeline->first = message->next;
        free_message(message, release);
    }
    free(pipeline->expected.items);
    free(pipeline->chunks.items);
    free(pipeline->texts);
    csmtp_pipeline_init(pipeline, pipeline->receive, pipeline->gear, pipeline->lmtp,
                        pipeline->strict, pipeline->proved, pipeline->large);
}

/* What leaves */

static void send(csmtp_pipeline *pipeline, const void *octets, size_t count)
{
    csmtp_chunk_ring *ring = &pipeline->chunks;
    if (count == 0)
        return;
    pipeline->emitted += count;
    if (ring->count > 0) {
        /* Commands of one message stand side by side. */
        csmtp_chunk *last = &ring->items[(ring->first + ring->count - 1) & (ring->room - 1)];
        if (last->octets + last->count == (const uint8_t *)octets) {
            last->count += count;
            return;
        }
    }
    ring->items[(ring->first + ring->count++) & (ring->room - 1)] = (csmtp_chunk){octets, count};
}

static void expect(csmtp_pipeline *pipeline, csmtp_stage kind, csmtp_message *message, size_t index)
{
    csmtp_expected_ring *ring = &pipeline->expected;
    ring->items[(ring->first + ring->count++) & (ring->room - 1)] =
        (csmtp_expected){pipeline->emitted, message, index, kind};
    if (message)
        message->unanswered++;
}

static void send_reset(csmtp_pipeline *pipeline)
{
    send(pipeline, rset, sizeof rset - 1);
    expect(pipeline, CSMTP_RSET, NULL, 0);
}

static void send_command(csmtp_pipeline *pipeline, const csmtp_message *message, size_t number)
{
    size_t start = number > 0 ? message->command_ends[number - 1] : 0;
    send(pipeline, message->commands + start, message->command_ends[number] - start);
}

static void send_content(csmtp_pipeline *pipeline, csmtp_message *message)
{
    if (pipeline->gear == CSMTP_CHUNKED) {
        /* What becomes of a transaction whose BDAT fails is up to the server (RFC 3030 section 2),
         * and another message must not be sent in it. */
        pipeline->must_reset = true;
        send_command(pipeline, message, 1 + message->recipient_count);
    } else if (message->accepted == 0) {
        /* The server wants a message for nobody; it gets an empty one, and that is all it gets. */
        send(pipeline, lone_dot, sizeof lone_dot - 1);
        expect(pipeline, CSMTP_NOBODY, message, 0);
        return;
    }
    message->begun = true;
    message->terminator += (int64_t)pipeline->emitted;
    for (size_t i = 0; i < message->chunk_count; i++)
        send(pipeline, message->chunks[i].octets, message->chunks[i].count);
    expect(pipeline, CSMTP_CONTENT, message, 0);
}

/* Whether it is known that the message is for nobody any more. */
static bool nobody_is_left(const csmtp_message *message)
{
    return message->stage != CSMTP_LOST ||
           (message->answered == message->recipient_count && message->accepted == 0);
}

/* Sends what comes next of a message; false where there is nothing more of it. */
static bool step_on(csmtp_pipeline *pipeline, csmtp_message *message)
{
    switch (pipeline->step) {
    case START:
        pipeline->step = MAIL;
        if (pipeline->must_reset) {
            pipeline->must_reset = false;
            send_reset(pipeline);
        }
        return true;
    case MAIL:
        pipeline->step = RCPT;
        pipeline->recipient = 0;
        send_command(pipeline, message, 0);
        expect(pipeline, CSMTP_MAIL, message, 0);
        return true;
    case RCPT:
        if (message->stage == CSMTP_MAIL)
            break;
        send_command(pipeline, message, 1 + pipeline->recipient);
        expect(pipeline, CSMTP_RCPT, message, pipeline->recipient);
        if (++pipeline->recipient == message->recipient_count)
            pipeline->step = pipeline->gear == CSMTP_CHUNKED ? CONTENT : DATA;
        return true;
    default:
        break;
    }
    if (nobody_is_left(message) && !message->data_ok) {
        /* The transaction may still be open. */
        if (pipeline->strict)
            send_reset(pipeline);
        return false;
    }
    if (pipeline->step == DATA) {
        pipeline->step = CONTENT;
        send_command(pipeline, message, 1 + message->recipient_count);
        expect(pipeline, CSMTP_DATA, message, 0);
        return true;
    }
    send_content(pipeline, message);
    return false;
}

bool csmtp_pipeline_is_held(const csmtp_pipeline *pipeline)
{
    const csmtp_message *message = pipeline->unsent;
    return pipeline->held && pipeline->step == CONTENT && message && message->accepted > 0 &&
           (message->data_ok || pipeline->gear == CSMTP_CHUNKED) && pipeline->expected.count == 0;
}

/* Whether the next step waits for something: mostly for the answers to those before. */
static bool waits(const csmtp_pipeline *pipeline)
{
    if (pipeline->expected.count == 0)
        return csmtp_pipeline_is_held(pipeline);
    if (pipeline->gear == CSMTP_LOCKSTEP)
        return true;
    if (pipeline->step == START) {
        /* An LMTP server that answers for fewer recipients than it should would have what it says
         * to the next message taken for the rest. */
        return !pipeline->proved || pipeline->lmtp;
    }
    if (pipeline->step != CONTENT)
        return false;
    bool is_streamed = pipeline->gear == CSMTP_CHUNKED && pipeline->proved;
    return !is_streamed || pipeline->unsent->octets > pipeline->large;
}

static void settle_answered(csmtp_pipeline *pipeline);

static void advance(csmtp_pipeline *pipeline)
{
    while (pipeline->unsent && !waits(pipeline)) {
        csmtp_message *message = pipeline->unsent;
        if (step_on(pipeline, message))
            continue;
        pipeline->unsent = message->next;
        pipeline->unsent_replies -= 1 + message->recipient_count + BESIDE;
        pipeline->unsent_chunks -= 1 + message->recipient_count + message->chunk_count + BESIDE;
        pipeline->step = START;
        message->sent = true;
        settle_answered(pipeline);
    }
}

/* Messages */

static csmtp_message *new_message(const csmtp_pipeline *pipeline, const csmtp_chunk *commands,
                                  size_t command_count, const csmtp_chunk *chunks,
                                  size_t chunk_count)
{
    size_t octets = 0, command_octets = 0;
    for (size_t i = 0; i < chunk_count; i++)
        octets += chunks[i].count;
    for (size_t i = 0; i < command_count; i++)
        command_octets += commands[i].count;
    char last[sizeof "BDAT  LAST\r\n" + 20] = "DATA\r\n";
    if (pipeline->gear == CSMTP_CHUNKED)
        snprintf(last, sizeof last, "BDAT %zu LAST\r\n", octets);
    else if (!pipeline->strict)
        memcpy(last, "data", 4); /* as smtplib writes it, like the commands that it is given */
    size_t last_count = strlen(last);

    size_t recipient_count = command_count - 1;
    size_t recipients = sizeof(csmtp_message);
    size_t ends = recipients + recipient_count * sizeof(csmtp_recipient);
    size_t text = ends + (command_count + 1) * sizeof(size_t);
    csmtp_message *message = malloc(text + command_octets + last_count);
    if (!message)
        return NULL;
    memset(message, 0, ends);
    uint8_t *block = (uint8_t *)message;
    message->recipients = (void *)(block + recipients);
    message->command_ends = (void *)(block + ends);
    message->commands = block + text;
    message->recipient_count = recipient_count;
    message->chunks = chunks;
    message->chunk_count = chunk_count;
    message->octets = octets;
    size_t end = 0;
    for (size_t i = 0; i < command_count; i++) {
        memcpy(message->commands + end, commands[i].octets, commands[i].count);
        message->command_ends[i] = end += commands[i].count;
    }
    memcpy(message->commands + end, last, last_count);
    message->command_ends[command_count] = end + last_count;
    return message;
}

static void settle_all(csmtp_pipeline *pipeline, bool in_doubt);

bool csmtp_pipeline_push(csmtp_pipeline *pipeline, void *tag, void *owner,
                         const csmtp_chunk *commands, size_t command_count,
                         const csmtp_chunk *chunks, size_t chunk_count, int64_t terminator)
{
    size_t replies = pipeline->unsent_replies + command_count + BESIDE;
    size_t sent = pipeline->unsent_chunks + command_count + chunk_count + BESIDE;
    if (!reserve_expected(&pipeline->expected, replies) || !reserve_chunks(&pipeline->chunks, sent))
        return false;
    csmtp_message *message = new_message(pipeline, commands, command_count, chunks, chunk_count);
    if (!message)
        return false;
    message->tag = tag;
    message->owner = owner;
    message->terminator = terminator;

    if (pipeline->last)
        pipeline->last->next = message;
    pipeline->last = message;
    if (!pipeline->first)
        pipeline->first = message;
    if (!pipeline->unsettled)
        pipeline->unsettled = message;
    pipeline->count++;
    pipeline->octets += message->octets;
    if (pipeline->fault) {
        settle_all(pipeline, false);
        return true;
    }
    if (!pipeline->unsent)
        pipeline->unsent = message;
    pipeline->unsent_replies = replies;
    pipeline->unsent_chunks = sent;
    advance(pipeline);
    return true;
}

static void settle(csmtp_pipeline *pipeline, csmtp_message *message)
{
    pipeline->unsettled = message->next;
    pipeline->count--;
    pipeline->octets -= message->octets;
    pipeline->text_settled = pipeline->text_end;
    if (message->others == message->recipient_count) {
        /* Each has an answer of its own. */
        message->stage = CSMTP_RCPT;
        for (size_t i = 0; i < message->recipient_count; i++)
            if (message->recipients[i].stage > message->stage)
                message->stage = message->recipients[i].stage;
        message->reply = (csmtp_kept){0};
    }
}

static void settle_answered(csmtp_pipeline *pipeline)
{
    while (pipeline->unsettled && pipeline->unsettled->sent &&
           pipeline->unsettled->unanswered == 0)
        settle(pipeline, pipeline->unsettled);
}

static void settle_all(csmtp_pipeline *pipeline, bool in_doubt)
{
    while (pipeline->unsettled) {
        csmtp_message *message = pipeline->unsettled;
        bool has_left = message->begun && (int64_t)pipeline->written > message->terminator;
        if (in_doubt && message->stage == CSMTP_LOST && has_left)
            message->stage = CSMTP_IN_DOUBT;
        settle(pipeline, message);
    }
    pipeline->unsent = NULL;
    pipeline->unsent_replies = pipeline->unsent_chunks = 0;
}

void csmtp_pipeline_fail(csmtp_pipeline *pipeline, csmtp_fault fault, bool in_doubt)
{
    if (pipeline->fault)
        return;
    pipeline->failed_in = csmtp_pipeline_phase(pipeline);
    pipeline->fault = fault;
    settle_all(pipeline, in_doubt);
    pipeline->expected.count = 0;
    pipeline->chunks.count = 0;
}

const csmtp_message *csmtp_pipeline_settled(const csmtp_pipeline *pipeline)
{
    return pipeline->first != pipeline->unsettled ? pipeline->first : NULL;
}

void csmtp_pipeline_drop(csmtp_pipeline *pipeline, void (*release)(void *))
{
    csmtp_message *message = pipeline->first;
    pipeline->first = message->next;
    if (!pipeline->first)
        pipeline->last = NULL;
    if (pipeline->first == pipeline->unsettled && pipeline->text_settled > 0) {
        /* All that is left of the texts belongs to messages that are not settled: few, mostly none.
         * Their places move with them. */
        size_t gone = pipeline->text_settled;
        pipeline->text_end -= gone;
        memmove(pipeline->texts, pipeline->texts + gone, pipeline->text_end);
        pipeline->text_settled = 0;
        for (csmtp_message *each = pipeline->first; each; each = each->next) {
            if (pipeline->text_end == 0)
                break;
            if (each->reply.text_count > 0)
                each->reply.text -= gone;
            for (size_t i = 0; i < each->recipient_count && each->others > 0; i++)
                if (each->recipients[i].stage != CSMTP_LOST)
                    each->recipients[i].reply.text -= gone;
        }
    }
    free_message(message, release);
}

void csmtp_pipeline_release(csmtp_pipeline *pipeline)
{
    pipeline->held = false;
    if (!pipeline->fault)
        advance(pipeline);
}

/* For the driver */

unsigned csmtp_pipeline_want(const csmtp_pipeline *pipeline)
{
    return (pipeline->chunks.count > 0 ? CSMTP_WANT_WRITE : 0u) |
           (pipeline->expected.count > 0 ? CSMTP_WANT_READ : 0u);
}

csmtp_phase csmtp_pipeline_phase(const csmtp_pipeline *pipeline)
{
    const csmtp_expected *head = head_of(pipeline);
    if (pipeline->fault)
        return pipeline->failed_in;
    if (!head || head->due > pipeline->written)
        return CSMTP_PHASE_BLOCK;
    if (head->kind == CSMTP_DATA)
        return CSMTP_PHASE_DATA;
    return head->kind == CSMTP_CONTENT || head->kind == CSMTP_NOBODY ? CSMTP_PHASE_CONTENT
                                                                     : CSMTP_PHASE_COMMAND;
}

size_t csmtp_pipeline_gather(const csmtp_pipeline *pipeline, csmtp_chunk *chunks,
                             size_t max_chunks, size_t max_octets)
{
    const csmtp_chunk_ring *ring = &pipeline->chunks;
    size_t filled = 0;
    while (filled < max_chunks && filled < ring->count && max_octets > 0) {
        csmtp_chunk chunk = ring->items[(ring->first + filled) & (ring->room - 1)];
        if (chunk.count > max_octets)
            chunk.count = max_octets;
        max_octets -= chunk.count;
        chunks[filled++] = chunk;
    }
    return filled;
}

void csmtp_pipeline_wrote(csmtp_pipeline *pipeline, size_t count)
{
    csmtp_chunk_ring *ring = &pipeline->chunks;
    pipeline->written += count;
    while (count > 0 && ring->count > 0) { /* there are none where it has failed meanwhile */
        csmtp_chunk *first = &ring->items[ring->first];
        if (count < first->count) {
            first->octets += count;
            first->count -= count;
            return;
        }
        count -= first->count;
        ring->first = (ring->first + 1) & (ring->room - 1);
        ring->count--;
    }
}

/* What comes */

/* Keeps a reply; false, and a fault, where there is no memory. */
static bool keep(csmtp_pipeline *pipeline, csmtp_kept *kept, int code, const uint8_t *text,
                 size_t count)
{
    if (count > pipeline->text_room - pipeline->text_end) {
        size_t room = 2 * (pipeline->text_end + count) + 1024;
        uint8_t *larger = realloc(pipeline->texts, room);
        if (!larger) {
            csmtp_pipeline_fail(pipeline, CSMTP_NO_MEMORY, true);
            return false;
        }
        pipeline->texts = larger;
        pipeline->text_room = room;
    }
    if (count > 0)
        memcpy(pipeline->texts + pipeline->text_end, text, count);
    *kept = (csmtp_kept){code, pipeline->text_end, count};
    pipeline->text_end += count;
    return true;
}

static void refuse(csmtp_pipeline *pipeline, csmtp_fault fault, int code, const uint8_t *text,
                   size_t count)
{
    bool is_closed = fault == CSMTP_CLOSED || fault == CSMTP_NO_CHUNKING;
    if (!pipeline->fault && keep(pipeline, &pipeline->fault_reply, code, text, count))
        csmtp_pipeline_fail(pipeline, fault, !is_closed);
}

/* Whether a reply that is no refusal can be the answer to what it is taken for. To book it all the
 * same would be to call a message accepted that was never sent. */
static bool may_answer(const csmtp_expected *head, int code)
{
    if (code >= 400)
        return true;
    switch (head->kind) {
    case CSMTP_MAIL:
        return code == 250;
    case CSMTP_RCPT:
        return (code == 250 || code == 251) && head->message->stage != CSMTP_MAIL;
    case CSMTP_DATA:
        return code == 354;
    default:
        return code <= 299;
    }
}

static void keep_for(csmtp_pipeline *pipeline, csmtp_message *message, size_t index,
                     csmtp_stage stage, int code, const uint8_t *text, size_t count)
{
    csmtp_recipient *recipient = &message->recipients[index];
    if (!keep(pipeline, &recipient->reply, code, text, count))
        return;
    recipient->stage = stage;
    message->others++;
}

static void keep_message(csmtp_pipeline *pipeline, csmtp_message *message, csmtp_stage stage,
                         int code, const uint8_t *text, size_t count)
{
    if (keep(pipeline, &message->reply, code, text, count))
        message->stage = stage;
}

static void answer_content(csmtp_pipeline *pipeline, csmtp_message *message, int code,
                           const uint8_t *text, size_t count)
{
    if (message->accepted > 0 && message->stage == CSMTP_LOST &&
        message->others < message->recipient_count)
        keep_message(pipeline, message, CSMTP_CONTENT, code, text, count);
    if (code >= 200 && code <= 299) {
        pipeline->proved = true;
    } else if (pipeline->strict && pipeline->must_reset && pipeline->step == START &&
               code != 421 && !pipeline->fault) {
        /* Nothing that waits may find the transaction open. */
        pipeline->must_reset = false;
        send_reset(pipeline);
    }
}

/* One reply a recipient (RFC 2033 section 4.2). Whether there are more to come. */
static bool answer_next_recipient(csmtp_pipeline *pipeline, csmtp_message *message, int code,
                                  const uint8_t *text, size_t count)
{
    while (!message->recipients[message->next_final].accepted)
        message->next_final++;
    keep_for(pipeline, message, message->next_final++, CSMTP_CONTENT, code, text, count);
    message->answered++;
    pipeline->proved |= code >= 200 && code <= 299;
    bool has_more = message->answered - message->recipient_count < message->accepted;
    if (code == 421 && has_more && message->stage == CSMTP_LOST)
        message->stage = CSMTP_IN_DOUBT; /* it has the message, and may have stored it for them */
    return has_more;
}

static void answer(csmtp_pipeline *pipeline, csmtp_expected head, int code, const uint8_t *text,
                   size_t count)
{
    csmtp_message *message = head.message;
    bool is_content = head.kind == CSMTP_CONTENT && message->accepted > 0;
    if (is_content && pipeline->gear == CSMTP_CHUNKED && !pipeline->proved &&
        message->answered == message->recipient_count && code >= 500 && code <= 504) {
        refuse(pipeline, CSMTP_NO_CHUNKING, code, text, count);
        return;
    }
    if (is_content && pipeline->lmtp && message->accepted > 1 &&
        answer_next_recipient(pipeline, message, code, text, count))
        return;
    csmtp_expected_ring *ring = &pipeline->expected;
    if (ring->count > 0) { /* none where there was no memory */
        ring->first = (ring->first + 1) & (ring->room - 1);
        ring->count--;
    }
    if (!message)
        return;
    message->unanswered--;
    switch (head.kind) {
    case CSMTP_MAIL:
        if (code != 250)
            keep_message(pipeline, message, CSMTP_MAIL, code, text, count);
        break;
    case CSMTP_RCPT:
        message->answered++;
        if (code == 250 || code == 251) {
            message->recipients[head.index].accepted = true;
            message->accepted++;
        } else if (message->stage != CSMTP_MAIL) {
            keep_for(pipeline, message, head.index, CSMTP_RCPT, code, text, count);
        }
        break;
    case CSMTP_DATA:
        message->data_ok = code == 354;
        if (message->data_ok) {
            /* It would deliver whatever comes next, in the name of whom it refused. */
            if (message->stage == CSMTP_MAIL && message->accepted > 0)
                refuse(pipeline, CSMTP_WRONG_SUCCESS, code, text, count);
        } else if (message->stage == CSMTP_LOST) {
            keep_message(pipeline, message, CSMTP_DATA, code, text, count);
        }
        break;
    case CSMTP_CONTENT:
        answer_content(pipeline, message, code, text, count);
        break;
    default:
        break;
    }
}

void csmtp_pipeline_book(csmtp_pipeline *pipeline, int code, const uint8_t *text, size_t count)
{
    pipeline->booked++;
    csmtp_expected *head = head_of(pipeline);
    bool is_due = head && head->due <= pipeline->written;
    if (head && !is_due && head->kind == CSMTP_CONTENT && code >= 400) {
        /* In the midst of the message: the server has heard enough. */
        if (head->message->stage == CSMTP_LOST)
            keep_message(pipeline, head->message, CSMTP_CONTENT, code, text, count);
        refuse(pipeline, code == 421 ? CSMTP_CLOSED_AMIDST : CSMTP_PREMATURE, code, text, count);
        return;
    }
    if (!is_due) {
        refuse(pipeline, code == 421 ? CSMTP_CLOSED : CSMTP_SURPLUS, code, text, count);
        return;
    }
    if (pipeline->strict ? code < 200 || code > 599 : code >= 100 && code <= 199) {
        refuse(pipeline, CSMTP_NO_SMTP, code, text, count);
        return;
    }
    if (pipeline->strict && !may_answer(head, code)) {
        refuse(pipeline, CSMTP_WRONG_SUCCESS, code, text, count);
        return;
    }
    answer(pipeline, *head, code, text, count);
    if (code == 421)
        refuse(pipeline, CSMTP_CLOSED, code, text, count);
    if (pipeline->fault)
        return;
    settle_answered(pipeline);
    advance(pipeline);
}

/* What has begun and answers nothing would be taken for the answer to what is written next. */
static void refuse_surplus(csmtp_pipeline *pipeline)
{
    const csmtp_receive *receive = pipeline->receive;
    const csmtp_expected *head = head_of(pipeline);
    const uint8_t *octets = receive->octets + receive->start;
    size_t count = receive->end - receive->start;
    if (!pipeline->strict || count == 0 || (head && head->due <= pipeline->written))
        return;
    bool is_content = head && head->kind == CSMTP_CONTENT;
    if (is_content && (octets[0] == '4' || octets[0] == '5'))
        return; /* a refusal in the midst of the message, which can't be taken for more than that */
    if (memcmp(octets, "421", count < 3 ? count : 3) == 0) {
        size_t text = count < 4 ? count : 4;
        refuse(pipeline, CSMTP_CLOSED, 421, octets + text, count - text);
        return;
    }
    refuse(pipeline, CSMTP_SURPLUS, 0, octets, count);
}

csmtp_reply_status csmtp_pipeline_receive(csmtp_pipeline *pipeline)
{
    csmtp_receive *receive = pipeline->receive;
    while (!pipeline->fault) {
        csmtp_reply_status status = csmtp_receive_find(receive);
        if (status == CSMTP_REPLY_MORE)
            refuse_surplus(pipeline);
        if (status != CSMTP_REPLY_DONE)
            return pipeline->unreadable = status;
        int code = receive->scan.code;
        size_t line = receive->scan.line;
        uint8_t *octets = receive->octets + receive->start;
        /* In place: the octets of this reply are not needed any more. */
        size_t count = csmtp_reply_join(octets, line, octets);
        csmtp_pipeline_book(pipeline, code, octets, count);
        csmtp_receive_drop(receive, line);
    }
    return pipeline->unreadable = CSMTP_REPLY_MORE;
}
