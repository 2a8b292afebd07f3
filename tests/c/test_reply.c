/* The reply scanner: which bytes are a reply, its caps, and its text, at every split. */
#include "check.h"
#include "reference.h"
#include "reply.h"

enum { MAX_LINE = 40, MAX_REPLY = 100 };

static csmtp_reply_status find(csmtp_reply_scan *scan, const uint8_t *bytes, size_t count)
{
    uint8_t *received = exact_copy(bytes, count);
    csmtp_reply_status status = csmtp_reply_find(scan, received, count, MAX_LINE, MAX_REPLY);
    free(received);
    return status;
}

static bool is_too_long(csmtp_reply_status status)
{
    return status == CSMTP_REPLY_LINE_TOO_LONG || status == CSMTP_REPLY_TOO_LONG;
}

static void check_join(const uint8_t *reply, size_t count)
{
    uint8_t *expected = exact_room(count), *text = exact_room(count);
    size_t expected_length = reference_join(reply, count, expected);
    uint8_t *in_place = exact_copy(reply, count);
    size_t length = csmtp_reply_join(in_place, count, text);
    CHECK_FOR(reply, count, same(text, length, expected, expected_length));
    length = csmtp_reply_join(in_place, count, in_place);
    CHECK_FOR(reply, count, same(in_place, length, expected, expected_length));
    free(in_place);
    free(text);
    free(expected);
}

/* Compares the scanner with the reference: in one piece, in two, and byte by byte. */
static csmtp_reply_status check_reply(const uint8_t *bytes, size_t count)
{
    int code = -1;
    size_t expected_used = 0;
    csmtp_reply_status expected =
        reference_reply(bytes, count, MAX_LINE, MAX_REPLY, &code, &expected_used);

    csmtp_reply_scan by_byte;
    csmtp_reply_scan_init(&by_byte);
    csmtp_reply_status status_by_byte = CSMTP_REPLY_MORE;
    for (size_t cut = 0; cut <= count; cut++) {
        csmtp_reply_scan scan;
        csmtp_reply_scan_init(&scan);
        csmtp_reply_status status = find(&scan, bytes, cut);
        if (status == CSMTP_REPLY_MORE)
            status = find(&scan, bytes, count);
        CHECK_FOR(bytes, count, status == expected);
        if (is_too_long(status))
            CHECK_FOR(bytes, count, scan.searched == expected_used);
        else if (status != CSMTP_REPLY_MORE)
            CHECK_FOR(bytes, count, scan.line == expected_used);
        if (status == CSMTP_REPLY_DONE)
            CHECK_FOR(bytes, count, scan.code == code);

        if (status_by_byte != CSMTP_REPLY_MORE)
            continue;
        status_by_byte = find(&by_byte, bytes, cut);
        /* The result comes as soon as possible: with the byte that decides. */
        if (status_by_byte != CSMTP_REPLY_MORE)
            CHECK_FOR(bytes, count, cut == expected_used + is_too_long(status_by_byte));
    }
    CHECK_FOR(bytes, count, status_by_byte == expected);
    if (expected == CSMTP_REPLY_DONE)
        check_join(bytes, expected_used);
    return expected;
}

