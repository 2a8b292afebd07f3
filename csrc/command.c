#include "command.h"

/* What a byte may be part of: an atom (RFC 5322 section 3.2.3), a domain label. */
enum { ATEXT = 1, LABEL = 2 };

static unsigned byte_class(uint8_t byte)
{
    uint8_t lower = byte | 0x20;
    if ((lower >= 'a' && lower <= 'z') || (byte >= '0' && byte <= '9') || byte == '-')
        return ATEXT | LABEL;
    switch (byte) {
    case '!': case '#': case '$': case '%': case '&': case '\'': case '*': case '+': case '/':
    case '=': case '?': case '^': case '_': case '`': case '{': case '|': case '}': case '~':
        return ATEXT;
    default:
        return 0;
    }
}

size_t csmtp_find_control(const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] < 0x20 || bytes[i] == 0x7f)
            return i;
    }
    return count;
}

/* Finds atoms or labels with single dots between them. Returns where they end, or 0 if there are
 * none. */
static size_t dotted(const uint8_t *bytes, size_t count, unsigned allowed)
{
    size_t i = 0;
    bool after_dot = true;
    for (; i < count; i++) {
        if (bytes[i] == '.') {
            if (after_dot)
                return 0;
            after_dot = true;
        } else if (byte_class(bytes[i]) & allowed) {
            after_dot = false;
        } else {
            break;
        }
    }
    return after_dot ? 0 : i;
}

bool csmtp_is_plain_address(const uint8_t *bytes, size_t count)
{
    size_t local = dotted(bytes, count, ATEXT);
    if (local == 0 || local == count || bytes[local] != '@')
        return false;
    size_t domain = count - local - 1;
    return domain > 0 && dotted(bytes + local + 1, domain, LABEL) == domain;
}
