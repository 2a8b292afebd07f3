#include "receive.h"

#include <stdlib.h>
#include <string.h>

void csmtp_receive_init(csmtp_receive *receive, size_t max_line, size_t max_reply)
{
    receive->bytes = NULL;
    receive->start = receive->end = receive->room = 0;
    receive->max_line = max_line;
    receive->max_reply = max_reply;
    csmtp_reply_scan_init(&receive->scan);
}

void csmtp_receive_free(csmtp_receive *receive)
{
    free(receive->bytes);
    csmtp_receive_init(receive, receive->max_line, receive->max_reply);
}

uint8_t *csmtp_receive_reserve(csmtp_receive *receive, size_t count)
{
    if (receive->bytes && count <= receive->room - receive->end)
        return receive->bytes + receive->end;
    size_t unread = receive->end - receive->start;
    if (receive->start > 0) {
        memmove(receive->bytes, receive->bytes + receive->start, unread);
        receive->start = 0;
        receive->end = unread;
    }
    if (!receive->bytes || count > receive->room - unread) {
        if (count > SIZE_MAX / 2 - unread)
            return NULL;
        size_t room = 2 * (unread + count) + 1;
        uint8_t *larger = realloc(receive->bytes, room);
        if (!larger)
            return NULL;
        receive->bytes = larger;
        receive->room = room;
    }
    return receive->bytes + receive->end;
}

csmtp_reply_status csmtp_receive_find(csmtp_receive *receive)
{
    if (receive->start == receive->end)
        return CSMTP_REPLY_MORE;
    return csmtp_reply_find(&receive->scan, receive->bytes + receive->start,
                            receive->end - receive->start, receive->max_line, receive->max_reply);
}

void csmtp_receive_drop(csmtp_receive *receive, size_t count)
{
    receive->start += count;
    if (receive->start == receive->end)
        receive->start = receive->end = 0;
    csmtp_reply_scan_init(&receive->scan);
}
