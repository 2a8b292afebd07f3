"""Servers that take what is sent early in the ways of MTAs that cannot be run here: in threads of
the tests, and as fast as these send. Each module names the source that it was written from."""
