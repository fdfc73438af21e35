"""The one exception whose text is meant for the user."""


class SuiteError(Exception):
    """Wrong input or environment: one sentence with what was wrong, where, what would be right.

    It quotes what it complains of, so what would break the line or steer a terminal is escaped.
    """

    def __init__(self, text: str) -> None:
        super().__init__(
            "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text.replace("\n", " "))
        )


class DataMissing(SuiteError):
    """Data that a problem needs is missing and not available."""


class WeightsMissing(SuiteError):
    """Weights that others published are not there: their optimizer is left out."""
