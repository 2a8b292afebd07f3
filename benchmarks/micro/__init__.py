"""One kernel at a time, beside what the standard library does for the same result.

python -m pytest benchmarks/micro --benchmark-enable
"""
