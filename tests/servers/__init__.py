"""Real mail servers for the tests: Debian's Postfix and Dovecot, run from throw-away files.

The machine's own instances are neither read nor written, and every port is on 127.0.0.1.
"""
