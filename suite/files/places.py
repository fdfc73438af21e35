"""Where everything lies: the repository's folders, and the names in a results folder."""

from __future__ import annotations

from pathlib import Path

from l2l.suite.core.imports import REPOSITORY

# The repository, or what is installed of it.
EXPERIMENTS = REPOSITORY / "experiments"
CHECKPOINTS = REPOSITORY / "results" / "checkpoints"
# Seconds of the trainings of checkpoints, by name, where they are known.
TRAINING_SECONDS = CHECKPOINTS / "seconds.json"
PAPER = REPOSITORY / "results" / "paper"
# Where data and results go if nobody says another place: an installed package holds neither.
WORKPLACE = REPOSITORY if (REPOSITORY / "reproduce.py").is_file() else Path.cwd()
DATA = WORKPLACE / "data"

# A results folder: what people and other tools read. Its other tables are called as
# `suite.report.result_tables` calls them.
EXPERIMENT_INFOS = "experiments.json"
PROVENANCE = "provenance.json"
SOURCES = "cells.csv"
FINAL = "final.csv"
CLAIMS = "claims.csv"
REPORT_HTML = "report.html"
REPORT_MARKDOWN = "report.md"
BENCHMARK_HTML = "benchmark.html"
BENCHMARK_MARKDOWN = "benchmark.md"
OVERALL = "overall.csv"
ROWS = "rows.csv"
TARGETS = "targets.csv"
FIGURES = "figures"
TABLES = "tables"

# Its log files.
LOGS = "logs"
LATEST = "latest.log"

# Its cells, a folder each, and what is about all of them.
CELLS = "cells"
REQUEST = "request.json"
PLANNED = "planned.json"
VERSION = "version.json"
# There where the tables also have results of another folder.
MERGED = "merged.json"
LOCKS = ".locks"
REPORT_LOCK = "report.lock"

# Any cell: what tells of its work. `RECORD` is written last.
RECORD = "cell.json"
FAILURE = "failed.json"
CELL_LOG = "log.txt"
PROGRESS = "progress.json"
# How the names of pieces begin: work that is kept until the cell is done.
PIECE = "piece-"

# Results of cells, by what they are. Traces are called as `suite.inner.trace_tables` calls them.
OPTIMIZER = "optimizer.safetensors"
TRAINING_LOG = "log.csv"
TRAINING_STATE = "state.safetensors"
CANDIDATE = "candidate.json"
SELECTION = "selection.csv"
TUNING = "tuning.csv"
BEST = "best.json"
CURVES = "curves.parquet"
HELD_OUT = "held-out.parquet"
# Also of a results folder.
PICTURES = "pictures.safetensors"
# Why a learned optimizer is as it was before training.
NOTICE = "untrained.txt"
