/* libFuzzer target: control characters and plain addresses. Input: the bytes of an address. */
#include <assert.h>

#include "check.h"
#include "command.h"
#include "reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *bytes = exact_copy(data, size);
    size_t control = csmtp_find_control(bytes, size);
    bool is_plain = csmtp_is_plain_address(bytes, size);
    assert(control == reference_find_control(bytes, size));
    assert(is_plain == reference_is_plain_address(bytes, size));
    /* A plain address can't end its command, nor the path around it. */
    assert(!is_plain || control == size);
    assert(!is_plain || (!memchr(bytes, '>', size) && !memchr(bytes, ' ', size)));
    free(bytes);
    return 0;
}
