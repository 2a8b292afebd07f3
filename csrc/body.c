#include "body.h"

#include <string.h>

#include "body_simd.h"

void csmtp_body_init(csmtp_body *body, unsigned changes)
{
    body->changes = changes;
    body->last = '\n';
    body->ended = true;
}

void csmtp_body_skip(csmtp_body *body, const uint8_t *bytes, size_t count)
{
    if (count == 0)
        return;
    bool after_cr = (count > 1 ? bytes[count - 2] : body->last) == '\r';
    body->last = bytes[count - 1];
    body->ended = body->last == '\n' && (after_cr || (body->changes & CSMTP_BODY_CRLF));
}

size_t csmtp_body_finish(csmtp_body *body, uint8_t out[5])
{
    const char *end = "\r\n.\r\n";
    size_t count = body->changes & CSMTP_BODY_DOTS ? strlen(end) : 2;
    size_t already_written = 0;
    if (body->ended)
        already_written = 2;
    else if ((body->changes & CSMTP_BODY_CRLF) && body->last == '\r')
        already_written = 1;
    end += already_written;
    count -= already_written;
    memcpy(out, end, count);
    csmtp_body_init(body, body->changes);
    return count;
}

/* Writes what has to be inserted between two bytes. Returns how many bytes that is, at most 2. */
static inline size_t insert(unsigned changes, uint8_t before, uint8_t here, uint8_t *out)
{
    size_t count = 0;
    bool crlf = changes & CSMTP_BODY_CRLF, dots = changes & CSMTP_BODY_DOTS;
    if (crlf && (before == '\r') != (here == '\n'))
        out[count++] = here == '\n' ? '\r' : '\n';
    if (dots && here == '.' && (before == '\n' || (crlf && before == '\r')))
        out[count++] = '.';
    return count;
}

size_t csmtp_body_growth_scalar(const csmtp_body *body, const uint8_t *bytes, size_t count)
{
    uint8_t before = body->last;
    size_t growth = 0;
    for (size_t i = 0; i < count; i++) {
        uint8_t inserted[2];
        growth += insert(body->changes, before, bytes[i], inserted);
        before = bytes[i];
    }
    return growth;
}

size_t csmtp_body_encode_scalar(csmtp_body *body, const uint8_t *bytes, size_t count,
                                uint8_t *out)
{
    const unsigned changes = body->changes;
    uint8_t before = body->last, *next = out;
    for (size_t i = 0; i < count; i++) {
        next += insert(changes, before, bytes[i], next);
        *next++ = before = bytes[i];
    }
    csmtp_body_skip(body, bytes, count);
    return (size_t)(next - out);
}

void csmtp_body_scan_init(csmtp_body_scan *scan)
{
    scan->line = 0;
    scan->longest_line = 0;
    scan->has_nul = false;
    scan->has_8bit = false;
}

static void measure(csmtp_body_scan *scan, size_t line)
{
    scan->line = line;
    if (line > scan->longest_line)
        scan->longest_line = line;
}

void csmtp_body_scan_add_scalar(csmtp_body_scan *scan, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool ends_line = bytes[i] == '\r' || bytes[i] == '\n';
        measure(scan, ends_line ? 0 : scan->line + 1);
        scan->has_nul |= bytes[i] == 0;
        scan->has_8bit |= bytes[i] > 127;
    }
}

#ifdef CSMTP_SIMD

enum { VECTOR = 16, BLOCK = 4 * VECTOR };

/* What insert() finds, for sixteen bytes at once. */
typedef struct {
    bytes16 breaks; /* half a line end: CR is missing before LF, or LF after CR */
    bytes16 dots;
} gaps;

/* Also reads bytes[-1]. line_cr is the CR that ends a line. */
static inline gaps find_gaps(const uint8_t *bytes, bytes16 line_cr)
{
    const bytes16 lf = all16('\n'), dot = all16('.');
    bytes16 here = load16(bytes), before = load16(bytes - 1);
    bytes16 after_cr = equal16(before, line_cr), after_lf = equal16(before, lf);
    gaps found = {
        xor16(after_cr, equal16(here, lf)),
        and16(or16(after_cr, after_lf), equal16(here, dot)),
    };
    return found;
}

/* Without CRLF no CR ends a line; then the breaks mean nothing and are not used. */
static inline bytes16 line_cr_of(const csmtp_body *body)
{
    return all16(body->changes & CSMTP_BODY_CRLF ? '\r' : '\n');
}

