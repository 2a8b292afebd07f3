/* libFuzzer target: the pipeline and the receive buffer, with a server that sends anything.
 *
 * Input: two bytes that choose the session, then bytes that each choose the next step: push, write
 * so much, hand it over without knowing what was written, send a reply, drop what is completed,
 * fail. A model that knows nothing of the pipeline reads the commands that are sent and the replies
 * that come. */
#include <assert.h>

#include "check.h"
#include "pipeline.h"
#include "reference.h"

enum {
    MAX_LINE = 60,
    MAX_REPLY = 120,
    MESSAGES = 24,
    RECIPIENTS = 4,
    CONTENT = 16,
    /* More than the size of all messages. */
    STREAM = 1 << 12,
    ANSWERS = 1 << 9,
    CHUNKS = 1 << 9
};

typedef struct {
    size_t number, recipients, released[2]; /* the tag, the owner */
    uint8_t *content;
    size_t count, text; /* text: bytes before what may end it */
    csmtp_chunk chunks[4];

    size_t named;                /* RCPT that were sent */
    size_t begins, ends;         /* of the content in the stream; SIZE_MAX before it is there */
    size_t answered, accepted, finals;
    bool mail_ok, mail_refused, data_ok, is_accepted[RECIPIENTS], is_final[RECIPIENTS];
    bool is_retried; /* sent again, one command at a time */
    bool was_refused_early; /* by a reply that may be about the order of commands */
    int final_codes[RECIPIENTS];
    size_t texts[RECIPIENTS]; /* of the replies; 0 for one from the input */
    int content_code;
    size_t content_text;
} message;

typedef enum { TO_MAIL, TO_RCPT, TO_DATA, TO_CONTENT, TO_LONE_DOT, TO_RSET } command;

typedef struct {
    command command;
    message *message;
    size_t index, due;
} expected;

typedef struct {
    csmtp_pipeline pipeline;
    csmtp_receive receive;
    csmtp_mode mode;
    csmtp_step proof, limit;
    bool lmtp, strict, is_released, in_doubt;
    bool is_open; /* BDAT has been sent, and no RSET since */
    size_t large;

    message messages[MESSAGES];
    size_t pushed, begun, completed;

    uint8_t stream[STREAM]; /* everything that was to be sent so far */
    size_t emitted, parsed, written, handed;
    message *current;

    expected expected[ANSWERS];
    size_t answered, asked;

    uint8_t inbox[2 * MAX_REPLY]; /* the beginning of a reply */
    size_t received;
} model;

static void release_tag_or_owner(void *pointer)
{
    size_t *released = pointer;
    ++*released;
}

/* What is sent */

static bool takes(model *model, const char *word)
{
    size_t count = strlen(word);
    if (model->emitted - model->parsed < count ||
        memcmp(model->stream + model->parsed, word, count) != 0)
        return false;
    model->parsed += count;
    return true;
}

static void ask(model *model, command command, message *message, size_t index)
{
    assert(model->asked < ANSWERS);
    model->expected[model->asked++] = (expected){command, message, index, model->parsed};
    bool is_sequential = model->mode == CSMTP_SEQUENTIAL || (message && message->is_retried);
    assert(!is_sequential || model->asked - model->answered == 1);
}

/* A message is sent again: no reply to it counts any more. */
static void take_again(model *model, message *message)
{
    assert(model->strict && !message->is_retried && message->was_refused_early);
    message->is_retried = true;
    message->named = message->answered = message->accepted = message->finals = 0;
    message->begins = message->ends = SIZE_MAX;
    message->mail_ok = message->mail_refused = message->data_ok = false;
    message->content_code = 0;
    memset(message->is_accepted, 0, sizeof message->is_accepted);
    memset(message->is_final, 0, sizeof message->is_final);
    memset(message->texts, 0, sizeof message->texts);
}

