"""Programs that measure, each against its alternatives in the same run; see `__main__`."""
