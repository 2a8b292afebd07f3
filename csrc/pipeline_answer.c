/* What the replies to a pipeline mean. */
#include "pipeline_parts.h"

#include <stdlib.h>
#include <string.h>

/* By the first digit (RFC 5321 section 4.3.2). But 220 is a greeting, and 221 a farewell. */
static bool is_success(int code)
{
    return code >= 200 && code <= 299 && code != 220 && code != 221;
}

/* Stores a reply. If there is no memory, fails the pipeline and returns false. */
static bool store(csmtp_pipeline *pipeline, csmtp_stored_reply *reply, int code,
                  const uint8_t *text, size_t count)
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
    *reply = (csmtp_stored_reply){code, pipeline->text_end, count};
    pipeline->text_end += count;
    return true;
}

static void store_for_recipient(csmtp_pipeline *pipeline, csmtp_message *message, size_t index,
                                csmtp_stage stage, int code, const uint8_t *text, size_t count)
{
    csmtp_recipient *recipient = &message->recipients[index];
    if (!store(pipeline, &recipient->reply, code, text, count))
        return;
    recipient->stage = stage;
    message->own_replies++;
}

static void store_for_message(csmtp_pipeline *pipeline, csmtp_message *message, csmtp_stage stage,
                              int code, const uint8_t *text, size_t count)
{
    if (store(pipeline, &message->reply, code, text, count))
        message->stage = stage;
}

/* Fails the pipeline because of a reply. */
static void fail_with(csmtp_pipeline *pipeline, csmtp_fault fault, int code, const uint8_t *text,
                      size_t count)
{
    bool is_closed = fault == CSMTP_CLOSED || fault == CSMTP_NO_CHUNKING;
    if (!pipeline->fault && store(pipeline, &pipeline->fault_reply, code, text, count))
        csmtp_pipeline_fail(pipeline, fault, !is_closed);
}

/* Whether the server has carried out MAIL or RCPT. smtplib knows only RFC 5321's codes. */
static bool is_accepted(const csmtp_pipeline *pipeline, csmtp_stage command, int code)
{
    if (pipeline->strict)
        return is_success(code);
    return code == 250 || (code == 251 && command == CSMTP_RCPT);
}

/* Whether a reply can be the answer to the command that waits for one: any refusal can. To book
 * another one all the same would be to report a message as accepted that was never sent. */
static bool may_answer(const csmtp_expected *head, int code)
{
    if (code >= 400)
        return true;
    switch (head->kind) {
    case CSMTP_RCPT:
        return is_success(code) && head->message->stage != CSMTP_MAIL;
    case CSMTP_DATA:
        return code == 354;
    default:
        return is_success(code);
    }
}

static void answer_mail(csmtp_pipeline *pipeline, csmtp_message *message, int code,
                        const uint8_t *text, size_t count)
{
    if (is_accepted(pipeline, CSMTP_MAIL, code))
        return;
    store_for_message(pipeline, message, CSMTP_MAIL, code, text, count);
    csmtp_steps_doubt(&pipeline->steps, message, CSMTP_MAIL, code, text, count);
}

static void answer_rcpt(csmtp_pipeline *pipeline, csmtp_message *message, size_t index, int code,
                        const uint8_t *text, size_t count)
{
    message->answered++;
    if (is_accepted(pipeline, CSMTP_RCPT, code)) {
        message->recipients[index].accepted = true;
        message->accepted++;
    } else if (message->stage != CSMTP_MAIL) {
        message->has_uncounted_success = message->has_uncounted_success || is_success(code);
        store_for_recipient(pipeline, message, index, CSMTP_RCPT, code, text, count);
        csmtp_steps_doubt(&pipeline->steps, message, CSMTP_RCPT, code, text, count);
    }
    if (message->accepted > 0 && message->doubted == CSMTP_RCPT && !message->retried)
        csmtp_steps_clear_doubt(&pipeline->steps, message);
}

