/* Shared by the C tests: checks that are counted, and memory that the sanitizers can guard. */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -DBRIEF is for sanitizers and Valgrind, which make each step many times as slow, and look for what
 * shows in any of them: loops over all that there is to be tried then try a part of it. */
#ifdef BRIEF
enum { IS_BRIEF = true };
#else
enum { IS_BRIEF = false };
#endif

enum { SHOWN_FAILURES = 20 };

static size_t checks_passed, checks_failed;

#define CHECK(condition) check((condition), #condition, __FILE__, __LINE__, NULL, 0)

/* Like CHECK, but shows the input if it fails. */
#define CHECK_FOR(bytes, count, condition) \
    check((condition), #condition, __FILE__, __LINE__, (bytes), (count))

static inline void check(bool holds, const char *condition, const char *file, int line,
                         const uint8_t *bytes, size_t count)
{
    if (holds) {
        checks_passed++;
        return;
    }
    if (checks_failed++ >= SHOWN_FAILURES)
        return;
    fprintf(stderr, "%s:%d: %s", file, line, condition);
    if (bytes)
        fputs(", for", stderr);
    for (size_t i = 0; bytes && i < count; i++)
        fprintf(stderr, " %02x", bytes[i]);
    fputc('\n', stderr);
}

/* Prints the counts, and returns the exit status for main. */
static inline int report_checks(void)
{
    printf("%zu passed, %zu failed\n", checks_passed, checks_failed);
    return checks_failed > 0 || checks_passed == 0;
}

/* Returns memory for exactly count bytes, so that ASan sees a step over either end. */
static inline uint8_t *exact_room(size_t count)
{
    uint8_t *room = calloc(count, 1);
    if (!room && count > 0) {
        fprintf(stderr, "no memory for %zu bytes\n", count);
        abort();
    }
    return room;
}

static inline uint8_t *exact_copy(const uint8_t *bytes, size_t count)
{
    uint8_t *copy = exact_room(count);
    if (count > 0)
        memcpy(copy, bytes, count);
    return copy;
}

static inline bool same(const uint8_t *a, size_t a_count, const uint8_t *b, size_t b_count)
{
    return a_count == b_count && (a_count == 0 || memcmp(a, b, a_count) == 0);
}

/* Marsaglia's xorshift64: the same numbers on every machine. state starts at any value but 0. */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Sets bytes to the index-th of all strings of count bytes over an alphabet. Returns false if
 * there are no more. */
static inline bool nth_string(size_t index, uint8_t *bytes, size_t count, const char *alphabet)
{
    size_t letters = strlen(alphabet);
    for (size_t i = 0; i < count; i++, index /= letters)
        bytes[i] = (uint8_t)alphabet[index % letters];
    return index == 0;
}

#endif
