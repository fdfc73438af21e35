"""The one exception whose text is meant for the user."""


class SuiteError(Exception):
    """Wrong input or environment: one sentence with what was wrong, where, what would be right."""
