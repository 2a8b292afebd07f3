#include "reply.h"

#include <stdbool.h>
#include <string.h>

enum { CODE_LENGTH = 3, TEXT_OFFSET = 4 };

static bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

/* Returns the code of a line that ends in LF, or -1 if it has none. As LF is no digit, a line that
 * is shorter than a code is not read past its end. */
static int line_code(const uint8_t *line)
{
    if (!is_digit(line[0]) || !is_digit(line[1]) || !is_digit(line[2]))
        return -1;
    uint8_t separator = line[CODE_LENGTH];
    bool at_end = separator == '\n' || (separator == '\r' && line[CODE_LENGTH + 1] == '\n');
    if (separator != ' ' && separator != '-' && !at_end)
        return -1;
    return (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
}

void csmtp_reply_scan_init(csmtp_reply_scan *scan)
{
    scan->line = 0;
    scan->searched = 0;
    scan->code = -1;
}

csmtp_reply_status csmtp_reply_find(csmtp_reply_scan *scan, const uint8_t *bytes, size_t count,
                                    size_t max_line, size_t max_reply)
{
    for (;;) {
        /* No search goes past the nearer cap. So the result does not depend on how the reply was
         * cut when it came in. */
        bool line_is_nearer = max_line <= max_reply - scan->line;
        size_t cap = line_is_nearer ? scan->line + max_line : max_reply;
        size_t stop = count < cap ? count : cap;
        const uint8_t *end = NULL;
        if (scan->searched < stop)
            end = memchr(bytes + scan->searched, '\n', stop - scan->searched);
        if (!end) {
            scan->searched = stop;
            if (count <= cap)
                return CSMTP_REPLY_MORE;
            return line_is_nearer ? CSMTP_REPLY_LINE_TOO_LONG : CSMTP_REPLY_TOO_LONG;
        }

        size_t after = (size_t)(end - bytes) + 1;
        const uint8_t *line = bytes + scan->line;
        int code = line_code(line);
        scan->line = scan->searched = after;
        if (code < 0)
            return CSMTP_REPLY_BAD_CODE;
        if (scan->code >= 0 && scan->code != code)
            return CSMTP_REPLY_MIXED_CODES;
        scan->code = code;
        if (line[CODE_LENGTH] != '-')
            return CSMTP_REPLY_DONE;
    }
}

static bool is_stripped(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

size_t csmtp_reply_join(const uint8_t *reply, size_t count, uint8_t *text)
{
    const uint8_t *line = reply, *end = reply + count;
    uint8_t *out = text;
    while (line < end) {
        const uint8_t *newline = memchr(line, '\n', (size_t)(end - line));
        const uint8_t *stop = newline ? newline : end;
        const uint8_t *next = newline ? newline + 1 : end;
        /* A line without text, shorter than its code, must not be read past its end. */
        const uint8_t *start = stop - line > TEXT_OFFSET ? line + TEXT_OFFSET : stop;
        while (start < stop && is_stripped(*start))
            start++;
        while (stop > start && is_stripped(stop[-1]))
            stop--;
        if (line != reply)
            *out++ = '\n';
        memmove(out, start, (size_t)(stop - start));
        out += stop - start;
        line = next;
    }
    return (size_t)(out - text);
}
