#include "steps.h"

#include <string.h>

void csmtp_steps_init(csmtp_steps *steps, csmtp_mode mode, bool lmtp, bool strict,
                      csmtp_step proof)
{
    memset(steps, 0, sizeof *steps);
    steps->mode = mode;
    steps->lmtp = lmtp;
    steps->strict = strict;
    steps->proof = proof;
    steps->limit = csmtp_last_step(mode);
}

csmtp_step csmtp_last_step(csmtp_mode mode)
{
    return mode == CSMTP_SEQUENTIAL ? CSMTP_ALONE : CSMTP_NEXT;
}

void csmtp_steps_restrict(csmtp_steps *steps, csmtp_step limit)
{
    if (limit < steps->limit)
        steps->limit = limit;
    if (steps->limit < steps->proof)
        steps->proof = steps->limit;
}

void csmtp_steps_learn(csmtp_steps *steps, csmtp_step proof, csmtp_step limit)
{
    if (proof > steps->proof)
        steps->proof = proof;
    csmtp_steps_restrict(steps, limit);
}

void csmtp_steps_prove(csmtp_steps *steps, csmtp_step step)
{
    csmtp_step before_next = steps->mode == CSMTP_CHUNKING ? CSMTP_WHOLE : CSMTP_FLIGHT;
    if (step > steps->proof && step <= steps->limit)
        steps->proof = step;
    if (steps->answers_behind && steps->proof >= before_next && steps->limit == CSMTP_NEXT)
        steps->proof = CSMTP_NEXT;
}

void csmtp_steps_prove_content(csmtp_steps *steps, const csmtp_message *message)
{
    csmtp_steps_prove(steps, message->streamed ? CSMTP_WHOLE : CSMTP_FLIGHT);
}

bool csmtp_steps_should_probe(const csmtp_steps *steps, const csmtp_message *message)
{
    /* RSET can do no harm there; behind BDAT it has to be sent before the next message anyway. */
    if (!steps->strict || steps->lmtp || message->retried || !message->next)
        return false;
    if (steps->mode == CSMTP_CHUNKING && steps->proof < CSMTP_FLIGHT)
        return false; /* first the host has to show that it supports BDAT */
    return steps->proof < CSMTP_NEXT && steps->limit == CSMTP_NEXT && !steps->answers_behind;
}

void csmtp_steps_book_probe(csmtp_steps *steps, bool is_success)
{
    if (!is_success) {
        csmtp_steps_restrict(steps, CSMTP_WHOLE);
        return;
    }
    steps->answers_behind = true;
    csmtp_steps_prove(steps, steps->proof);
}

static bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

/* Whether a refusal can be about the order of commands (RFC 5321 section 4.2.4). An enhanced code
 * tells: x.5.z is about the protocol, but x.5.3 about the number of recipients (RFC 3463 section
 * 3.6). Without one, 554 to MAIL is how servers turn away clients that talk too early; to other
 * commands it is about the message. */
static bool is_about_order(csmtp_stage command, int code, const uint8_t *text, size_t count)
{
    bool is_sequence = code >= 500 && code <= 503;
    if (code < 400 || code > 599)
        return false;
    bool is_enhanced = count >= 5 && text[0] == '0' + code / 100 && text[1] == '.' &&
                       is_digit(text[2]) && text[3] == '.' && is_digit(text[4]);
    if (!is_enhanced)
        return is_sequence || (code == 554 && command == CSMTP_MAIL);
    if (text[2] == '0')
        return is_sequence;
    return text[2] == '5' && (text[4] != '3' || (count > 5 && is_digit(text[5])));
}

void csmtp_steps_doubt(csmtp_steps *steps, csmtp_message *message, csmtp_stage command, int code,
                       const uint8_t *text, size_t count)
{
    bool left_early = message->sent_early;
    if (command == CSMTP_RCPT || command == CSMTP_DATA)
        left_early = left_early || steps->proof < CSMTP_FLIGHT || code == 503;
    else if (command == CSMTP_CONTENT)
        left_early = message->streamed && !steps->lmtp;
    if (!left_early || steps->limit == CSMTP_ALONE || message->retried || message->doubted ||
        !is_about_order(command, code, text, count))
        return;
    message->doubted = command;
    message->doubted_code = code;
    message->doubted_early = message->sent_early;
    if (command == CSMTP_RCPT)
        message->doubted_recipient = message->answered - 1;
    steps->doubts++;
}

void csmtp_steps_clear_doubt(csmtp_steps *steps, csmtp_message *message)
{
    message->doubted = CSMTP_LOST;
    steps->doubts--;
}

/* Whether the doubted reply has come again although nothing was sent early. A RCPT is only doubted
 * where no other was accepted, so one that is accepted now was refused for being early. */
static bool is_refused_again(const csmtp_message *message)
{
    if (message->doubted != CSMTP_RCPT)
        return message->stage == message->doubted && message->reply.code == message->doubted_code;
    const csmtp_recipient *recipient = &message->recipients[message->doubted_recipient];
    return message->accepted == 0 && recipient->stage == CSMTP_RCPT &&
           recipient->reply.code == message->doubted_code;
}

void csmtp_steps_resolve_doubt(csmtp_steps *steps, const csmtp_message *message)
{
    steps->doubts--;
    if (is_refused_again(message))
        return;
    csmtp_step limit = message->doubted_early ? CSMTP_WHOLE : CSMTP_ALONE;
    csmtp_steps_restrict(steps, message->doubted == CSMTP_CONTENT ? CSMTP_FLIGHT : limit);
}
