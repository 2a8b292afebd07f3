"""Measurements: nothing here asserts a time, everything is reported as a ratio."""
