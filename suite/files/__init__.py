"""Files: read as if damaged, written whole or not at all, and where each one lies."""
