"""Runners of the protocol: what sends and receives for it."""