static const struct {
    const char *bytes;
    csmtp_reply_status status;
    int code;
    size_t surplus; /* bytes after the reply */
    const char *text;
} forms[] = {
    {"250 ok\r\n", CSMTP_REPLY_DONE, 250, 0, "ok"},
    {"220-a\r\n220 b\r\n", CSMTP_REPLY_DONE, 220, 0, "a\nb"},
    {"220-a\r\n220-\r\n220 b\r\n", CSMTP_REPLY_DONE, 220, 0, "a\n\nb"},
    {"554 no\r\n", CSMTP_REPLY_DONE, 554, 0, "no"},
    {"421 bye\r\n", CSMTP_REPLY_DONE, 421, 0, "bye"},
    {"100 wait\r\n", CSMTP_REPLY_DONE, 100, 0, "wait"},
    {"000 \r\n", CSMTP_REPLY_DONE, 0, 0, ""},
    {"999 \r\n", CSMTP_REPLY_DONE, 999, 0, ""},
    {"250\r\n", CSMTP_REPLY_DONE, 250, 0, ""},
    {"250\n", CSMTP_REPLY_DONE, 250, 0, ""},
    {"250-a\n250\n", CSMTP_REPLY_DONE, 250, 0, "a\n"},
    {"250 x\n", CSMTP_REPLY_DONE, 250, 0, "x"},
    {"250 \t x y \t\r\n", CSMTP_REPLY_DONE, 250, 0, "x y"},
    {"250 a\rb\r\n", CSMTP_REPLY_DONE, 250, 0, "a\rb"},
    {"250 \xff\x80\r\n", CSMTP_REPLY_DONE, 250, 0, "\xff\x80"},
    {"250 ok\r\n250 extra\r\n", CSMTP_REPLY_DONE, 250, 11, "ok"},
    {"220 go\r\n250-AU", CSMTP_REPLY_DONE, 220, 6, "go"},
    {"", CSMTP_REPLY_MORE, 0, 0, ""},
    {"2", CSMTP_REPLY_MORE, 0, 0, ""},
    {"250", CSMTP_REPLY_MORE, 0, 0, ""},
    {"250 ok\r", CSMTP_REPLY_MORE, 0, 0, ""},
    {"250-a\r\n", CSMTP_REPLY_MORE, 0, 0, ""},
    {"250-a\r\n250 b", CSMTP_REPLY_MORE, 0, 0, ""},
    {"\n", CSMTP_REPLY_BAD_CODE, 0, 0, ""},
    {"\r\n", CSMTP_REPLY_BAD_CODE, 0, 0, ""},
    {"2\n", CSMTP_REPLY_BAD_CODE, 0, 0, ""},
    {"25\n", CSMTP_REPLY_BAD_CODE, 0, 0, ""},
    {"25\r\n", CSMTP_REPLY_BAD_CODE, 0, 0, ""},
    {"25 x\r\n", CSMTP_REPLY_BAD_CODE, 0, 0, ""},
    {"2500 x\r\n", CSMTP_REPLY_BAD_CODE, 0, 0, ""},
    {"+25 x\r\n", CSMTP_REPLY_BAD_CODE, 0, 0, ""},
    {"2_5 x\r\n", CSMTP_REPLY_BAD_CODE, 0, 0, ""},
    {" 25 x\r\n", CSMTP_REPLY_BAD_CODE, 0, 0, ""},
    {"\xb2\xb2\xb2 x\r\n", CSMTP_REPLY_BAD_CODE, 0, 0, ""},
    {"250xhi\r\n", CSMTP_REPLY_BAD_CODE, 0, 0, ""},
    {"250\thi\r\n", CSMTP_REPLY_BAD_CODE, 0, 0, ""},
    {"250\rhi\r\n", CSMTP_REPLY_BAD_CODE, 0, 0, ""},
    {"250\r\r\n", CSMTP_REPLY_BAD_CODE, 0, 0, ""},
    {"2/0 x\r\n", CSMTP_REPLY_BAD_CODE, 0, 0, ""},
    {"2:0 x\r\n", CSMTP_REPLY_BAD_CODE, 0, 0, ""},
    {"abc\r\n", CSMTP_REPLY_BAD_CODE, 0, 0, ""},
    {"250-a\r\nb\r\n250 c\r\n", CSMTP_REPLY_BAD_CODE, 0, 7, ""},
    {"250-a\r\n\r\n", CSMTP_REPLY_BAD_CODE, 0, 0, ""},
    {"250-a\r\n550 b\r\n", CSMTP_REPLY_MIXED_CODES, 0, 0, ""},
    {"250-a\r\n251-b\r\n250 c\r\n", CSMTP_REPLY_MIXED_CODES, 0, 7, ""},
};

static void test_forms(void)
{
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        const uint8_t *bytes = (const uint8_t *)forms[i].bytes;
        size_t count = strlen(forms[i].bytes);
        CHECK_FOR(bytes, count, check_reply(bytes, count) == forms[i].status);

        csmtp_reply_scan scan;
        csmtp_reply_scan_init(&scan);
        if (find(&scan, bytes, count) == CSMTP_REPLY_MORE)
            continue;
        CHECK_FOR(bytes, count, scan.line == count - forms[i].surplus);
        if (forms[i].status != CSMTP_REPLY_DONE)
            continue;
        CHECK_FOR(bytes, count, scan.code == forms[i].code);
        uint8_t *text = exact_room(scan.line);
        size_t length = csmtp_reply_join(bytes, scan.line, text);
        const uint8_t *expected = (const uint8_t *)forms[i].text;
        CHECK_FOR(bytes, count, same(text, length, expected, strlen(forms[i].text)));
        free(text);
    }
}

/* A NUL is a byte like any other: it ends no line and no text, and is no digit. */
static void test_nul(void)
{
    static const uint8_t in_text[] = "250 a\0b\r\n", in_code[] = "2\0" "5 a\r\n";
    CHECK(check_reply(in_text, sizeof in_text - 1) == CSMTP_REPLY_DONE);
    uint8_t text[sizeof in_text];
    size_t length = csmtp_reply_join(in_text, sizeof in_text - 1, text);
    CHECK(same(text, length, (const uint8_t *)"a\0b", 3));
    CHECK(check_reply(in_code, sizeof in_code - 1) == CSMTP_REPLY_BAD_CODE);
}

