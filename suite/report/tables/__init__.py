"""The tables of a report, and their formats."""
