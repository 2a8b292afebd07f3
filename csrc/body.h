/* Encodes the body of a message for DATA or BDAT: line ends, dots, terminator (RFC 5321 section
 * 4.5.2).
 *
 * Functions named *_scalar do the same without SIMD; the tests check that the results are equal. */
#ifndef CSMTP_BODY_H
#define CSMTP_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What to change; the two may be combined. */
enum {
    CSMTP_BODY_CRLF = 1, /* every CR LF, lone LF and lone CR becomes CR LF */
    CSMTP_BODY_DOTS = 2  /* a "." at the start, or after an LF of the output, is doubled */
};

/* The state between two chunks of a body. */
typedef struct {
    unsigned changes;
    uint8_t last; /* the byte before the chunk; LF at the start, as a line begins there too */
    bool ended;   /* the output ends in CR LF, or there is none yet */
} csmtp_body;

/* Facts about a body, collected chunk by chunk. */
typedef struct {
    size_t line;         /* length of the line that is still open */
    size_t longest_line; /* length without the line end; CR and LF both end a line */
    bool has_nul;
    bool has_8bit;       /* a byte above 127 */
} csmtp_body_scan;

void csmtp_body_init(csmtp_body *body, unsigned changes);

/* Returns how many bytes csmtp_body_encode would add to these. 0 means that it would not change
 * them, whatever the previous chunk has left to write: the caller may send them without a copy, and
 * call csmtp_body_skip instead of csmtp_body_encode. */
size_t csmtp_body_growth(const csmtp_body *body, const uint8_t *bytes, size_t count);
size_t csmtp_body_growth_scalar(const csmtp_body *body, const uint8_t *bytes, size_t count);

/* Updates body for these bytes as csmtp_body_encode does, but writes nothing. Takes the same time
 * for any count. */
void csmtp_body_skip(csmtp_body *body, const uint8_t *bytes, size_t count);

/* Encodes the next chunk of a body and returns how many bytes it wrote. out must have room for
 * count + csmtp_body_growth() bytes, which is at most 2 * count + 1, and must not overlap bytes.
 * With CRLF, if the chunk ends in a lone CR, its LF is written with the next chunk, or by
 * csmtp_body_finish. */
size_t csmtp_body_encode(csmtp_body *body, const uint8_t *bytes, size_t count, uint8_t *out);
size_t csmtp_body_encode_scalar(csmtp_body *body, const uint8_t *bytes, size_t count,
                                uint8_t *out);

/* Ends the body: writes an LF that is missing, CR LF unless the output ends in it, and with DOTS
 * the terminator, "." and CR LF. Returns how many bytes it wrote, and resets body. */
size_t csmtp_body_finish(csmtp_body *body, uint8_t out[5]);

void csmtp_body_scan_init(csmtp_body_scan *scan);
void csmtp_body_scan_add(csmtp_body_scan *scan, const uint8_t *bytes, size_t count);
void csmtp_body_scan_add_scalar(csmtp_body_scan *scan, const uint8_t *bytes, size_t count);

#endif