/* Every reply of up to six of these, or five. */
static void test_every_reply(void)
{
    static const char *const parts[] = {"250", "25", "5", "-", " ", "\r", "\n", "x"};
    static const char indexes[] = "01234567";
    uint8_t chosen[IS_BRIEF ? 5 : 6], bytes[3 * sizeof chosen];
    for (size_t count = 0; count <= sizeof chosen; count++) {
        for (size_t i = 0; nth_string(i, chosen, count, indexes); i++) {
            size_t length = 0;
            for (size_t k = 0; k < count; k++) {
                const char *part = parts[chosen[k] - '0'];
                memcpy(bytes + length, part, strlen(part));
                length += strlen(part);
            }
            check_reply(bytes, length);
            check_join(bytes, length);
        }
    }
}

static size_t append_line(uint8_t *bytes, size_t count, const char *code, size_t length)
{
    memcpy(bytes + count, code, 4);
    memset(bytes + count + 4, 'x', length - 6);
    memcpy(bytes + count + length - 2, "\r\n", 2);
    return count + length;
}

static void test_caps(void)
{
    uint8_t bytes[4 * MAX_REPLY];
    CHECK(check_reply(bytes, append_line(bytes, 0, "250 ", MAX_LINE)) == CSMTP_REPLY_DONE);
    CHECK(check_reply(bytes, append_line(bytes, 0, "250 ", MAX_LINE + 1))
          == CSMTP_REPLY_LINE_TOO_LONG);

    /* An unfinished line is too long as soon as it exceeds the cap. */
    memset(bytes, '2', sizeof bytes);
    CHECK(check_reply(bytes, MAX_LINE) == CSMTP_REPLY_MORE);
    CHECK(check_reply(bytes, MAX_LINE + 1) == CSMTP_REPLY_LINE_TOO_LONG);
    CHECK(check_reply(bytes, sizeof bytes) == CSMTP_REPLY_LINE_TOO_LONG);

    /* Lines that do not end the reply: 40 and 40 bytes leave 20. */
    size_t count = append_line(bytes, 0, "250-", MAX_LINE);
    count = append_line(bytes, count, "250-", MAX_LINE);
    size_t left = MAX_REPLY - count;
    CHECK(check_reply(bytes, append_line(bytes, count, "250 ", left)) == CSMTP_REPLY_DONE);
    CHECK(check_reply(bytes, append_line(bytes, count, "250 ", left + 1))
          == CSMTP_REPLY_TOO_LONG);
    CHECK(check_reply(bytes, append_line(bytes, count, "250 ", 2 * MAX_LINE))
          == CSMTP_REPLY_TOO_LONG);
    CHECK(check_reply(bytes, append_line(bytes, count, "250-", left)) == CSMTP_REPLY_MORE);

    /* Short lines without end. */
    for (count = 0; count + 10 <= sizeof bytes;)
        count = append_line(bytes, count, "220-", 10);
    CHECK(check_reply(bytes, count) == CSMTP_REPLY_TOO_LONG);

    /* Both caps in the same place: it is the line's. */
    count = append_line(bytes, 0, "250-", MAX_LINE);
    count = append_line(bytes, count, "250-", MAX_REPLY - 2 * MAX_LINE);
    CHECK(check_reply(bytes, append_line(bytes, count, "250 ", MAX_LINE + 1))
          == CSMTP_REPLY_LINE_TOO_LONG);
}

static void test_random_replies(void)
{
    static const char alphabet[] = "250 -\r\n\n\t.x";
    uint8_t bytes[200];
    uint64_t random = 220;
    for (size_t i = 0; i < 5000; i++) {
        size_t count = next_random(&random) % (sizeof bytes + 1);
        for (size_t k = 0; k < count; k++)
            bytes[k] = (uint8_t)alphabet[next_random(&random) % (sizeof alphabet - 1)];
        /* Random bytes are too rarely a code. */
        for (size_t k = 0; k + 4 < count; k++) {
            if (k == 0 || bytes[k - 1] == '\n')
                memcpy(bytes + k, next_random(&random) % 16 ? "250-" : "250 ", 4);
        }
        check_reply(bytes, count);
        check_join(bytes, count);
    }
}

int main(void)
{
    test_forms();
    test_nul();
    test_every_reply();
    test_caps();
    test_random_replies();
    return report_checks();
}
