/* What may stand in an SMTP command (RFC 5321 section 4.1). */
#ifndef CSMTP_COMMAND_H
#define CSMTP_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The place of the first control character (C0 or DEL), count where there is none. A command line
 * that has one can smuggle a second command, so none is ever sent. */
size_t csmtp_find_control(const uint8_t *octets, size_t count);

/* Whether the octets are a dot-atom, "@" and a domain of letters, digits, "-" and ".": an address
 * that every parser reads the same way, so that none has to. */
bool csmtp_is_plain_address(const uint8_t *octets, size_t count);

#endif
