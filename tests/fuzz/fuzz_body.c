/* libFuzzer target: the body encoder and the scan.
 *
 * Input: a byte that chooses the changes, two bytes that choose the chunks, and the body. */
#include <assert.h>

#include "body.h"
#include "check.h"
#include "reference.h"

/* Removes dots and terminator from a body as a server does (RFC 5321 section 4.5.2). Returns the
 * length of what is left in wire, or SIZE_MAX if it does not end at the first terminator. */
static size_t decode(uint8_t *wire, size_t count)
{
    size_t length = 0;
    for (size_t i = 0; i < count;) {
        if (wire[i] == '.') {
            if (count - i >= 3 && wire[i + 1] == '\r' && wire[i + 2] == '\n')
                return i + 3 == count ? length : SIZE_MAX;
            i++;
        }
        const uint8_t *lf = memchr(wire + i, '\n', count - i);
        while (lf && lf > wire && lf[-1] != '\r')
            lf = memchr(lf + 1, '\n', count - (size_t)(lf + 1 - wire));
        if (!lf)
            return SIZE_MAX;
        size_t line = (size_t)(lf + 1 - (wire + i));
        memmove(wire + length, wire + i, line);
        length += line;
        i += line;
    }
    return SIZE_MAX;
}

/* Encodes a chunk in both ways, and appends it to wire. */
static size_t encode(csmtp_body *body, const uint8_t *bytes, size_t count, uint8_t *wire)
{
    csmtp_body scalar = *body, skipped = *body;
    size_t growth = csmtp_body_growth(body, bytes, count);
    assert(growth == csmtp_body_growth_scalar(body, bytes, count));
    uint8_t *out = exact_room(count + growth), *out_scalar = exact_room(count + growth);
    assert(csmtp_body_encode(body, bytes, count, out) == count + growth);
    assert(csmtp_body_encode_scalar(&scalar, bytes, count, out_scalar) == count + growth);
    assert(same(out, count + growth, out_scalar, count + growth));
    csmtp_body_skip(&skipped, bytes, count);
    assert(body->last == scalar.last && body->ended == scalar.ended);
    assert(body->last == skipped.last && body->ended == skipped.ended);
    assert(growth > 0 || same(out, count, bytes, count));
    if (count + growth > 0)
        memcpy(wire, out, count + growth);
    free(out_scalar);
    free(out);
    return count + growth;
}

static void check_scan(const uint8_t *bytes, size_t count, size_t cut)
{
    csmtp_body_scan scan, scalar, expected = reference_scan(bytes, count);
    csmtp_body_scan_init(&scan);
    csmtp_body_scan_add(&scan, bytes, cut);
    csmtp_body_scan_add(&scan, bytes + cut, count - cut);
    csmtp_body_scan_init(&scalar);
    csmtp_body_scan_add_scalar(&scalar, bytes, count);
    assert(scan.longest_line == expected.longest_line && scan.line == expected.line);
    assert(scan.has_nul == expected.has_nul && scan.has_8bit == expected.has_8bit);
    assert(scalar.longest_line == expected.longest_line && scalar.line == expected.line);
    assert(scalar.has_nul == expected.has_nul && scalar.has_8bit == expected.has_8bit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    unsigned what = data[0] & (CSMTP_BODY_CRLF | CSMTP_BODY_DOTS);
    uint64_t random = (uint64_t)data[1] << 8 | data[2] | 1 << 16;
    size_t longest_chunk = 1 + next_random(&random) % 1024;
    size_t count = size - 3;
    uint8_t *bytes = exact_copy(data + 3, count);
    uint8_t *expected = exact_room(4 * count + 5);
    size_t expected_length = reference_body(what, bytes, count, expected);

    uint8_t *wire = exact_room(expected_length);
    csmtp_body whole;
    csmtp_body_init(&whole, what);
    assert(csmtp_body_growth(&whole, bytes, count) + count <= expected_length);
    size_t length = encode(&whole, bytes, count, wire);
    uint8_t end[5];
    size_t end_length = csmtp_body_finish(&whole, end);
    assert(length + end_length == expected_length);
    memcpy(wire + length, end, end_length);
    assert(same(wire, expected_length, expected, expected_length));

    csmtp_body chunked;
    csmtp_body_init(&chunked, what);
    length = 0;
    for (size_t done = 0; done < count;) {
        size_t chunk = next_random(&random) % (longest_chunk + 1);
        chunk = chunk < count - done ? chunk : count - done;
        uint8_t *copy = exact_copy(bytes + done, chunk);
        assert(csmtp_body_growth(&chunked, copy, chunk) + chunk <= expected_length - length);
        length += encode(&chunked, copy, chunk, wire + length);
        free(copy);
        done += chunk;
    }
    end_length = csmtp_body_finish(&chunked, end);
    assert(length + end_length == expected_length);
    memcpy(wire + length, end, end_length);
    assert(same(wire, expected_length, expected, expected_length));

    if (what == (CSMTP_BODY_CRLF | CSMTP_BODY_DOTS)) {
        /* A server reads the body with corrected line ends, and one at its end. */
        uint8_t *lines = exact_room(2 * count + 2);
        size_t lines_length = reference_line_ends(bytes, count, lines);
        if (lines_length > 0 && lines[lines_length - 1] != '\n') {
            lines[lines_length++] = '\r';
            lines[lines_length++] = '\n';
        }
        length = decode(wire, expected_length);
        assert(length != SIZE_MAX && same(wire, length, lines, lines_length));
        free(lines);
    }
    check_scan(bytes, count, random % (count + 1));
    free(wire);
    free(expected);
    free(bytes);
    return 0;
}