static void answer_data(csmtp_pipeline *pipeline, csmtp_message *message, int code,
                        const uint8_t *text, size_t count)
{
    message->data_ok = code == 354;
    if (message->data_ok) {
        /* The server would deliver whatever comes next: from the sender that it refused, or an
         * empty message to a recipient that it accepted with a code that does not count. */
        bool is_from_nobody = message->stage == CSMTP_MAIL && message->accepted > 0;
        bool is_for_nobody = message->accepted == 0 && message->has_uncounted_success;
        if (is_from_nobody || is_for_nobody)
            fail_with(pipeline, CSMTP_UNEXPECTED_SUCCESS, code, text, count);
    } else if (message->stage == CSMTP_LOST) {
        store_for_message(pipeline, message, CSMTP_DATA, code, text, count);
        if (message->accepted > 0)
            csmtp_steps_doubt(&pipeline->steps, message, CSMTP_DATA, code, text, count);
    }
}

static void answer_content(csmtp_pipeline *pipeline, csmtp_message *message, int code,
                           const uint8_t *text, size_t count)
{
    if (message->accepted > 0 && !is_success(code))
        csmtp_steps_doubt(&pipeline->steps, message, CSMTP_CONTENT, code, text, count);
    if (message->accepted > 0 && message->stage == CSMTP_LOST &&
        message->own_replies < message->recipient_count)
        store_for_message(pipeline, message, CSMTP_CONTENT, code, text, count);
    if (is_success(code)) {
        csmtp_steps_prove_content(&pipeline->steps, message);
    } else if (pipeline->strict && pipeline->must_reset && pipeline->part == CSMTP_PART_START &&
               code != 421 && !pipeline->fault) {
        /* No message that waits may find the transaction open. */
        csmtp_pipeline_send_reset(pipeline);
    }
}

/* Books the reply for one recipient of an LMTP message (RFC 2033 section 4.2). Returns whether
 * there are more to come. */
static bool answer_next_recipient(csmtp_pipeline *pipeline, csmtp_message *message, int code,
                                  const uint8_t *text, size_t count)
{
    while (!message->recipients[message->next_final].accepted)
        message->next_final++;
    store_for_recipient(pipeline, message, message->next_final++, CSMTP_CONTENT, code, text, count);
    message->answered++;
    if (is_success(code))
        csmtp_steps_prove_content(&pipeline->steps, message);
    bool has_more = message->answered - message->recipient_count < message->accepted;
    if (code == 421 && has_more && message->stage == CSMTP_LOST)
        message->stage = CSMTP_IN_DOUBT; /* the server may have stored it for the others */
    return has_more;
}

/* Whether this is how a server answers BDAT that does not know the command at all. */
static bool is_bdat_unknown(const csmtp_pipeline *pipeline, const csmtp_message *message, int code)
{
    return pipeline->steps.mode == CSMTP_CHUNKING && pipeline->steps.proof < CSMTP_FLIGHT &&
           message->answered == message->recipient_count && code >= 500 && code <= 504;
}

static void answer(csmtp_pipeline *pipeline, csmtp_expected head, int code, const uint8_t *text,
                   size_t count)
{
    csmtp_message *message = head.message;
    if (head.kind == CSMTP_CONTENT && message->accepted > 0) {
        if (is_bdat_unknown(pipeline, message, code)) {
            fail_with(pipeline, CSMTP_NO_CHUNKING, code, text, count);
            return;
        }
        if (pipeline->steps.lmtp && message->accepted > 1 &&
            answer_next_recipient(pipeline, message, code, text, count))
            return;
    }
    if (pipeline->expected.count > 0) /* it is empty if there was no memory for the reply */
        csmtp_ring_drop_first(&pipeline->expected);
    if (!message) {
        pipeline->reset_refused = code == 554;
        if (head.kind == CSMTP_PROBE)
            csmtp_steps_book_probe(&pipeline->steps, is_success(code));
        return;
    }
    message->unanswered--;
    switch (head.kind) {
    case CSMTP_MAIL:
        answer_mail(pipeline, message, code, text, count);
        break;
    case CSMTP_RCPT:
        answer_rcpt(pipeline, message, head.index, code, text, count);
        break;
    case CSMTP_DATA:
        answer_data(pipeline, message, code, text, count);
        break;
    case CSMTP_CONTENT:
        answer_content(pipeline, message, code, text, count);
        break;
    default:
        break;
    }
}

