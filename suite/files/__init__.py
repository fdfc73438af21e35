"""Reading and writing files, each whole or not at all, and where every one of them lies."""