static message *next_or_again(model *model)
{
    char line[64];
    snprintf(line, sizeof line, "%zu\r\n", model->begun + 1);
    if (takes(model, line)) {
        assert(++model->begun <= model->pushed);
        return &model->messages[model->begun - 1];
    }
    for (size_t number = model->completed + 1; number <= model->begun; number++) {
        snprintf(line, sizeof line, "%zu\r\n", number);
        if (takes(model, line)) {
            take_again(model, &model->messages[number - 1]);
            return &model->messages[number - 1];
        }
    }
    abort();
}

static void take_content(model *model, message *message)
{
    assert(message->begins == SIZE_MAX && model->emitted - model->parsed >= message->count);
    assert(memcmp(model->stream + model->parsed, message->content, message->count) == 0);
    message->begins = model->parsed;
    message->ends = model->parsed += message->count;
    ask(model, TO_CONTENT, message, 0);
}

static void take_line(model *model)
{
    message *message = model->current;
    bool is_idle = model->answered == model->asked;
    char line[64];
    if (takes(model, "RSET\r\n")) {
        ask(model, TO_RSET, NULL, 0);
        model->is_open = false;
        model->current = NULL;
        return;
    }
    if (takes(model, "M")) {
        /* The next in order; it may follow its RSET at once. */
        bool is_reset = model->asked - model->answered == 1 &&
                        model->expected[model->answered].command == TO_RSET;
        assert(!model->is_open);
        model->current = message = next_or_again(model);
        bool is_large = model->pipeline.steps.answers_behind && message->count > model->large;
        bool may_follow = model->pipeline.steps.proof == CSMTP_NEXT || is_large;
        assert(is_idle || (!message->is_retried && (is_reset || (may_follow && !model->lmtp))));
        ask(model, TO_MAIL, message, 0);
        return;
    }
    assert(message && message->begins == SIZE_MAX);
    snprintf(line, sizeof line, "R%zu.%zu\r\n", message->number, message->named + 1);
    if (takes(model, line)) {
        assert(message->named < message->recipients);
        ask(model, TO_RCPT, message, message->named++);
        return;
    }
    assert(message->named == message->recipients);
    if (model->mode == CSMTP_CHUNKING) {
        bool is_streamed = model->pipeline.steps.proof >= CSMTP_FLIGHT && !message->is_retried &&
                           model->limit >= CSMTP_WHOLE && message->count <= model->large;
        assert(is_streamed ||
               (is_idle && message->answered == message->recipients && message->accepted > 0));
        snprintf(line, sizeof line, "BDAT %zu LAST\r\n", message->count);
        assert(takes(model, line));
        take_content(model, message);
        model->is_open = true;
    } else if (takes(model, model->strict ? "DATA\r\n" : "data\r\n")) {
        ask(model, TO_DATA, message, 0);
    } else {
        /* The server has asked for it, and all recipients are answered. */
        assert(is_idle);
        assert(message->data_ok && message->answered == message->recipients);
        if (message->accepted == 0) {
            assert(takes(model, ".\r\n"));
            ask(model, TO_LONE_DOT, message, 0);
            message->begins = SIZE_MAX - 1;
        } else {
            assert(message->mail_ok && (model->strict || model->is_released));
            take_content(model, message);
        }
    }
}

