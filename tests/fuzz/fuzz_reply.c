/* libFuzzer target: the reply scanner.
 *
 * Input: a byte for each cap, one that chooses the chunks, and the bytes of the server. They are
 * read reply by reply, as a connection does, up to the first fault. */
#include <assert.h>

#include "check.h"
#include "reference.h"
#include "reply.h"

static void check_join(const uint8_t *reply, size_t count)
{
    uint8_t *expected = exact_room(count), *text = exact_room(count);
    size_t expected_length = reference_join(reply, count, expected);
    assert(expected_length <= count);
    size_t length = csmtp_reply_join(reply, count, text);
    assert(same(text, length, expected, expected_length));
    free(text);
    uint8_t *in_place = exact_copy(reply, count);
    length = csmtp_reply_join(in_place, count, in_place);
    assert(same(in_place, length, expected, expected_length));
    free(in_place);
    free(expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    size_t max_line = data[0], max_reply = 4 * (size_t)data[1];
    uint64_t random = data[2] | 1 << 8;
    const uint8_t *bytes = data + 3;
    size_t count = size - 3;
    check_join(bytes, count);

    for (;;) {
        int code = -1;
        size_t used = 0;
        csmtp_reply_status expected =
            reference_reply(bytes, count, max_line, max_reply, &code, &used);

        csmtp_reply_scan whole, chunked;
        csmtp_reply_scan_init(&whole);
        assert(csmtp_reply_find(&whole, bytes, count, max_line, max_reply) == expected);

        csmtp_reply_scan_init(&chunked);
        csmtp_reply_status status = CSMTP_REPLY_MORE;
        for (size_t received = 0;;) {
            uint8_t *copy = exact_copy(bytes, received);
            status = csmtp_reply_find(&chunked, copy, received, max_line, max_reply);
            free(copy);
            if (status != CSMTP_REPLY_MORE || received == count)
                break;
            size_t chunk = 1 + next_random(&random) % 64;
            received += chunk < count - received ? chunk : count - received;
        }
        assert(status == expected);
        assert(whole.line == chunked.line && whole.searched == chunked.searched);
        assert(whole.code == chunked.code);

        if (expected == CSMTP_REPLY_MORE)
            return 0;
        bool is_too_long =
            expected == CSMTP_REPLY_LINE_TOO_LONG || expected == CSMTP_REPLY_TOO_LONG;
        assert((is_too_long ? whole.searched : whole.line) == used);
        if (expected != CSMTP_REPLY_DONE)
            return 0;
        assert(whole.code == code && used > 0 && bytes[used - 1] == '\n');
        check_join(bytes, used);
        bytes += used;
        count -= used;
    }
}
