"""From cells to finished folders: what each kind of cell does, and where it runs."""
