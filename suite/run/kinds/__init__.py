"""The suite's kinds of cell: one module a kind, found by being here."""