/* Whether a part of the content that waits for a reply next has been sent, but not all of it. Only
 * then may a refusal be about that content. What the server says before is about the session: for
 * example, it gives up on an idle client. */
static bool is_inside_content(const csmtp_pipeline *pipeline, const csmtp_expected *head)
{
    if (!head || head->kind != CSMTP_CONTENT || head->due <= pipeline->written)
        return false;
    const csmtp_message *message = head->message;
    const size_t *bdat = &message->command_ends[1 + message->recipient_count];
    size_t count = message->byte_count;
    if (pipeline->steps.mode == CSMTP_CHUNKING)
        count += bdat[0] - bdat[-1];
    return pipeline->written > head->due - count;
}

void csmtp_pipeline_book(csmtp_pipeline *pipeline, int code, const uint8_t *text, size_t count)
{
    pipeline->booked++;
    pipeline->reset_refused = false;
    csmtp_expected *head = csmtp_pipeline_head(pipeline);
    bool is_due = head && head->due <= pipeline->written;
    if (is_inside_content(pipeline, head) && code >= 400) {
        /* The server does not want the rest of the message. */
        if (head->message->stage == CSMTP_LOST)
            store_for_message(pipeline, head->message, CSMTP_CONTENT, code, text, count);
        csmtp_fault fault = code == 421 ? CSMTP_CLOSED_IN_CONTENT : CSMTP_PREMATURE;
        fail_with(pipeline, fault, code, text, count);
        return;
    }
    if (!is_due) {
        fail_with(pipeline, code == 421 ? CSMTP_CLOSED : CSMTP_SURPLUS, code, text, count);
        return;
    }
    if (pipeline->strict ? code < 200 || code > 599 : code >= 100 && code <= 199) {
        fail_with(pipeline, CSMTP_INVALID_CODE, code, text, count);
        return;
    }
    if (pipeline->strict && !may_answer(head, code)) {
        fail_with(pipeline, CSMTP_UNEXPECTED_SUCCESS, code, text, count);
        return;
    }
    answer(pipeline, *head, code, text, count);
    if (code == 421)
        fail_with(pipeline, CSMTP_CLOSED, code, text, count);
    if (pipeline->fault)
        return;
    csmtp_pipeline_complete_answered(pipeline);
    csmtp_pipeline_advance(pipeline);
}

/* Fails the pipeline if the buffer holds the beginning of a reply that answers nothing: it would be
 * taken for the answer to what is written next. */
static void refuse_surplus(csmtp_pipeline *pipeline)
{
    const csmtp_receive *receive = pipeline->receive;
    const csmtp_expected *head = csmtp_pipeline_head(pipeline);
    const uint8_t *bytes = receive->bytes + receive->start;
    size_t count = receive->end - receive->start;
    if (!pipeline->strict || count == 0 || (head && head->due <= pipeline->written))
        return;
    if (is_inside_content(pipeline, head) && (bytes[0] == '4' || bytes[0] == '5'))
        return; /* a refusal of this content, which can't be taken for anything else */
    if (memcmp(bytes, "421", count < 3 ? count : 3) == 0) {
        size_t text = count < 4 ? count : 4;
        fail_with(pipeline, CSMTP_CLOSED, 421, bytes + text, count - text);
        return;
    }
    fail_with(pipeline, CSMTP_SURPLUS, 0, bytes, count);
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
        uint8_t *bytes = receive->bytes + receive->start;
        /* In place, as the bytes of this reply are not needed any more. */
        size_t count = csmtp_reply_join(bytes, line, bytes);
        csmtp_pipeline_book(pipeline, code, bytes, count);
        csmtp_receive_drop(receive, line);
    }
    return pipeline->unreadable = CSMTP_REPLY_MORE;
}
