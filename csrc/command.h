/* Checks what may be part of an SMTP command (RFC 5321 section 4.1). */
#ifndef CSMTP_COMMAND_H
#define CSMTP_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Returns the index of the first control character (C0 or DEL), or count if there is none. A
 * command line that has one can smuggle a second command, so none is ever sent. */
size_t csmtp_find_control(const uint8_t *bytes, size_t count);

/* Returns whether this is a dot-atom, "@" and a domain of letters, digits, "-" and ".": an address
 * that every parser reads the same way, so that none is needed. */
bool csmtp_is_plain_address(const uint8_t *bytes, size_t count);

#endif
