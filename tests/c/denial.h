/* Lets memory run out when a test says so. For programs that are linked with
 * -Wl,--wrap=malloc,--wrap=realloc, so that all allocations of the kernels come through here. */
#ifndef DENIAL_H
#define DENIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *__real_malloc(size_t count);
void *__real_realloc(void *bytes, size_t count);
void *__wrap_malloc(size_t count);
void *__wrap_realloc(void *bytes, size_t count);

/* How many more allocations succeed. */
static size_t allocations_left = SIZE_MAX;

static bool is_allowed(void)
{
    return allocations_left == SIZE_MAX || (allocations_left > 0 && allocations_left-- > 0);
}

void *__wrap_malloc(size_t count)
{
    return is_allowed() ? __real_malloc(count) : NULL;
}

void *__wrap_realloc(void *bytes, size_t count)
{
    return is_allowed() ? __real_realloc(bytes, count) : NULL;
}

#endif