/* Compares what is to be written with the stream, and adds new bytes to that. */
static void look(model *model)
{
    static csmtp_chunk chunks[CHUNKS];
    const csmtp_pipeline *pipeline = &model->pipeline;
    if (pipeline->fault) {
        assert(csmtp_pipeline_want(pipeline) == 0 && pipeline->count == 0 &&
               pipeline->byte_count == 0);
        assert(csmtp_pipeline_gather(pipeline, chunks, CHUNKS, SIZE_MAX) == 0);
        return;
    }
    assert(pipeline->steps.proof <= pipeline->steps.limit && pipeline->steps.limit <= model->limit);
    model->proof = pipeline->steps.proof;
    model->limit = pipeline->steps.limit;
    size_t filled = csmtp_pipeline_gather(pipeline, chunks, CHUNKS, SIZE_MAX);
    size_t place = model->written;
    for (size_t i = 0; i < filled; i++) {
        assert(chunks[i].count > 0 && place + chunks[i].count <= STREAM);
        for (size_t k = 0; k < chunks[i].count; k++, place++) {
            assert(place >= model->emitted || model->stream[place] == chunks[i].bytes[k]);
            model->stream[place] = chunks[i].bytes[k];
        }
    }
    assert(filled < CHUNKS && place >= model->emitted);
    assert(pipeline->emitted == place && pipeline->written == model->written);
    model->emitted = place;
    while (model->parsed < model->emitted)
        take_line(model);
    unsigned want = csmtp_pipeline_want(pipeline);
    assert(!(want & CSMTP_WANT_WRITE) == (place == model->written));
    assert(!(want & CSMTP_WANT_READ) == (model->answered == model->asked));
    assert(csmtp_pipeline_phase(pipeline) < CSMTP_PHASES);
}

static void write_bytes(model *model, size_t max_bytes, size_t max_chunks)
{
    csmtp_chunk chunks[CHUNKS];
    if (model->pipeline.fault) {
        /* A driver that was writing still reports it. */
        csmtp_pipeline_wrote(&model->pipeline, max_bytes < STREAM ? max_bytes : STREAM);
        return;
    }
    size_t filled = csmtp_pipeline_gather(&model->pipeline, chunks, max_chunks, max_bytes);
    size_t count = 0;
    for (size_t i = 0; i < filled; i++) {
        assert(memcmp(model->stream + model->written + count, chunks[i].bytes,
                      chunks[i].count) == 0);
        count += chunks[i].count;
    }
    assert(filled <= max_chunks && count <= max_bytes);
    model->written += count;
    model->handed = model->written;
    csmtp_pipeline_wrote(&model->pipeline, count);
}

/* Hands bytes to a system that does not report yet how many it has taken. */
static void hand_bytes(model *model, size_t count)
{
    size_t left = model->emitted - model->written;
    if (count > left)
        count = left;
    if (!model->pipeline.fault)
        model->handed = model->written + count;
    csmtp_pipeline_hand(&model->pipeline, count);
}

/* What comes */

static const expected *head_of(const model *model)
{
    return model->answered < model->asked ? &model->expected[model->answered] : NULL;
}

/* Whether a part of the message whose reply is next was sent, and not all of it. */
static bool is_amidst(const model *model, const expected *head)
{
    if (!head || head->command != TO_CONTENT || head->due <= model->written)
        return false;
    size_t begins = head->message->begins;
    char line[64];
    if (model->mode == CSMTP_CHUNKING)
        begins -= (size_t)snprintf(line, sizeof line, "BDAT %zu LAST\r\n", head->message->count);
    return model->written > begins;
}

/* Returns a copy of a stored text, in memory of its exact size; there is none before the first. */
static uint8_t *new_text(const model *model, const csmtp_stored_reply *reply)
{
    const uint8_t *texts = model->pipeline.texts;
    assert(texts || reply->text + reply->text_count == 0);
    return exact_copy(texts ? texts + reply->text : (const uint8_t *)"", reply->text_count);
}

/* Compares a stored reply with what the server sent; number is its text, unless it is 0. All of the
 * stored text is read, so that ASan sees if it is missing. */
static void check_reply(const model *model, const csmtp_stored_reply *reply, int code,
                        size_t number)
{
    char expected[16];
    int count = snprintf(expected, sizeof expected, "%zu", number);
    uint8_t *text = new_text(model, reply);
    assert(reply->code == code);
    assert(number == 0 || same(text, reply->text_count, (uint8_t *)expected, (size_t)count));
    free(text);
}

static void note_final(message *message, int code, size_t text)
{
    size_t i = 0;
    while (!message->is_accepted[i] || message->is_final[i])
        i++;
    assert(i < message->recipients);
    message->is_final[i] = true;
    message->final_codes[i] = code;
    message->texts[i] = text;
}

