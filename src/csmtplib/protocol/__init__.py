"""SMTP without I/O: what is said, what an answer means. Nothing here opens or reads anything."""
