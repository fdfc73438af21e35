"""Parquet files: written whole, and read as if they were damaged or hostile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from l2l.suite.core.errors import SuiteError
from l2l.suite.files.atomic import atomic_path

# 10 figures of 5 optimizers, each 1000 instances of 1000 steps, and as much again.
MAX_ROWS = 10**8
# Uncompressed, as the file's footer tells.
MAX_BYTES = 8 * 2**30
# What a column may hold.
TEXT, WHOLE, REAL = "text", "whole numbers", "numbers"


def save_parquet(path: Path, table: pd.DataFrame, **options: Any) -> None:
    """Write the table without its index, with `options` of `pyarrow.parquet.write_table`.

    Raises as `suite.files.atomic.atomic_path` does.
    """
    # Given a path, pyarrow takes it for UTF-8, which a file's name need not be.
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), file, **options)


def load_parquet(path: Path, columns: Mapping[str, str], max_rows: int = MAX_ROWS) -> pd.DataFrame:
    """These columns of a Parquet file, each of the kind that `columns` says.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, too large, or lacks such a column.
    """
    # A text that stands in many rows is in the file once, and the footer counts it once.
    texts = [name for name, kind in columns.items() if kind == TEXT]
    try:
        with path.open("rb") as source, pq.ParquetFile(source, read_dictionary=texts) as file:
            _check_size(file.metadata, max_rows)
            schema = file.schema_arrow
            for name, kind in columns.items():
                found = schema.field(name).type if name in schema.names else None
                if found is None or not _is(kind, found):
                    raise ValueError(f"column {name!r} is {found}, but must be {kind}")
            table = file.read(list(columns))
            table.validate(full=True)
            for name in texts:
                place = table.schema.get_field_index(name)
                table = table.set_column(place, name, _spelt_out(table[name]))
    except FileNotFoundError:
        raise
    except KeyError as error:
        raise ValueError(f"one of the columns {', '.join(texts)} is missing") from error
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise ValueError(
            str(error).splitlines()[0] if str(error) else "not enough memory"
        ) from error
    for name, kind in columns.items():
        if kind == WHOLE and table[name].null_count:
            raise ValueError(f"column {name!r} has missing values")
    return table.to_pandas(ignore_metadata=True)


def load_result(path: Path, columns: Mapping[str, str], max_rows: int = MAX_ROWS) -> pd.DataFrame:
    """As `load_parquet`, of a file that a run wrote; SuiteError if it is missing or damaged."""
    try:
        return load_parquet(path, columns, max_rows)
    except (OSError, ValueError) as error:
        raise SuiteError(f"{path} cannot be read ({error}): run the experiment again") from error


def _spelt_out(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of references to texts as the texts, unless these are too much."""
    size = sum(
        pc.sum(pc.take(pc.binary_length(chunk.dictionary), chunk.indices)).as_py() or 0
        for chunk in column.chunks
    )
    if size > MAX_BYTES:
        raise ValueError(f"{size:,} bytes of text, but must be at most {MAX_BYTES:,}")
    return column.cast(pa.string())


def _check_size(metadata: pq.FileMetaData, max_rows: int) -> None:
    size = sum(
        metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)
    )
    if not 0 <= metadata.num_rows <= max_rows:
        raise ValueError(f"{metadata.num_rows:,} rows, but must be at most {max_rows:,}")
    if not 0 <= size <= MAX_BYTES:
        raise ValueError(f"{size:,} bytes, but must be at most {MAX_BYTES:,}")


def _is(kind: str, found: pa.DataType) -> bool:
    if kind == TEXT:
        if pa.types.is_dictionary(found):
            found = found.value_type
        return bool(pa.types.is_string(found) or pa.types.is_large_string(found))
    whole = bool(pa.types.is_signed_integer(found))
    return whole if kind == WHOLE else whole or bool(pa.types.is_floating(found))