/* Notes a reply that the pipeline has just booked. */
static void note_reply(model *model, int code, size_t text)
{
    const expected *head = head_of(model);
    csmtp_fault fault = model->pipeline.fault;
    bool is_sound = !fault;
    bool is_due = head && head->due <= model->written;
    bool is_content = head && head->command == TO_CONTENT;
    bool is_success = code >= 200 && code <= 299 && code != 220 && code != 221;
    model->in_doubt = fault != CSMTP_CLOSED && fault != CSMTP_NO_CHUNKING;
    if (!is_sound)
        check_reply(model, &model->pipeline.fault_reply, code, text);
    if (!is_due) {
        if (!is_amidst(model, head) || code < 400) {
            assert(fault == (code == 421 ? CSMTP_CLOSED : CSMTP_SURPLUS));
            return;
        }
        assert(fault == (code == 421 ? CSMTP_CLOSED_IN_CONTENT : CSMTP_PREMATURE));
        head->message->content_code = code;
        head->message->content_text = text;
        return;
    }
    assert(fault != CSMTP_SURPLUS && fault != CSMTP_PREMATURE && fault != CSMTP_CLOSED_IN_CONTENT);
    assert((fault == CSMTP_CLOSED) == (code == 421));
    assert(!is_sound || !model->strict || (code >= 200 && code <= 599));
    message *message = head->message;
    bool is_unknown = is_content && model->mode == CSMTP_CHUNKING && model->proof < CSMTP_FLIGHT &&
                      message->accepted > 0 && message->finals == 0 && code >= 500 && code <= 504;
    assert((fault == CSMTP_NO_CHUNKING) == is_unknown);
    if (is_unknown)
        return;
    if (message && code >= 400)
        message->was_refused_early = true;
    switch (head->command) {
    case TO_MAIL:
        message->mail_ok = model->strict ? is_success : code == 250;
        message->mail_refused = !message->mail_ok && (is_sound || fault == CSMTP_CLOSED);
        assert(!is_sound || !model->strict || message->mail_ok || code >= 400);
        break;
    case TO_RCPT:
        message->answered++;
        if (model->strict ? is_success : code == 250 || code == 251) {
            message->is_accepted[head->index] = true;
            message->accepted++;
            assert(!is_sound || !model->strict || message->mail_ok);
        } else {
            message->texts[head->index] = text;
        }
        break;
    case TO_DATA:
        message->data_ok = code == 354;
        assert(!is_sound || !message->data_ok || message->mail_ok || message->accepted == 0);
        break;
    case TO_CONTENT:
        if (fault == CSMTP_INVALID_CODE || fault == CSMTP_UNEXPECTED_SUCCESS)
            return;
        message->content_code = code;
        message->content_text = text;
        assert(!is_success || model->pipeline.steps.proof > CSMTP_ALONE ||
               model->pipeline.steps.limit == CSMTP_ALONE);
        message->finals++;
        if (model->lmtp && message->accepted > 1) {
            note_final(message, code, text);
            if (message->finals < message->accepted)
                return;
        }
        break;
    default:
        assert(!is_sound || !model->strict || is_success || code >= 400);
        break;
    }
    model->answered++;
}

/* Checks what the pipeline makes of the beginning of a reply. */
static void check_begun(model *model)
{
    const csmtp_pipeline *pipeline = &model->pipeline;
    const expected *head = head_of(model);
    bool is_due = head && head->due <= model->written;
    bool is_refusal = model->inbox[0] == '4' || model->inbox[0] == '5';
    if (!model->strict || is_due || (is_amidst(model, head) && is_refusal)) {
        assert(!pipeline->fault);
        return;
    }
    bool is_closed = memcmp(model->inbox, "421", model->received < 3 ? model->received : 3) == 0;
    size_t skipped = 0;
    if (is_closed)
        skipped = model->received < 4 ? model->received : 4;
    const csmtp_stored_reply *reply = &pipeline->fault_reply;
    assert(pipeline->fault == (is_closed ? CSMTP_CLOSED : CSMTP_SURPLUS));
    assert(reply->code == (is_closed ? 421 : 0));
    uint8_t *text = new_text(model, reply);
    assert(same(text, reply->text_count, model->inbox + skipped, model->received - skipped));
    free(text);
    model->in_doubt = !is_closed;
}

