"""How long, how large, how often: the bounds of RFC 5321 section 4.5.3 and our own."""

from __future__ import annotations

# Seconds that a client waits for each answer (RFC 5321 section 4.5.3.2).
GREETING_SECONDS = 300.0
COMMAND_SECONDS = 300.0
DATA_SECONDS = 120.0
BODY_SECONDS = 180.0  # for one block of a body to leave
TERMINATOR_SECONDS = 600.0
QUIT_SECONDS = 10.0  # ours: every message is settled by then, so there is little to wait for

# Octets of one line of a message, its CR LF not counted (RFC 5321 section 4.5.3.1.6).
MESSAGE_LINE_OCTETS = 998

# Octets of a line of a reply, and of a reply with all its lines, line ends counted. RFC 5321 has
# 512 for a line and leaves replies open; the stdlib takes lines of this length, and a server that
# needs more than that for a reply is not answering any more.
REPLY_LINE_OCTETS = 8192
REPLY_OCTETS = 65536

# Octets that are received at once: more than a reply usually has, and a memory page or two.
RECEIVE_OCTETS = 8192

# Challenges of one AUTH exchange. The longest mechanism in use has three.
AUTH_CHALLENGES = 5

# Iterations of SCRAM's key derivation: fewer make stolen keys cheap to search (RFC 7677 section 4
# asks for 4096), more are a server's way to keep a client busy.
SCRAM_ITERATIONS = range(4096, 10_000_001)
