"""From cells to finished folders: the kinds of cell, and where they run."""