/* Receives the first bytes of a reply, or all of it, from the network; text is the number that is
 * its text, or 0. */
static void say(model *model, const uint8_t *bytes, size_t count, size_t text)
{
    uint8_t *room = csmtp_receive_reserve(&model->receive, count);
    memcpy(room, bytes, count);
    model->receive.end += count;
    assert(count <= sizeof model->inbox - model->received);
    memcpy(model->inbox + model->received, bytes, count);
    model->received += count;

    int code = -1;
    size_t used = 0;
    csmtp_reply_status status =
        reference_reply(model->inbox, model->received, MAX_LINE, MAX_REPLY, &code, &used);
    csmtp_reply_status found = csmtp_pipeline_receive(&model->pipeline);
    if (status == CSMTP_REPLY_MORE) {
        assert(found == CSMTP_REPLY_MORE);
        check_begun(model);
        return;
    }
    if (status == CSMTP_REPLY_BAD_CODE || status == CSMTP_REPLY_MIXED_CODES) {
        assert(found == status);
        code = -1;
        csmtp_receive_drop(&model->receive, used);
        csmtp_pipeline_book(&model->pipeline, code, bytes, count);
    } else if (status != CSMTP_REPLY_DONE) {
        assert(found == status);
        model->in_doubt = true;
        csmtp_pipeline_fail(&model->pipeline, CSMTP_UNREADABLE, true);
        return;
    }
    assert(used == model->received && model->receive.start == model->receive.end);
    model->received = 0;
    note_reply(model, code, text);
}

static void say_code(model *model, int code)
{
    char line[16];
    int count = snprintf(line, sizeof line, "%03d %zu\r\n", code, 1 + model->answered);
    say(model, (const uint8_t *)line, (size_t)count, 1 + model->answered);
}

/* The replies of a server that accepts everything. */
static void say_yes(model *model)
{
    const expected *head = head_of(model);
    if (head && model->received == 0)
        say_code(model, head->command == TO_DATA ? 354 : 250);
}

/* Messages */

static void push(model *model, size_t recipients, size_t letters)
{
    if (model->pushed == MESSAGES)
        return;
    message *message = &model->messages[model->pushed++];
    message->number = model->pushed;
    message->recipients = recipients;
    message->begins = message->ends = SIZE_MAX;
    char text[CONTENT] = "T";
    memset(text + 1, 't', letters);
    bool is_chunked = model->mode == CSMTP_CHUNKING;
    if (is_chunked && letters == 0)
        text[0] = 0;
    message->text = strlen(text);
    if (!is_chunked)
        strcat(text, letters % 2 ? ".\r\n" : "\r\n.\r\n");
    message->count = strlen(text);
    message->content = exact_copy((const uint8_t *)text, message->count);
    /* One chunk, or several, and an empty one among them. */
    size_t chunk_count = 0;
    for (size_t done = 0; done < message->count || chunk_count == letters % 3; chunk_count++) {
        if (chunk_count == letters % 3) {
            message->chunks[chunk_count] = (csmtp_chunk){NULL, 0};
            continue;
        }
        size_t count = chunk_count < 2 && letters > 1 ? 1 : message->count - done;
        message->chunks[chunk_count] = (csmtp_chunk){message->content + done, count};
        done += count;
    }

    char lines[RECIPIENTS + 1][16];
    csmtp_chunk commands[RECIPIENTS + 1];
    for (size_t i = 0; i <= recipients; i++) {
        char *line = lines[i];
        int count = i == 0 ? snprintf(line, sizeof lines[i], "M%zu\r\n", message->number)
                           : snprintf(line, sizeof lines[i], "R%zu.%zu\r\n", message->number, i);
        commands[i] = (csmtp_chunk){(const uint8_t *)line, (size_t)count};
    }
    int64_t terminator = is_chunked ? (int64_t)message->count - 1 : (int64_t)message->text;
    assert(csmtp_pipeline_push(&model->pipeline, &message->released[0], &message->released[1],
                               commands, recipients + 1, message->chunks, chunk_count, terminator));
}

