"""Fault tests that are too long for `make test`: ``python -m benchmarks.soak --help``."""
