#include "message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t csmtp_chunks_length(const csmtp_chunk *chunks, size_t count)
{
    size_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += chunks[i].count;
    return length;
}

csmtp_message *csmtp_message_new(csmtp_mode mode, bool strict, const csmtp_chunk *commands,
                                 size_t command_count, const csmtp_chunk *chunks,
                                 size_t chunk_count)
{
    size_t byte_count = csmtp_chunks_length(chunks, chunk_count);
    size_t command_bytes = csmtp_chunks_length(commands, command_count);
    char last[sizeof "BDAT  LAST\r\n" + 20] = "DATA\r\n";
    if (mode == CSMTP_CHUNKING)
        snprintf(last, sizeof last, "BDAT %zu LAST\r\n", byte_count);
    else if (!strict)
        memcpy(last, "data", 4); /* as smtplib writes it, like the other commands it is given */
    size_t last_count = strlen(last);

    /* One block: the message, its recipients, the ends of its commands, the commands. */
    size_t recipient_count = command_count - 1;
    size_t recipients = sizeof(csmtp_message);
    size_t ends = recipients + recipient_count * sizeof(csmtp_recipient);
    size_t text = ends + (command_count + 1) * sizeof(size_t);
    csmtp_message *message = malloc(text + command_bytes + last_count);
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
    message->byte_count = byte_count;
    size_t end = 0;
    for (size_t i = 0; i < command_count; i++) {
        memcpy(message->commands + end, commands[i].bytes, commands[i].count);
        message->command_ends[i] = end += commands[i].count;
    }
    memcpy(message->commands + end, last, last_count);
    message->command_ends[command_count] = end + last_count;
    return message;
}

void csmtp_message_free(csmtp_message *message, void (*release)(void *))
{
    if (release) {
        release(message->tag);
        release(message->owner);
    }
    free(message);
}

void csmtp_message_forget_answers(csmtp_message *message)
{
    memset(message->recipients, 0, message->recipient_count * sizeof *message->recipients);
    message->answered = message->accepted = message->own_replies = message->next_final = 0;
    message->stage = CSMTP_LOST;
    message->reply = (csmtp_stored_reply){0};
    message->data_ok = message->content_begun = message->sent = message->streamed = false;
    message->in_flight = false;
}

bool csmtp_message_is_cut_short(const csmtp_message *message)
{
    return message->in_flight && message->unanswered > 0 && !message->data_ok &&
           !message->content_begun && message->stage != CSMTP_MAIL;
}

void csmtp_message_forget_refusals(csmtp_message *message)
{
    for (size_t i = 0; i < message->recipient_count; i++) {
        csmtp_recipient *recipient = &message->recipients[i];
        if (recipient->stage == CSMTP_RCPT && recipient->reply.code != 421) {
            *recipient = (csmtp_recipient){0};
            message->own_replies--;
        }
    }
}