/* Whether so much of a message was sent that the server may have all of it. */
static bool has_left(const model *model, const message *message)
{
    if (message->ends == SIZE_MAX)
        return false;
    size_t left = model->handed > model->written ? model->handed : model->written;
    if (model->mode == CSMTP_CHUNKING)
        return left >= message->ends;
    return left > message->begins + message->text;
}

static void check_completed(model *model, const csmtp_message *completed)
{
    message *message = &model->messages[model->completed++];
    assert(completed->tag == &message->released[0] && completed->owner == &message->released[1]);
    bool is_sound = !model->pipeline.fault;
    bool is_all_there = message->ends <= model->written;
    if (completed->doubted && !message->is_retried && model->strict) {
        /* It is not known what its refusal was about, as it was not sent again. */
        assert(!is_sound && completed->stage == CSMTP_LOST && completed->own_replies == 0);
        return;
    }
    assert(completed->retried == message->is_retried);
    bool is_each_answered = completed->own_replies == completed->recipient_count;
    /* A 421 for one recipient closed the connection, while others have no reply yet. */
    bool is_closed_between = model->lmtp && message->finals > 0 &&
                             message->finals < message->accepted && message->content_code == 421;
    bool in_doubt = (model->in_doubt && has_left(model, message)) || is_closed_between;
    assert(!is_closed_between || model->pipeline.fault == CSMTP_CLOSED);
    /* Without strict, an LMTP server may have accepted its recipients, and answers for each. */
    assert(!message->mail_refused || completed->stage == CSMTP_MAIL ||
           (model->lmtp && !model->strict && (is_each_answered || is_closed_between)));
    switch (completed->stage) {
    case CSMTP_LOST:
        assert(!is_sound && !in_doubt);
        break;
    case CSMTP_IN_DOUBT:
        assert(!is_sound && in_doubt);
        break;
    case CSMTP_MAIL:
        assert(message->mail_refused);
        break;
    case CSMTP_RCPT:
        assert(message->accepted == 0 && is_each_answered);
        break;
    case CSMTP_DATA:
        assert(!message->data_ok);
        break;
    default:
        if (is_each_answered)
            break;
        assert(message->accepted > 0 && (is_all_there || completed->reply.code >= 400));
        check_reply(model, &completed->reply, message->content_code, message->content_text);
        break;
    }
    if (completed->stage > CSMTP_IN_DOUBT && !is_each_answered)
        check_reply(model, &completed->reply, completed->reply.code, 0);
    size_t own_replies = 0;
    for (size_t i = 0; i < completed->recipient_count; i++) {
        const csmtp_recipient *recipient = &completed->recipients[i];
        assert((recipient->stage == CSMTP_CONTENT) == message->is_final[i]);
        if (recipient->stage == CSMTP_LOST)
            continue;
        own_replies++;
        bool is_refusal = recipient->stage == CSMTP_RCPT;
        check_reply(model, &recipient->reply,
                    is_refusal ? recipient->reply.code : message->final_codes[i],
                    message->texts[i]);
        assert(is_refusal ? !message->is_accepted[i] : message->is_accepted[i] && is_all_there);
    }
    assert(own_replies == completed->own_replies);
}

