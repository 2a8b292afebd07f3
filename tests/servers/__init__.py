"""Real mail servers for the tests: Debian's Postfix, Dovecot and Exim, and npm's Haraka, run from
throw-away files. `scripted` has stand-ins for some that cannot be run here.

The machine's own instances are neither read nor written, and every port is on 127.0.0.1.
"""
