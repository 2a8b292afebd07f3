/* Body encoding and scan: against the reference, SIMD against scalar, whole and in chunks. */
#include "body.h"
#include "check.h"
#include "reference.h"

enum {
    LONGEST = 20000, /* more than the bytes of a vector can count in 255 steps */
    ALL_MODES = (CSMTP_BODY_CRLF | CSMTP_BODY_DOTS) + 1
};

static const char alphabet[] = "\r\n.a";

static bool same_state(const csmtp_body *a, const csmtp_body *b)
{
    return a->changes == b->changes && a->last == b->last && a->ended == b->ended;
}

/* Encodes a chunk in both ways, from and to memory of the exact size, and appends it to out. */
static size_t encode_chunk(csmtp_body *body, const uint8_t *bytes, size_t count, uint8_t *out)
{
    uint8_t *chunk = exact_copy(bytes, count);
    size_t growth = csmtp_body_growth(body, chunk, count);
    CHECK_FOR(chunk, count, growth == csmtp_body_growth_scalar(body, chunk, count));
    CHECK_FOR(chunk, count, growth <= count + 1);

    csmtp_body scalar = *body, skipped = *body;
    uint8_t *encoded = exact_room(count + growth), *encoded_scalar = exact_room(count + growth);
    size_t length = csmtp_body_encode(body, chunk, count, encoded);
    size_t length_scalar = csmtp_body_encode_scalar(&scalar, chunk, count, encoded_scalar);
    csmtp_body_skip(&skipped, chunk, count);
    CHECK_FOR(chunk, count, length == count + growth);
    CHECK_FOR(chunk, count, same(encoded, length, encoded_scalar, length_scalar));
    CHECK_FOR(chunk, count, same_state(body, &scalar) && same_state(body, &skipped));
    CHECK_FOR(chunk, count, (growth == 0) == same(chunk, count, encoded, length));

    if (length > 0)
        memcpy(out, encoded, length);
    free(encoded_scalar);
    free(encoded);
    free(chunk);
    return length;
}

/* Encodes bytes in chunks that end at the cuts, and at the end. */
static void check_body(unsigned what, const uint8_t *bytes, size_t count, const size_t *cuts,
                       size_t cut_count)
{
    static uint8_t expected[4 * LONGEST + 5], out[4 * LONGEST + 5];
    csmtp_body body;
    csmtp_body_init(&body, what);
    size_t length = 0, from = 0;
    for (size_t i = 0; i <= cut_count; i++) {
        size_t to = i < cut_count ? cuts[i] : count;
        length += encode_chunk(&body, bytes + from, to - from, out + length);
        from = to;
    }
    uint8_t *end = exact_room(5);
    size_t end_length = csmtp_body_finish(&body, end);
    CHECK_FOR(bytes, count, end_length <= 5);
    memcpy(out + length, end, end_length);
    free(end);
    size_t expected_length = reference_body(what, bytes, count, expected);
    CHECK_FOR(bytes, count, same(out, length + end_length, expected, expected_length));

    csmtp_body fresh;
    csmtp_body_init(&fresh, what);
    CHECK(same_state(&body, &fresh));
}

/* Every string of up to 8 bytes, or 6 if brief, in one chunk and in two. */
static void test_every_split(void)
{
    uint8_t bytes[IS_BRIEF ? 6 : 8];
    for (size_t count = 0; count <= sizeof bytes; count++) {
        for (size_t i = 0; nth_string(i, bytes, count, alphabet); i++) {
            for (unsigned what = 1; what < ALL_MODES; what++) {
                for (size_t cut = 0; cut <= count; cut++)
                    check_body(what, bytes, count, &cut, 1);
            }
        }
    }
}

/* Every string of 6 bytes where vectors and blocks meet; the first vector begins at the second
 * byte. */
static void test_every_string_across_borders(void)
{
    static const size_t borders[] = {1, 1 + 16, 1 + 64, 1 + 128, 200};
    uint8_t bytes[200];
    for (size_t b = 0; b < sizeof borders / sizeof *borders; b++) {
        size_t place = borders[b] < 3 ? 0 : borders[b] - 3;
        if (place + 6 > sizeof bytes)
            place = sizeof bytes - 6;
        memset(bytes, 'a', sizeof bytes);
        for (size_t i = 0; nth_string(i, bytes + place, 6, alphabet); i++) {
            for (unsigned what = 1; what < ALL_MODES; what++)
                check_body(what, bytes, sizeof bytes, NULL, 0);
        }
    }
}

/* Fills memory with lines: mostly letters; kind says how often there are line ends and dots. */
static void fill(uint8_t *bytes, size_t count, uint64_t *random, unsigned kind)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t number = next_random(random);
        bool special = kind == 0 || number % (kind * 8) == 0;
        bytes[i] = special ? (uint8_t)alphabet[number >> 32 & 3] : (uint8_t)(number >> 40 | 0x40);
        if (kind == 3 && i > 0 && bytes[i - 1] == '\r')
            bytes[i] = '\n';
    }
}

