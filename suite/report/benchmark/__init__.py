"""The page of a benchmark: its findings, tables and curves."""
