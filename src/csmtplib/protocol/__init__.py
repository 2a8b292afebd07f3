"""SMTP without I/O and without a clock: what is sent, and what an answer means."""
