"""Reading and writing files, and their places."""
