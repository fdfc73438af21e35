"""A benchmark's numbers as a table of a Markdown page."""

from __future__ import annotations

import pandas as pd

from l2l.suite.report.formatting import number
from l2l.suite.report.tables.formats import Cell, Table, markdown


def as_markdown(name: str, caption: str, data: pd.DataFrame) -> str:
    """The table with its caption; numbers that are not whole have three significant digits."""
    texts = data.astype(object).map(lambda x: number(x) if isinstance(x, float) else str(x))
    rows = tuple(tuple(map(Cell, row)) for row in texts.itertuples(index=False))
    return markdown(Table(name, caption, tuple(data.columns), rows, data))
