/* The kernels again, as plain as in the RFCs and without any regard to speed. The tests and the
 * fuzz targets compare the real ones with these. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "body.h"
#include "reply.h"

/* re.sub(r"\r\n|\n|\r(?!\n)", "\r\n", bytes). out has room for 2 * count; returns its length. */
static inline size_t reference_line_ends(const uint8_t *bytes, size_t count, uint8_t *out)
{
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != '\r' && bytes[i] != '\n') {
            out[length++] = bytes[i];
            continue;
        }
        out[length++] = '\r';
        out[length++] = '\n';
        if (bytes[i] == '\r' && i + 1 < count && bytes[i + 1] == '\n')
            i++;
    }
    return length;
}

/* re.sub(rb"(?m)^\.", b"..", bytes). out has room for 2 * count; returns its length. */
static inline size_t reference_dots(const uint8_t *bytes, size_t count, uint8_t *out)
{
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] == '.' && (i == 0 || bytes[i - 1] == '\n'))
            out[length++] = '.';
        out[length++] = bytes[i];
    }
    return length;
}

/* Encodes a whole body with its end. out has room for 4 * count + 5; returns its length. */
static inline size_t reference_body(unsigned what, const uint8_t *bytes, size_t count,
                                    uint8_t *out)
{
    uint8_t *lines = malloc(2 * count + 1);
    if (!lines)
        abort();
    size_t length = count;
    if (what & CSMTP_BODY_CRLF)
        length = reference_line_ends(bytes, count, lines);
    else if (count > 0)
        memcpy(lines, bytes, count);
    if (what & CSMTP_BODY_DOTS)
        length = reference_dots(lines, length, out);
    else if (length > 0)
        memcpy(out, lines, length);
    free(lines);

    bool at_line_start =
        length == 0 || (length >= 2 && out[length - 2] == '\r' && out[length - 1] == '\n');
    const char *line_end = at_line_start ? "" : "\r\n";
    const char *terminator = what & CSMTP_BODY_DOTS ? ".\r\n" : "";
    size_t added = strlen(line_end) + strlen(terminator);
    memcpy(out + length, line_end, strlen(line_end));
    memcpy(out + length + strlen(line_end), terminator, strlen(terminator));
    return length + added;
}

static inline csmtp_body_scan reference_scan(const uint8_t *bytes, size_t count)
{
    csmtp_body_scan scan = {0};
    for (size_t i = 0; i < count; i++) {
        scan.line = bytes[i] == '\r' || bytes[i] == '\n' ? 0 : scan.line + 1;
        if (scan.line > scan.longest_line)
            scan.longest_line = scan.line;
        if (bytes[i] == 0)
            scan.has_nul = true;
        if (bytes[i] >= 0x80)
            scan.has_8bit = true;
    }
    return scan;
}

/* Returns what csmtp_reply_find must return. Sets *code with DONE, and *used with all but MORE: how
 * many bytes were used, or are allowed if there are too many. */
static inline csmtp_reply_status reference_reply(const uint8_t *bytes, size_t count,
                                                 size_t max_line, size_t max_reply, int *code,
                                                 size_t *used)
{
    char first[4] = "", digits[4] = "";
    size_t line = 0;
    for (size_t i = 0; i < count; i++) {
        if (i - line == max_line || i == max_reply) {
            *used = i;
            return i - line == max_line ? CSMTP_REPLY_LINE_TOO_LONG : CSMTP_REPLY_TOO_LONG;
        }
        if (bytes[i] != '\n')
            continue;
        *used = i + 1;
        if (i - line < 3)
            return CSMTP_REPLY_BAD_CODE;
        for (size_t k = 0; k < 3; k++) {
            digits[k] = (char)bytes[line + k];
            if (digits[k] == 0 || !strchr("0123456789", digits[k]))
                return CSMTP_REPLY_BAD_CODE;
        }
        bool bare = i - line == 3 || (i - line == 4 && bytes[i - 1] == '\r');
        if (!bare && bytes[line + 3] != ' ' && bytes[line + 3] != '-')
            return CSMTP_REPLY_BAD_CODE;
        if (first[0] && strcmp(first, digits) != 0)
            return CSMTP_REPLY_MIXED_CODES;
        strcpy(first, digits);
        if (bytes[line + 3] != '-') {
            *code = atoi(digits);
            return CSMTP_REPLY_DONE;
        }
        line = i + 1;
    }
    return CSMTP_REPLY_MORE;
}

static inline bool reference_is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

/* Does the same as csmtp_reply_join. text has room for count bytes. */
static inline size_t reference_join(const uint8_t *reply, size_t count, uint8_t *text)
{
    size_t length = 0;
    for (size_t line = 0, next; line < count; line = next) {
        size_t stop = line;
        while (stop < count && reply[stop] != '\n')
            stop++;
        next = stop + 1;
        size_t start = line + 4 < stop ? line + 4 : stop;
        while (start < stop && reference_is_space(reply[start]))
            start++;
        while (stop > start && reference_is_space(reply[stop - 1]))
            stop--;
        if (line > 0)
            text[length++] = '\n';
        for (; start < stop; start++)
            text[length++] = reply[start];
    }
    return length;
}

static inline bool reference_is_one_of(uint8_t byte, const char *bytes)
{
    return byte != 0 && strchr(bytes, byte) != NULL;
}

#define REFERENCE_LABEL "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"

/* Whether these are names of the given bytes with single dots between them. */
static inline bool reference_is_dotted(const uint8_t *bytes, size_t count, const char *names)
{
    if (count == 0 || bytes[0] == '.' || bytes[count - 1] == '.')
        return false;
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] == '.' ? bytes[i + 1] == '.' : !reference_is_one_of(bytes[i], names))
            return false;
    }
    return true;
}

static inline bool reference_is_plain_address(const uint8_t *bytes, size_t count)
{
    const uint8_t *at = count > 0 ? memchr(bytes, '@', count) : NULL;
    if (!at)
        return false;
    size_t local = (size_t)(at - bytes);
    return reference_is_dotted(bytes, local, REFERENCE_LABEL "!#$%&'*+/=?^_`{|}~")
        && reference_is_dotted(at + 1, count - local - 1, REFERENCE_LABEL);
}

static inline size_t reference_find_control(const uint8_t *bytes, size_t count)
{
    size_t place = 0;
    while (place < count && bytes[place] >= ' ' && bytes[place] != 0x7f)
        place++;
    return place;
}

#endif