static void test_long_bodies(void)
{
    static uint8_t bytes[LONGEST];
    uint64_t random = 20240229;
    for (size_t count = 0; count <= 400; count++) {
        for (unsigned kind = 0; kind < 4; kind++) {
            fill(bytes, count, &random, kind);
            size_t cuts[3];
            for (unsigned what = 0; what < ALL_MODES; what++) {
                cuts[0] = next_random(&random) % (count + 1);
                cuts[1] = cuts[0] + next_random(&random) % (count - cuts[0] + 1);
                cuts[2] = cuts[1] + next_random(&random) % (count - cuts[1] + 1);
                check_body(what, bytes, count, NULL, 0);
                check_body(what, bytes, count, cuts, 3);
            }
        }
    }
}

/* Every byte needs one more: the sums of a vector must not overflow. */
static void test_full_counters(void)
{
    static const char *const repeated[] = {"\n", "\r", ".", "\n.", "\r.", "\n\r", "\r\n.", "a"};
    static uint8_t bytes[LONGEST];
    for (size_t r = 0; r < sizeof repeated / sizeof *repeated; r++) {
        for (size_t i = 0; i < LONGEST; i++)
            bytes[i] = (uint8_t)repeated[r][i % strlen(repeated[r])];
        for (unsigned what = 0; what < ALL_MODES; what++)
            check_body(what, bytes, LONGEST, NULL, 0);
    }
}

/* The same bytes at every distance from malloc's alignment. */
static void test_alignments(void)
{
    uint8_t bytes[64 + 150];
    uint64_t random = 5321;
    for (size_t offset = 0; offset < 64; offset++) {
        fill(bytes, sizeof bytes, &random, 1);
        size_t count = sizeof bytes - offset;
        csmtp_body body, scalar;
        csmtp_body_init(&body, CSMTP_BODY_CRLF | CSMTP_BODY_DOTS);
        scalar = body;
        uint8_t *unaligned = exact_copy(bytes, sizeof bytes) + offset;
        size_t growth = csmtp_body_growth_scalar(&body, unaligned, count);
        CHECK(csmtp_body_growth(&body, unaligned, count) == growth);
        uint8_t *out = exact_room(offset + count + growth);
        uint8_t *expected = exact_room(count + growth);
        csmtp_body_encode(&body, unaligned, count, out + offset);
        csmtp_body_encode_scalar(&scalar, unaligned, count, expected);
        CHECK(same(out + offset, count + growth, expected, count + growth));
        free(expected);
        free(out);
        free(unaligned - offset);
    }
}

static void check_scan(const uint8_t *bytes, size_t count, size_t cut)
{
    uint8_t *first = exact_copy(bytes, cut), *second = exact_copy(bytes + cut, count - cut);
    csmtp_body_scan scan, scalar, expected = reference_scan(bytes, count);
    csmtp_body_scan_init(&scan);
    csmtp_body_scan_add(&scan, first, cut);
    csmtp_body_scan_add(&scan, second, count - cut);
    csmtp_body_scan_init(&scalar);
    csmtp_body_scan_add_scalar(&scalar, first, cut);
    csmtp_body_scan_add_scalar(&scalar, second, count - cut);
    free(second);
    free(first);
    const csmtp_body_scan *found[] = {&scan, &scalar};
    for (size_t i = 0; i < 2; i++) {
        CHECK_FOR(bytes, count, found[i]->line == expected.line);
        CHECK_FOR(bytes, count, found[i]->longest_line == expected.longest_line);
        CHECK_FOR(bytes, count, found[i]->has_nul == expected.has_nul);
        CHECK_FOR(bytes, count, found[i]->has_8bit == expected.has_8bit);
    }
}

static void test_scan(void)
{
    static uint8_t bytes[300];
    uint64_t random = 998;
    for (size_t count = 0; count <= sizeof bytes; count++) {
        for (unsigned kind = 0; kind < 4; kind++) {
            fill(bytes, count, &random, kind);
            check_scan(bytes, count, next_random(&random) % (count + 1));
        }
        /* A single NUL or 8-bit byte in every place. */
        memset(bytes, 'a', count);
        check_scan(bytes, count, 0);
        for (size_t i = 0; i < count; i++) {
            bytes[i] = i % 2 ? 0 : 0x80;
            check_scan(bytes, count, 0);
            bytes[i] = 'a';
        }
    }
}

int main(void)
{
    test_every_split();
    test_every_string_across_borders();
    test_long_bodies();
    test_full_counters();
    test_alignments();
    test_scan();
    return report_checks();
}