static void take(model *model, size_t count)
{
    const csmtp_message *completed;
    while (count-- > 0 && (completed = csmtp_pipeline_completed(&model->pipeline))) {
        message *message = &model->messages[model->completed];
        check_completed(model, completed);
        csmtp_pipeline_drop(&model->pipeline, release_tag_or_owner);
        assert(message->released[0] == 1 && message->released[1] == 1);
        free(message->content);
        message->content = NULL;
    }
}

static void fail(model *model, bool in_doubt)
{
    if (!model->pipeline.fault)
        model->in_doubt = in_doubt;
    csmtp_pipeline_fail(&model->pipeline, CSMTP_UNREADABLE, in_doubt);
}

static void do_next(model *model, const uint8_t **data, const uint8_t *end)
{
    static const int codes[] = {250, 354, 550, 450, 421, 251, 500, 503, 554, 200, 299,
                                300, 252, 100, 999, 0};
    uint8_t what = *(*data)++;
    size_t number = what >> 3, left = (size_t)(end - *data);
    bool can_read = !model->pipeline.fault;
    switch (what & 7) {
    case 0:
        push(model, 1 + number % RECIPIENTS, number / RECIPIENTS);
        break;
    case 1:
        write_bytes(model, number, 1 + number % 3);
        break;
    case 2:
        write_bytes(model, SIZE_MAX, CHUNKS);
        break;
    case 3:
        /* Bytes of the input, up to the end of a line. */
        for (number = number < left ? number : left; number > 0 && !model->pipeline.fault;) {
            const uint8_t *line_end = memchr(*data, '\n', number);
            size_t count = line_end ? (size_t)(line_end + 1 - *data) : number;
            say(model, *data, count, 0);
            look(model);
            *data += count;
            number -= count;
        }
        break;
    case 4:
        if (can_read && model->received == 0)
            say_code(model, codes[number % (sizeof codes / sizeof *codes)]);
        break;
    case 5:
        for (; number > 0 && !model->pipeline.fault; number--) {
            say_yes(model);
            look(model);
        }
        break;
    case 6:
        take(model, number + 1);
        break;
    default:
        if (number < 4) {
            fail(model, number % 2);
        } else if (number < 8) {
            model->is_released = true;
            csmtp_pipeline_send_content(&model->pipeline);
        } else if (number < 16) {
            csmtp_step step = (csmtp_step)(number % 4);
            csmtp_pipeline_learn(&model->pipeline, number < 12 ? step : CSMTP_ALONE,
                                 number < 12 ? CSMTP_NEXT : step);
        } else if (number < 24) {
            write_bytes(model, number, CHUNKS);
        } else {
            hand_bytes(model, number < 31 ? number - 24 : SIZE_MAX);
        }
        break;
    }
    look(model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static model model;
    if (size < 2 || size > 1000)
        return 0;
    memset(&model, 0, sizeof model);
    model.mode = (csmtp_mode)(data[0] % 3);
    model.lmtp = data[0] & 64;
    model.strict = data[0] & 128;
    model.limit = csmtp_last_step(model.mode);
    model.proof = data[1] & 1 ? model.limit : CSMTP_ALONE;
    model.large = data[1] & 2 ? data[1] >> 5 : SIZE_MAX;
    csmtp_receive_init(&model.receive, MAX_LINE, MAX_REPLY);
    csmtp_pipeline_init(&model.pipeline, &model.receive, model.mode, model.lmtp, model.strict,
                        model.proof, model.large);
    bool leaves_some = data[1] & 4;
    const uint8_t *end = data + size;
    for (data += 2; data < end;)
        do_next(&model, &data, end);

    if (!leaves_some) {
        fail(&model, true);
        look(&model);
        take(&model, SIZE_MAX);
        assert(model.completed == model.pushed);
    }
    csmtp_pipeline_free(&model.pipeline, release_tag_or_owner);
    csmtp_receive_free(&model.receive);
    for (size_t i = 0; i < model.pushed; i++) {
        assert(model.messages[i].released[0] == 1 && model.messages[i].released[1] == 1);
        free(model.messages[i].content);
    }
    return 0;
}
