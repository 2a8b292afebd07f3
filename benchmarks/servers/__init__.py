"""Where the mail goes: servers on free ports of 127.0.0.1, run from throw-away directories."""