size_t csmtp_body_growth(const csmtp_body *body, const uint8_t *bytes, size_t count)
{
    if (count <= VECTOR)
        return csmtp_body_growth_scalar(body, bytes, count);

    const bytes16 line_cr = line_cr_of(body);
    size_t growth = csmtp_body_growth_scalar(body, bytes, 1), done = 1;
    for (size_t vectors = (count - 1) / VECTOR; vectors > 0;) {
        /* Each byte of the two sums counts to 255. */
        size_t batch = vectors < 255 ? vectors : 255;
        bytes16 breaks = all16(0), dots = all16(0);
        for (size_t stop = done + batch * VECTOR; done < stop; done += VECTOR) {
            gaps found = find_gaps(bytes + done, line_cr);
            breaks = subtract16(breaks, found.breaks);
            dots = subtract16(dots, found.dots);
        }
        if (body->changes & CSMTP_BODY_CRLF)
            growth += sum16(breaks);
        if (body->changes & CSMTP_BODY_DOTS)
            growth += sum16(dots);
        vectors -= batch;
    }

    csmtp_body rest = *body;
    csmtp_body_skip(&rest, bytes, done);
    return growth + csmtp_body_growth_scalar(&rest, bytes + done, count - done);
}

static inline void copy_block(uint8_t *out, const uint8_t *bytes)
{
    for (size_t i = 0; i < BLOCK; i += VECTOR)
        store16(out + i, load16(bytes + i));
}

size_t csmtp_body_encode(csmtp_body *body, const uint8_t *bytes, size_t count, uint8_t *out)
{
    if (count <= 2 * BLOCK)
        return csmtp_body_encode_scalar(body, bytes, count, out);

    const bytes16 line_cr = line_cr_of(body);
    const uint64_t wants_breaks = body->changes & CSMTP_BODY_CRLF ? UINT64_MAX : 0;
    const uint64_t wants_dots = body->changes & CSMTP_BODY_DOTS ? UINT64_MAX : 0;
    uint8_t *next = out + csmtp_body_encode_scalar(body, bytes, 1, out);
    size_t done = 1;

    /* Copies a whole block from each gap on, and overwrites what was too much: that is faster than
     * to find the length of each run. So two blocks must be left to read and to write. */
    for (; count - done >= 2 * BLOCK; done += BLOCK) {
        const uint8_t *block = bytes + done;
        gaps a = find_gaps(block, line_cr), b = find_gaps(block + VECTOR, line_cr);
        gaps c = find_gaps(block + 2 * VECTOR, line_cr), d = find_gaps(block + 3 * VECTOR, line_cr);
        uint64_t breaks = bits64(a.breaks, b.breaks, c.breaks, d.breaks) & wants_breaks;
        uint64_t dots = bits64(a.dots, b.dots, c.dots, d.dots) & wants_dots;

        copy_block(next, block);
        for (uint64_t todo = breaks | dots; todo != 0; todo &= todo - 1) {
            unsigned at = lowest_bit(todo);
            uint8_t *gap = next + at;
            /* Always written, and kept only if needed: there is no branch to mispredict. */
            *gap = block[at] == '\n' ? '\r' : '\n';
            gap += breaks >> at & 1;
            *gap = '.';
            gap += dots >> at & 1;
            copy_block(gap, block + at);
            next = gap - at;
        }
        next += BLOCK;
    }

    csmtp_body_skip(body, bytes, done);
    next += csmtp_body_encode_scalar(body, bytes + done, count - done, next);
    return (size_t)(next - out);
}

void csmtp_body_scan_add(csmtp_body_scan *scan, const uint8_t *bytes, size_t count)
{
    const bytes16 cr = all16('\r'), lf = all16('\n'), nul = all16(0);
    bytes16 nuls = nul, seen = nul;
    size_t done = 0;
    for (; count - done >= BLOCK; done += BLOCK) {
        bytes16 ends[BLOCK / VECTOR];
        for (size_t i = 0; i < BLOCK / VECTOR; i++) {
            bytes16 here = load16(bytes + done + i * VECTOR);
            ends[i] = or16(equal16(here, cr), equal16(here, lf));
            nuls = or16(nuls, equal16(here, nul));
            seen = or16(seen, here);
        }
        uint64_t todo = bits64(ends[0], ends[1], ends[2], ends[3]);
        size_t from = 0;
        for (; todo != 0; todo &= todo - 1) {
            size_t at = lowest_bit(todo);
            measure(scan, scan->line + at - from);
            scan->line = 0;
            from = at + 1;
        }
        measure(scan, scan->line + BLOCK - from);
    }
    scan->has_nul |= sum16(nuls) > 0;
    scan->has_8bit |= sum16(and16(seen, all16(0x80))) > 0;
    csmtp_body_scan_add_scalar(scan, bytes + done, count - done);
}

#else

size_t csmtp_body_growth(const csmtp_body *body, const uint8_t *bytes, size_t count)
{
    return csmtp_body_growth_scalar(body, bytes, count);
}

size_t csmtp_body_encode(csmtp_body *body, const uint8_t *bytes, size_t count, uint8_t *out)
{
    return csmtp_body_encode_scalar(body, bytes, count, out);
}

void csmtp_body_scan_add(csmtp_body_scan *scan, const uint8_t *bytes, size_t count)
{
    csmtp_body_scan_add_scalar(scan, bytes, count);
}

#endif
