/* A message body on its way into DATA: line ends, dots, terminator (RFC 5321 section 4.5.2).
 *
 * Functions named *_scalar do the same without SIMD; the tests hold the two equal. */
#ifndef CSMTP_BODY_H
#define CSMTP_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is done to the octets; the two may be combined. */
enum {
    CSMTP_BODY_CRLF = 1, /* every CR LF, lone LF and lone CR becomes CR LF */
    CSMTP_BODY_DOTS = 2  /* a "." at the start, and behind every LF that comes out, is doubled */
};

/* The state that is carried from one chunk of a body to the next. */
typedef struct {
    unsigned what;
    uint8_t last; /* the octet before the chunk; LF at the start, where a line begins too */
    bool ended;   /* what came out ends in CR LF, or nothing came out yet */
} csmtp_body;

/* What a body holds, gathered over its chunks. */
typedef struct {
    size_t line;         /* octets of the line that is still open */
    size_t longest_line; /* octets without the line end; CR and LF both end a line */
    bool has_nul;
    bool has_8bit;       /* an octet above 127 */
} csmtp_body_survey;

void csmtp_body_init(csmtp_body *body, unsigned what);

/* How many octets more than count csmtp_body_encode would write for these octets. 0 means that they
 * come out as they are, whatever the chunk before left owed: the caller may send them uncopied, and
 * call csmtp_body_skip instead of csmtp_body_encode. */
size_t csmtp_body_growth(const csmtp_body *body, const uint8_t *octets, size_t count);
size_t csmtp_body_growth_scalar(const csmtp_body *body, const uint8_t *octets, size_t count);

/* Moves body behind these octets as csmtp_body_encode does, but writes nothing. Takes the same time
 * for any count. */
void csmtp_body_skip(csmtp_body *body, const uint8_t *octets, size_t count);

/* Encodes the next chunk of a body. out has room for count + csmtp_body_growth() octets, at most
 * 2 * count + 1, and does not overlap octets. Returns how many were written. With CRLF the LF of a
 * lone CR at the end is written with the next chunk, or by csmtp_body_finish. */
size_t csmtp_body_encode(csmtp_body *body, const uint8_t *octets, size_t count, uint8_t *out);
size_t csmtp_body_encode_scalar(csmtp_body *body, const uint8_t *octets, size_t count,
                                uint8_t *out);

/* What ends the body: an LF that is owed, CR LF unless that came out last, and with DOTS, as the
 * end would not be found without, "." and CR LF. Returns how many octets that is, and leaves body
 * ready for the next one. */
size_t csmtp_body_finish(csmtp_body *body, uint8_t out[5]);

void csmtp_body_survey_init(csmtp_body_survey *survey);
void csmtp_body_survey_add(csmtp_body_survey *survey, const uint8_t *octets, size_t count);
void csmtp_body_survey_add_scalar(csmtp_body_survey *survey, const uint8_t *octets, size_t count);

#endif
