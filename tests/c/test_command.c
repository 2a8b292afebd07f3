/* What may stand in a command: control characters, plain addresses. */
#include "check.h"
#include "command.h"
#include "reference.h"

static void check_bytes(const uint8_t *bytes, size_t count)
{
    uint8_t *copy = exact_copy(bytes, count);
    CHECK_FOR(bytes, count,
              csmtp_find_control(copy, count) == reference_find_control(bytes, count));
    CHECK_FOR(bytes, count,
              csmtp_is_plain_address(copy, count) == reference_is_plain_address(bytes, count));
    free(copy);
}

static bool is_plain(const char *address)
{
    uint8_t *copy = exact_copy((const uint8_t *)address, strlen(address));
    bool answer = csmtp_is_plain_address(copy, strlen(address));
    free(copy);
    return answer;
}

static void test_addresses(void)
{
    static const char *const plain[] = {
        "a@b", "a.b@c.d", "A1@B2.C3", "first.last+tag@mail-1.example.org", "0@0", "-@-",
        "!#$%&'*+-/=?^_`{|}~@example.org",
    };
    static const char *const others[] = {
        "", "@", "a", "a@", "@b", ".a@b", "a.@b", "a..b@c", "a@.b", "a@b.", "a@b..c", "a@b@c",
        "a b@c", "a@b c", " a@b", "a@b ", "<a@b>", "a@b>", "\"a\"@b", "a@b_c", "a@[127.0.0.1]",
        "a@b!", "a(c)@b", "a,b@c", "a:b@c", "a;b@c", "a\\b@c", "a@b\r\n", "a@b\n", "a\n@b",
        "\xc3\xa9@b", "a@b\xc3\xa9", "a@b\x7f", ".@b", "a@.",
    };
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        CHECK_FOR((const uint8_t *)plain[i], strlen(plain[i]), is_plain(plain[i]));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        CHECK_FOR((const uint8_t *)others[i], strlen(others[i]), !is_plain(others[i]));
}

/* Every byte in every place of an address and of a command. */
static void test_every_byte(void)
{
    static const char *const around[] = {"a.b@c.d", "RCPT TO:<a@b>"};
    for (size_t k = 0; k < sizeof around / sizeof *around; k++) {
        size_t count = strlen(around[k]);
        uint8_t *bytes = exact_copy((const uint8_t *)around[k], count);
        for (size_t place = 0; place < count; place++) {
            for (unsigned byte = 0; byte < 256; byte++) {
                bytes[place] = (uint8_t)byte;
                bool is_control = byte < 32 || byte == 127;
                CHECK(csmtp_find_control(bytes, count) == (is_control ? place : count));
                check_bytes(bytes, count);
            }
            bytes[place] = (uint8_t)around[k][place];
        }
        free(bytes);
    }
}

static void test_every_string(void)
{
    uint8_t bytes[7];
    for (size_t count = 0; count <= sizeof bytes; count++) {
        for (size_t i = 0; nth_string(i, bytes, count, "a.@-_\n"); i++)
            check_bytes(bytes, count);
    }
}

int main(void)
{
    test_addresses();
    test_every_byte();
    test_every_string();
    return report_checks();
}
