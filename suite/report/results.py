"""What a results folder's report is made from, as one value: stored, loaded, and put together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from l2l.suite.core.errors import SuiteError
from l2l.suite.files.atomic import write_text_atomic
from l2l.suite.files.places import EXPERIMENT_INFOS, PICTURES, PROVENANCE, SOURCES
from l2l.suite.files.provenance import joined_provenance, load_provenance, save_provenance
from l2l.suite.inner.pictures import Pictures
from l2l.suite.plan.definitions import ExperimentInfo, load_experiments, save_experiments
from l2l.suite.report.result_tables import Tables, join_tables, load_tables, save_tables
from l2l.suite.report.shown_pictures import load_stored_pictures, store_pictures

SOURCE_TEXTS = (
    *("experiment", "panel", "optimizer"),
    *("cell", "kind", "finished", "commit", "machine"),
)
SOURCE_NUMBERS = (
    *("seconds", "runs", "updates", "rates", "state_bytes"),
    *("with_default_rate", "with_four_rates", "with_eleven_rates"),
)
SOURCE_COLUMNS = (*SOURCE_TEXTS, *SOURCE_NUMBERS)

# Some hundred bytes a row: what would be a hundred thousand cells.
MAX_BYTES = 2**24


@dataclass(frozen=True)
class Results:
    """The outcome of some experiments; docs/results.md has the columns of the tables.

    Args:
        experiments: what was to be run, in the report's order.
        tables: of curves, losses, scores and traces; may lack what is not done yet.
        provenance: from `suite.files.provenance.gather_provenance`.
        pictures: by (experiment, panel, optimizer, instance, step or source), where there are any.
        sources: which cells each curve comes from, with the columns `SOURCE_COLUMNS`.
    """

    experiments: tuple[ExperimentInfo, ...]
    tables: Tables
    provenance: Mapping[str, Any]
    pictures: Pictures = field(default_factory=dict)
    sources: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=SOURCE_COLUMNS))

    def without(self, names: Collection[str]) -> Results:
        """The same without the experiments of these names."""

        def kept(table: pd.DataFrame) -> pd.DataFrame:
            return table[~table["experiment"].isin(names)]

        return Results(
            tuple(each for each in self.experiments if each.name not in names),
            self.tables.mapped(kept),
            self.provenance,
            {key: picture for key, picture in self.pictures.items() if key[0] not in names},
            kept(self.sources),
        )

    def beside(self, earlier: Results) -> Results:
        """These, and of the `earlier` ones those of experiments that these are not about.

        Experiments keep their places, and new ones come last.
        """
        own = {each.name: each for each in self.experiments}
        kept = earlier.without(own)
        if not kept.experiments:
            return self
        return self.after(kept, ({each.name: each for each in earlier.experiments} | own).values())

    def after(self, kept: Results, experiments: Iterable[ExperimentInfo]) -> Results:
        """The `kept` ones of others and these, as the outcome of `experiments`."""
        names = [each.name for each in kept.experiments]
        return Results(
            tuple(experiments),
            join_tables([kept.tables, self.tables]),
            joined_provenance(self.provenance, kept.provenance, names),
            kept.pictures | self.pictures,
            pd.concat([kept.sources, self.sources], ignore_index=True),
        )


def store_results(folder: Path, results: Results) -> None:
    """Write them, each file whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    save_tables(folder, results.tables)
    write_text_atomic(folder / SOURCES, results.sources.to_csv(index=False))
    save_experiments(folder / EXPERIMENT_INFOS, results.experiments)
    save_provenance(folder / PROVENANCE, results.provenance)
    (folder / PICTURES).unlink(missing_ok=True)
    if results.pictures:
        store_pictures(folder / PICTURES, results.pictures)


def load_results(folder: Path) -> Results:
    """Read what `store_results` wrote.

    Raises:
        SuiteError: a file is missing or damaged.
    """
    return Results(
        tuple(load_experiments(folder / EXPERIMENT_INFOS)),
        load_tables(folder),
        load_provenance(folder / PROVENANCE),
        load_stored_pictures(folder / PICTURES) if (folder / PICTURES).exists() else {},
        load_sources(folder / SOURCES),
    )


def load_sources(path: Path) -> pd.DataFrame:
    """Read `cells.csv`; without rows if there is none, and columns that it lacks are empty.

    Raises:
        SuiteError: the file is damaged or too large.
    """
    try:
        if path.exists() and path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")
        text = path.read_text(encoding="utf-8")
        table = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False, na_values=[""])
        if "experiment" not in table:
            raise ValueError("it has no column 'experiment'")
    except FileNotFoundError:
        return pd.DataFrame(columns=SOURCE_COLUMNS)
    except (OSError, ValueError) as error:
        raise SuiteError(f"{path} cannot be read ({error}): run the experiment again") from error
    table = table.reindex(columns=SOURCE_COLUMNS)
    for name in SOURCE_NUMBERS:
        table[name] = pd.to_numeric(table[name], errors="coerce").astype(float)
    return table
