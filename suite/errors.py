"""The one exception whose text is meant for the user."""


class SuiteError(Exception):
    """Wrong input or environment: one sentence with what was wrong, where, what would be right."""


class DataMissing(SuiteError):
    """Data that a problem needs is not there and cannot be had."""
