/* The receive buffer: room, growth and moves, and replies that come in parts. */
#include "check.h"
#include "denial.h"
#include "receive.h"

enum { MAX_LINE = 40, MAX_REPLY = 100 };

static bool put(csmtp_receive *receive, const char *bytes, size_t count)
{
    uint8_t *room = csmtp_receive_reserve(receive, count);
    if (!room)
        return false;
    memcpy(room, bytes, count);
    receive->end += count;
    return true;
}

/* Reads the next reply of a buffer, and compares it with what is expected. */
static void check_next(csmtp_receive *receive, int code, size_t count)
{
    CHECK(csmtp_receive_find(receive) == CSMTP_REPLY_DONE);
    CHECK(receive->scan.code == code && receive->scan.line == count);
    csmtp_receive_drop(receive, receive->scan.line);
    CHECK(receive->scan.line == 0 && receive->scan.searched == 0 && receive->scan.code == -1);
}

static void test_nothing(void)
{
    csmtp_receive receive;
    csmtp_receive_init(&receive, MAX_LINE, MAX_REPLY);
    CHECK(!receive.bytes && receive.room == 0);
    CHECK(csmtp_receive_find(&receive) == CSMTP_REPLY_MORE);
    CHECK(csmtp_receive_reserve(&receive, 0));
    CHECK(csmtp_receive_find(&receive) == CSMTP_REPLY_MORE);
    csmtp_receive_free(&receive);
    CHECK(!receive.bytes && receive.max_line == MAX_LINE && receive.max_reply == MAX_REPLY);
    csmtp_receive_free(&receive);
}

/* Two replies that come in two parts, cut anywhere, with bytes moved in between. */
static void test_every_cut(void)
{
    static const char bytes[] = "250-a\r\n250 b\r\n354 go\r\n";
    for (size_t cut = 0; cut < sizeof bytes; cut++) {
        for (size_t surplus = 0; surplus < 3; surplus++) {
            csmtp_receive receive;
            csmtp_receive_init(&receive, MAX_LINE, MAX_REPLY);
            CHECK(put(&receive, bytes, cut));
            if (cut < 14) {
                CHECK(csmtp_receive_find(&receive) == CSMTP_REPLY_MORE);
                CHECK(put(&receive, bytes + cut, sizeof bytes - 1 - cut));
                check_next(&receive, 250, 14);
            } else {
                check_next(&receive, 250, 14);
                CHECK(cut > 14 || (receive.start == 0 && receive.end == 0));
                CHECK(cut == sizeof bytes - 1 ||
                      csmtp_receive_find(&receive) == CSMTP_REPLY_MORE);
                /* So many that the bytes have to move, or do not. */
                CHECK(csmtp_receive_reserve(&receive, surplus * receive.room));
                CHECK(put(&receive, bytes + cut, sizeof bytes - 1 - cut));
            }
            check_next(&receive, 354, 8);
            CHECK(receive.start == 0 && receive.end == 0);
            csmtp_receive_free(&receive);
        }
    }
}

/* Unread bytes stay the same, whatever is reserved and dropped. */
static void test_growth_and_moves(void)
{
    csmtp_receive receive;
    csmtp_receive_init(&receive, MAX_LINE, MAX_REPLY);
    uint64_t random = 2821;
    uint8_t next_in = 0, next_out = 0;
    size_t most = 0;
    for (size_t i = 0; i < 20000; i++) {
        size_t count = next_random(&random) % 50;
        uint8_t *room = csmtp_receive_reserve(&receive, count);
        CHECK(room == receive.bytes + receive.end && count <= receive.room - receive.end);
        for (size_t k = 0; k < count; k++)
            room[k] = next_in++;
        receive.end += count;
        size_t unread = receive.end - receive.start;
        most = unread > most ? unread : most;
        size_t dropped = next_random(&random) % (unread + 1);
        if (next_random(&random) % 8 == 0)
            dropped = unread;
        for (size_t k = 0; k < dropped; k++)
            CHECK(receive.bytes[receive.start + k] == next_out++);
        csmtp_receive_drop(&receive, dropped);
        CHECK(receive.start <= receive.end && receive.end <= receive.room);
    }
    /* It does not grow for what was read. */
    CHECK(receive.room <= 2 * (most + 50) + 1);
    csmtp_receive_free(&receive);
}

static void test_no_move_without_need(void)
{
    csmtp_receive receive;
    csmtp_receive_init(&receive, MAX_LINE, MAX_REPLY);
    CHECK(csmtp_receive_reserve(&receive, 100));
    const uint8_t *bytes = receive.bytes;
    CHECK(put(&receive, "250 ok\r\n250 ", 12));
    check_next(&receive, 250, 8);
    CHECK(receive.start == 8);
    CHECK(csmtp_receive_reserve(&receive, receive.room - receive.end) == bytes + 12);
    CHECK(receive.start == 8);
    CHECK(csmtp_receive_reserve(&receive, receive.room - receive.end + 1) == bytes + 4);
    CHECK(receive.start == 0 && receive.bytes == bytes);
    csmtp_receive_free(&receive);
}

static void test_caps(void)
{
    static const char x[] = "250 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n";
    static const char lines[] = "250-xxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n";
    csmtp_receive receive;
    csmtp_receive_init(&receive, MAX_LINE, MAX_REPLY);
    /* After a reply that was read, the caps count from the start of the next. */
    CHECK(put(&receive, "250 ok\r\n", 8));
    CHECK(put(&receive, x, MAX_LINE));
    check_next(&receive, 250, 8);
    CHECK(csmtp_receive_find(&receive) == CSMTP_REPLY_MORE);
    CHECK(put(&receive, x + MAX_LINE, 1));
    CHECK(csmtp_receive_find(&receive) == CSMTP_REPLY_LINE_TOO_LONG);
    CHECK(receive.scan.searched == MAX_LINE);
    csmtp_receive_drop(&receive, receive.end - receive.start);

    for (size_t i = 0; i < 3; i++)
        CHECK(put(&receive, lines, sizeof lines - 1));
    CHECK(csmtp_receive_find(&receive) == CSMTP_REPLY_TOO_LONG);
    CHECK(receive.scan.searched == MAX_REPLY);
    csmtp_receive_free(&receive);
}

static void test_no_memory(void)
{
    csmtp_receive receive;
    csmtp_receive_init(&receive, MAX_LINE, MAX_REPLY);
    allocations_left = 0;
    CHECK(!csmtp_receive_reserve(&receive, 1));
    allocations_left = SIZE_MAX;
    CHECK(put(&receive, "250 ok\r\n250 ok", 14));
    check_next(&receive, 250, 8);
    allocations_left = 0;
    CHECK(!csmtp_receive_reserve(&receive, receive.room));
    allocations_left = SIZE_MAX;
    /* More than the address space is refused without a request to the system. */
    CHECK(!csmtp_receive_reserve(&receive, SIZE_MAX));
    CHECK(!csmtp_receive_reserve(&receive, SIZE_MAX / 2));
    /* The unread bytes are still there. */
    CHECK(put(&receive, "\r\n", 2));
    check_next(&receive, 250, 8);
    csmtp_receive_free(&receive);
}

int main(void)
{
    test_nothing();
    test_every_cut();
    test_growth_and_moves();
    test_no_move_without_need();
    test_caps();
    test_no_memory();
    return report_checks();
}
