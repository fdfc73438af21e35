"""The command line, end to end on quadratics: runs, resumes, refuses, explains itself."""

from __future__ import annotations

import importlib
import json
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command_line import (
    EXPERIMENT,
    ROOT,
    as_program,
    command,
    write_experiment,
)
from data_files import forget_data
from forked import forked

import l2l.suite.commands.request
from l2l.problems.data_root import DATA_ROOT
from l2l.suite.run.locks import held


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder of a finished run; tests only read it."""
    folder = tmp_path_factory.mktemp("finished")
    done = command("run", write_experiment(folder), "--results", folder / "out")
    assert done.exit_code == 0, done.output
    assert "T-1" in done.output
    assert str(folder / "out" / "report.html") in done.output
    return folder / "out"


def copied(finished: Path, to: Path) -> Path:
    """A results folder to be changed."""
    return shutil.copytree(finished, to, symlinks=True)


def test_run_leaves_everything_that_users_read(finished: Path) -> None:
    for name in ("final.csv", "claims.csv", "cells.csv", "report.md", "report.html"):
        assert (finished / name).stat().st_size
    for suffix in ("png", "svg"):
        assert (finished / "figures" / f"tiny.{suffix}").stat().st_size
    assert list((finished / "logs").glob("*.log"))


def test_curves_are_tidy(finished: Path) -> None:
    curves = pd.read_parquet(finished / "curves.parquet")
    assert len(curves) == 3 * 11
    rates = curves.groupby("optimizer")["learning_rate"].agg(["min", "max"])
    assert rates.loc["ADAM", "min"] == rates.loc["ADAM", "max"] == 0.1
    assert rates.loc["SGD", "min"] > 0
    assert pd.isna(rates.loc["LSTM", "min"])
    # Paired: all optimizers start each instance at the same θ_0.
    losses = pd.read_parquet(finished / "losses.parquet")
    assert len(losses) == 3 * 4 * 11
    starts = losses[losses.step == 0].groupby("instance")["loss"].nunique()
    assert (starts == 1).all()


def test_columns_are_those_of_the_documentation(finished: Path) -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for name in ("curves", "losses", "scores"):
        section = text.split(f"## {name}.parquet")[1].split("\n## ")[0]
        named = [
            column
            for row in re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
            for column in re.findall(r"`(\w+)`", row)
        ]
        assert named == list(pd.read_parquet(finished / f"{name}.parquet")), name


def test_every_curve_leads_to_its_cells(finished: Path) -> None:
    cells = pd.read_csv(finished / "cells.csv", dtype={"commit": str})  # Not 467108e44663 = inf.
    assert set(cells.kind) == {"metatrain", "tune", "evaluate"}
    for cell in cells.itertuples():
        record = json.loads((finished / "cells" / cell.cell / "cell.json").read_text())
        assert cell.commit == record["commit"] or record["commit"] is None


def test_status_tells_that_all_is_done(finished: Path) -> None:
    told = json.loads(command("status", "--json", "--results", finished).output)
    assert told["counts"] == {"done": 5, "running": 0, "failed": 0, "missing": 0}
    assert told["seconds_left"] == 0
    assert "5 done" in command("status", "--results", finished).output


def test_second_run_computes_nothing(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.glob("cells/*/cell.json")}
    yaml = finished.parent / "tiny.yaml"
    assert command("run", yaml, "--results", finished).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


@contextmanager
def started_run(folder: Path, *words: str) -> Iterator[BaseProcess]:
    """A run in a process of its own, once it trains; what it prints is in `printed`."""
    fixed = ("run", folder / "tiny.yaml", "--results", folder / "out")
    with forked(folder / "printed", as_program, *fixed, *words) as process:
        deadline = time.monotonic() + 40
        while not list(folder.glob("out/cells/metatrain-*/log.csv")):
            assert time.monotonic() < deadline, "the run never began to train"
            time.sleep(0.02)
        yield process


@pytest.mark.usefixtures("undrawn")
def test_killed_run_goes_on_and_ends_with_the_same_tables(tmp_path: Path) -> None:
    long = EXPERIMENT.replace("runs: 8", "runs: 120").replace("every: 2", "every: 10")
    write_experiment(tmp_path, long)
    with started_run(tmp_path) as killed:
        killed.kill()
        killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert not list(tmp_path.glob("out/cells/metatrain-*/cell.json"))
    yaml = tmp_path / "tiny.yaml"
    assert command("run", yaml, "--results", tmp_path / "out").exit_code == 0
    assert command("run", yaml, "--results", tmp_path / "undisturbed").exit_code == 0
    for name in ("curves.parquet", "losses.parquet", "scores.parquet", "final.csv", "claims.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (
            tmp_path / "undisturbed" / name
        ).read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_run_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    write_experiment(tmp_path, EXPERIMENT.replace("runs: 8", "runs: 100000"))
    with started_run(tmp_path, "--set", "sizes.test_instances=3") as stopped:
        assert stopped.pid is not None
        os.kill(stopped.pid, number)
        stopped.join(30)
    assert stopped.exitcode == 130
    told = (tmp_path / "printed").read_text(encoding="utf-8")
    assert "To resume: python reproduce.py run" in told
    assert "--set sizes.test_instances=3" in told
    assert "Traceback" not in told


@pytest.mark.usefixtures("undrawn")
def test_failed_cell_is_reported_and_the_others_are_run(tmp_path: Path) -> None:
    plugin = tmp_path / "abyss.py"
    plugin.write_text(
        "from dataclasses import dataclass\n"
        "from l2l import Optimizer, register_optimizer\n"
        "@register_optimizer('abyss')\n"
        "@dataclass(frozen=True)\n"
        "class Abyss(Optimizer):\n"
        "    'Fails after a while.'\n"
        "    def init(self, spec, n):\n"
        "        return 0\n"
        "    def update(self, grads, state, params):\n"
        "        if state == 3:\n"
        "            raise RuntimeError('no way down')\n"
        "        return -0.01 * grads, state + 1\n"
    )
    text = EXPERIMENT.replace("LSTM: {trained: t}", "Abyss: {name: abyss}")
    words = ["--results", tmp_path / "out", "--plugin", plugin]
    done = command("run", write_experiment(tmp_path, text), *words)
    assert done.exit_code == 1
    assert "RuntimeError: no way down" in done.stderr
    curves = pd.read_parquet(tmp_path / "out" / "curves.parquet")
    assert set(curves.optimizer) == {"SGD", "ADAM"}
    told = json.loads(command("status", "--json", *words).output)
    assert told["counts"]["failed"] == 1
    assert "no way down" in "".join(cell["note"] for cell in told["cells"])

    # With nothing else, there is a report of nothing.
    alone = text.replace("SGD: {name: sgd}, ADAM: {name: adam, lr: 0.1}", "A: {name: abyss}")
    (tmp_path / "alone").mkdir()
    words[1] = tmp_path / "alone" / "out"
    done = command("run", write_experiment(tmp_path / "alone", alone.split("claims")[0]), *words)
    assert done.exit_code == 1
    assert "RuntimeError: no way down" in done.stderr
    assert (tmp_path / "alone" / "out" / "report.html").exists()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Within the block no file of this process can be longer, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_disk_without_room_is_a_sentence_and_the_run_can_go_on(
    finished: Path, tmp_path: Path
) -> None:
    """After a finished run, so that what is compiled or cached once for all is there."""
    words = ("run", write_experiment(tmp_path), "--results", tmp_path / "out")
    with largest_file(20 * 1024):  # the report's files are larger
        full = command(*words)
    assert full.exit_code == 2, full.stderr
    assert "finished cells are kept" in full.stderr
    assert "Traceback" not in full.stderr
    again = command(*words)
    assert again.exit_code == 0
    assert "[1/" not in again.stderr, "no cell was computed again"
    assert (tmp_path / "out" / "final.csv").read_bytes() == (finished / "final.csv").read_bytes()


def test_fault_of_the_suite_has_a_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("no good")

    monkeypatch.setattr("l2l.suite.commands.catalogue.catalogue", broken)
    done = command("list")
    assert done.exit_code == 70
    assert "RuntimeError: no good" in done.stderr
    assert "bug in the suite" in done.stderr


@pytest.mark.usefixtures("undrawn")
def test_report_keeps_what_is_known_of_where_its_results_come_from(
    finished: Path, tmp_path: Path
) -> None:
    out = copied(finished, tmp_path / "out")
    recorded = json.loads((out / "provenance.json").read_text())
    recorded["commit"] = "of another day"
    (out / "provenance.json").write_text(json.dumps(recorded))
    assert command("report", "--results", out).exit_code == 0
    assert json.loads((out / "provenance.json").read_text()) == recorded
    assert "of another day" in (out / "report.md").read_text()


@pytest.mark.usefixtures("undrawn")
def test_merge_is_as_if_both_had_been_run_into_one_folder(finished: Path, tmp_path: Path) -> None:
    first, second = copied(finished, tmp_path / "first"), tmp_path / "second"
    other = tmp_path / "other.yaml"
    other.write_text(EXPERIMENT.replace("T-1", "O-1").replace("title: Tiny", "title: Other"))
    assert command("run", other, "--results", second).exit_code == 0
    own = pd.read_csv(first / "final.csv")
    assert command("merge", second, "--results", first).exit_code == 0
    both = pd.read_csv(first / "final.csv")
    pd.testing.assert_frame_equal(both[both["experiment"] == "tiny"].reset_index(drop=True), own)
    assert set(both["experiment"]) == {"tiny", "other"}
    assert set(pd.read_csv(first / "claims.csv")["id"]) == {"T-1", "O-1"}
    refused = command("merge", tmp_path / "nothing", "--results", first)
    assert refused.exit_code == 2
    assert "nothing" in refused.stderr


@pytest.mark.usefixtures("undrawn")
def test_merge_unites_one_experiment_of_two_folders(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    text = EXPERIMENT.replace("title: Tiny", "benchmark: true\ntitle: Tiny").split("claims:")[0]
    own = write_experiment(tmp_path, text)
    assert command("run", own, "--results", first).exit_code == 0
    ours = "ADAM: {name: adam, lr: 0.1}"
    own.write_text(text.replace(ours, "ADAM: {name: adam}, Lion: {name: lion}"))
    assert command("run", own, "--results", second).exit_code == 0
    done = command("merge", second, "--results", first)
    assert done.exit_code == 0, done.output
    final = pd.read_csv(first / "final.csv").set_index("optimizer")
    assert set(final.index) == {"LSTM", "SGD", "ADAM", "Lion"}
    theirs = pd.read_csv(second / "final.csv").set_index("optimizer")
    assert final["mean"]["ADAM"] == theirs["mean"]["ADAM"]
    scored = command("benchmark", "--results", first, "--out", tmp_path / "page")
    assert scored.exit_code == 0, scored.output
    assert "Lion" in (tmp_path / "page" / "benchmark.html").read_text(encoding="utf-8")
    # The page's folder is enough to make it again.
    assert command("benchmark", "--results", tmp_path / "page").exit_code == 0
    # What is not in the cells of the folder stays in its report.
    own.write_text(text)
    done = command("report", "--results", first)
    assert done.exit_code == 0, done.output
    assert set(pd.read_csv(first / "final.csv")["optimizer"]) == {"LSTM", "SGD", "ADAM", "Lion"}

    own.write_text(text.replace("tuning_instances: 2", "tuning_instances: 3"))
    assert command("run", own, "--results", tmp_path / "third").exit_code == 0
    before = (first / "final.csv").read_bytes()
    refused = command("merge", tmp_path / "third", "--results", first)
    assert refused.exit_code == 2
    said = "tiny, panel 'quadratics', is not the same in both folders: tuning instances 2 here, 3"
    assert said in refused.stderr
    assert (first / "final.csv").read_bytes() == before


@pytest.mark.usefixtures("undrawn")
def test_merged_results_stay_in_the_report_until_the_next_run(tmp_path: Path) -> None:
    """Though both folders have the same labels."""
    first, second = tmp_path / "first", tmp_path / "second"
    text = EXPERIMENT.split("claims:")[0]
    own = write_experiment(tmp_path, text)
    assert command("run", own, "--results", first).exit_code == 0
    ours = "ADAM: {name: adam, lr: 0.1}"
    own.write_text(text.replace(ours, "ADAM: {name: adam, lr: 0.01}"))
    assert command("run", own, "--results", second).exit_code == 0
    own.write_text(text)
    means = []
    words = (("report",), ("merge", second), ("report",), ("run", own))
    for each in words:
        assert command(*each, "--results", first).exit_code == 0
        means.append(pd.read_csv(first / "final.csv").set_index("optimizer")["mean"]["ADAM"])
    assert means[1] == means[2] != means[0] == means[3]


def test_benchmark_needs_an_experiment_that_is_one(finished: Path, tmp_path: Path) -> None:
    refused = command("benchmark", "--results", finished, "--out", tmp_path / "page")
    assert refused.exit_code == 2
    assert "none of the experiments here (tiny) is a benchmark" in refused.stderr
    assert not (tmp_path / "page" / "curves.parquet").exists()


def test_run_of_another_experiment_keeps_the_report_of_those_before(
    finished: Path, tmp_path: Path
) -> None:
    out = copied(finished, tmp_path / "out")
    curves = pd.read_parquet(out / "curves.parquet")
    other = tmp_path / "other.yaml"
    other.write_text(EXPERIMENT.replace("T-1", "O-1").replace("title: Tiny", "title: Other"))
    assert command("run", other, "--results", out).exit_code == 0
    both = pd.read_parquet(out / "curves.parquet")
    pd.testing.assert_frame_equal(both[both["experiment"] == "tiny"], curves)
    assert set(both["experiment"]) == {"tiny", "other"}
    assert set(pd.read_csv(out / "claims.csv")["id"]) == {"T-1", "O-1"}
    (earlier,) = json.loads((out / "provenance.json").read_text())["earlier"]
    assert "tiny.yaml" in earlier["command"]
    page = (out / "report.html").read_text()
    # Even once its cells are gone, and after the report alone was made again.
    assert command("clean", "--results", out, "--yes").exit_code == 0
    assert command("report", "--results", out).exit_code == 0
    assert (out / "report.html").read_text() == page


@pytest.mark.usefixtures("undrawn")
def test_run_is_refused_where_it_would_lose_earlier_results(finished: Path, tmp_path: Path) -> None:
    out = copied(finished, tmp_path / "out")
    words = ("run", finished.parent / "tiny.yaml", "--results", out)
    (out / "experiments.json").write_text("{")
    refused = command(*words)
    assert refused.exit_code == 2
    assert "earlier results would be lost" in refused.output
    assert "experiments.json" in refused.output
    (out / "experiments.json").unlink()
    assert command(*words).exit_code == 0


@pytest.mark.usefixtures("undrawn")
def test_clean_keeps_what_the_last_run_needs_whatever_a_plan_would_be_now(
    finished: Path, tmp_path: Path
) -> None:
    out = copied(finished, tmp_path / "out")
    words = ("run", finished.parent / "tiny.yaml", "--results", out, "--set")
    assert command(*words, "sizes.test_instances=3").exit_code == 0
    before = set(out.glob("cells/*-*"))
    # The experiment is not there any more, and as little may its data be.
    (out / "cells" / "request.json").write_text("{}")
    assert command("clean", "--unused", "--yes", "--results", out).exit_code == 0
    gone = before - set(out.glob("cells/*-*"))
    assert {path.name.split("-")[0] for path in gone} == {"evaluate"}
    assert len(gone) == 3
    for content, told in ((None, "is missing"), ("{", "is damaged"), ("[]", "is damaged")):
        planned = out / "cells" / "planned.json"
        planned.unlink() if content is None else planned.write_text(content)
        refused = command("clean", "--unused", "--yes", "--results", out)
        assert refused.exit_code == 2
        assert told in refused.stderr
    assert len(list(out.glob("cells/*-*"))) == len(before) - 3


@pytest.mark.usefixtures("undrawn")
def test_clean_keeps_what_a_run_beside_the_last_one_may_still_need(
    finished: Path, tmp_path: Path
) -> None:
    out = copied(finished, tmp_path / "out")
    other = write_experiment(tmp_path, TWO)
    needed = {path.name for path in out.glob("cells/*-*")}
    with held(min(needed), out):
        assert command("run", other, "--results", out).exit_code == 0
        assert command("clean", "--yes", "--results", out).exit_code == 0
    assert needed <= {path.name for path in out.glob("cells/*-*")}
    assert command("run", other, "--results", out).exit_code == 0
    assert command("clean", "--unused", "--yes", "--results", out).exit_code == 0
    assert not needed & {path.name for path in out.glob("cells/*-*")}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["run", "YAML"], "l2l.suite.commands.run.run_all"),
        (["run", "YAML"], "l2l.suite.commands.run.publish"),
        (["report"], "l2l.suite.commands.publish.plan_request"),
        (["report"], "l2l.suite.commands.publish.collect_tables"),
    ],
)
def test_clean_keeps_what_is_only_read(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], place: str
) -> None:
    out = copied(finished, tmp_path / "out")
    before = sorted(out.glob("cells/*-*"))
    module, _, name = place.rpartition(".")
    step = getattr(importlib.import_module(module), name)

    def beside_a_clean(*given: Any, **named: Any) -> Any:
        assert command("clean", "--yes", "--results", out).exit_code == 0
        return step(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(place, beside_a_clean)
        given = [finished.parent / "tiny.yaml" if word == "YAML" else word for word in words]
        assert command(*given, "--results", out).exit_code == 0
    assert sorted(out.glob("cells/*-*")) == before
    assert (out / "final.csv").read_bytes() == (finished / "final.csv").read_bytes()
    assert not list(out.glob("cells/.locks/run-*"))
    assert command("clean", "--yes", "--results", out).exit_code == 0
    assert not list(out.glob("cells/*-*"))


TWO = """
title: Two
sizes: {test_instances: 2, tuning_instances: 2}
panels:
  q: {title: Q, problem: {name: quadratic}, steps: 3, optimizers: {SGD: {name: sgd, lr: 0.1}}}
  m: {title: M, problem: {name: mlp}, steps: 3, optimizers: {SGD: {name: sgd, lr: 0.1}}}
"""


@pytest.mark.usefixtures("undrawn")
def test_report_keeps_results_whose_data_is_not_here_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    yaml = write_experiment(tmp_path, TWO)
    assert command("run", yaml, "--results", out).exit_code == 0
    before = (out / "final.csv").read_text()
    assert command("report", "--results", out).exit_code == 0
    assert (out / "final.csv").read_text() == before
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv(DATA_ROOT, str(tmp_path / "empty"))
    forget_data()
    assert command("report", "--results", out).exit_code == 0
    assert (out / "final.csv").read_text() == before
    assert "made from the tables of this folder" in caplog.text
    assert "data or code of tiny, panel 'm', are not" in caplog.text
    # What other settings say is another matter.
    assert command("run", yaml, "--results", out, "--set", "sizes.test_instances=3").exit_code == 0
    assert (out / "final.csv").read_text() != before
    forget_data()


@pytest.mark.usefixtures("undrawn")
def test_report_keeps_results_whose_settings_were_edited_since_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, yaml = tmp_path / "out", write_experiment(tmp_path, TWO)
    assert command("run", yaml, "--results", out).exit_code == 0
    before = (out / "final.csv").read_text()
    without_m = "".join(line for line in TWO.splitlines(keepends=True) if "title: M" not in line)
    every = TWO.replace("steps: 3", "steps: 4")
    for edited in (TWO.replace("mlp}, steps: 3", "mlp}, steps: 4"), without_m, every):
        yaml.write_text(edited)
        assert command("report", "--results", out).exit_code == 0
        assert (out / "final.csv").read_text() == before
        panel = "q" if edited == every else "m"
        assert f"settings or code of tiny, panel '{panel}', are not those of the run" in caplog.text
        caplog.clear()
    # What decides no result may be edited, and what was run since is what counts.
    yaml.write_text(TWO.replace("title: M", "title: Mine"))
    assert command("report", "--results", out).exit_code == 0
    assert "Mine" in (out / "report.md").read_text()
    yaml.write_text(TWO.replace("mlp}, steps: 3", "mlp}, steps: 4"))
    assert command("run", yaml, "--results", out).exit_code == 0
    assert command("report", "--results", out).exit_code == 0
    assert pd.read_csv(out / "final.csv")["step"].to_list() == [3, 4]
    assert not caplog.text.count("made from the tables")


def test_clean_that_nobody_answers_deletes_nothing(finished: Path, tmp_path: Path) -> None:
    out = copied(finished, tmp_path / "out")
    cells = sorted(out.glob("cells/*-*"))
    done = command("clean", "--results", out)
    assert done.exit_code == 2
    assert "--yes" in done.stderr
    assert sorted(out.glob("cells/*-*")) == cells
    assert command("clean", "--results", out, "--yes").exit_code == 0
    assert not list(out.glob("cells/*-*"))


SET = "sizes.test_instances=abc"
LONG = "n" * 300


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "fgi4"], "did you mean 'fig4'"),
        (["run", "TINY", "--set", "sizes.tset_instances=8"], "did you mean 'test_instances'"),
        (["run", "TINY", "--set", "panels.quadratics.steps=ten"], "must be a whole number"),
        (["run", "TINY", "--set", "panels.quadratics.optimizers.SGD.name=sdg"], "'sgd'"),
        (["run", "TINY", "--set", "claims.T-1.test=ends_bellow_all"], "'ends_below_all'"),
        (["run", "TINY", "--set", "claims.T-1.panel=quadratic"], "'quadratics'"),
        (["run", "TINY", "--plugin", "nowhere.py"], "plugin nowhere.py: there is no such file"),
        (["run", "TINY", "--plugin", "BROKEN"], "SyntaxError"),
        (["run", "TINY", "--executor", "lokal"], "'lokal' is not one of"),
        (["run", "TINY", "--device", "gpu"], "'gpu' is not one of"),
        (["run", "TINY", "--jobs", "0"], "--jobs is 0"),
        (["run", "TINY", "--profile", "paepr"], "Invalid value for '--profile': 'paepr'"),
        (["run", "TINY", "--set", "sizes.test_instances=[1"], "the value is not valid YAML: "),
        (["run", "TINY", "--set", SET], f"--set {SET}: tiny.sizes.test_instances is 'abc'"),
        (["run", "TINY", "--set", SET, "--set", "seed=1"], f"--set {SET}: tiny.sizes"),
        (["run", "nowhere.yaml"], "nowhere.yaml cannot be read"),
        (["run", LONG], f"there is no experiment '{LONG}': "),
        (
            ["run", "TINY", "--plugin", f"{LONG}.py"],
            f"{LONG}.py is too long for the name of a file",
        ),
        (["run", "TINY", "--set", f"name={LONG}"], "have 310 characters together, but must"),
        (["status"], "nothing was run into this folder"),
        (["report"], "is missing"),
        (["clean", "--kind", "tuen"], "did you mean 'tune'"),
        (["clean", "--older-than", "soon"], "must be a number and s, m, h, d or w"),
        (["clean", "--unused"], "nothing was run into this folder"),
        (["lits"], "lits"),
    ],
)
def test_wrong_input_gets_one_sentence_and_exit_code_2(
    tmp_path: Path, words: list[str], expected: str
) -> None:
    (tmp_path / "broken.py").write_text("def")
    names = {"TINY": write_experiment(tmp_path), "BROKEN": tmp_path / "broken.py"}
    own = [] if words == ["lits"] else ["--results", tmp_path / "out"]
    (tmp_path / "out").mkdir()
    done = command(*(names.get(word, word) for word in words), *own)
    assert done.exit_code == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out/cells/*-*"))


@pytest.mark.parametrize(
    "words",
    [
        *(["run", "TINY"], ["merge", "OTHER"]),
        *(["status"], ["report"], ["verify"], ["benchmark"], ["clean"], ["clean", "--unused"]),
    ],
)
def test_results_that_are_no_folder_are_told(
    finished: Path, tmp_path: Path, words: list[str]
) -> None:
    names = {"TINY": write_experiment(tmp_path), "OTHER": finished}
    given = [names.get(word, word) for word in words]
    (tmp_path / "file").touch()
    done = command(*given, "--results", tmp_path / "file")
    assert done.exit_code == 2
    assert done.stderr == f"--results {tmp_path / 'file'} is a file, but must be a folder\n"
    if words[0] not in ("run", "merge"):
        done = command(*given, "--results", tmp_path / "nowhere")
        assert done.exit_code == 2
        assert f"there is no folder {tmp_path / 'nowhere'}: " in done.stderr


@pytest.mark.usefixtures("undrawn")
def test_experiment_and_results_may_move_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    write_experiment(before, TWO)
    monkeypatch.chdir(before)
    assert command("run", "tiny.yaml", "--results", "out").exit_code == 0
    monkeypatch.chdir(tmp_path)
    copied(before / "out", tmp_path / "copy")

    def is_known(out: Path) -> bool:
        told = [command(verb, "--results", out) for verb in ("status", "report")]
        assert told[1].exit_code == 0, told[1].stderr
        return told[0].exit_code == 0 and "cannot be planned" not in told[1].stderr

    # Without the experiment's file, it is found where it was.
    assert is_known(tmp_path / "copy")
    before.rename(after)
    assert is_known(after / "out")
    assert not is_known(tmp_path / "copy")


@pytest.mark.usefixtures("undrawn")
def test_status_and_report_find_the_experiment_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_experiment(tmp_path, TWO)
    (tmp_path / "plugin.py").touch()
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    done = command("run", "tiny.yaml", "--plugin", "plugin.py", "--results", out)
    assert done.exit_code == 0, done.stderr
    monkeypatch.chdir(elsewhere)
    unloaded = command("status", "--results", out)
    assert f"add --plugin {tmp_path / 'plugin.py'}" in unloaded.stderr.replace("\n", "")
    for verb in ("status", "report"):
        told = command(verb, "--plugin", tmp_path / "plugin.py", "--results", out)
        assert told.exit_code == 0, told.stderr
        assert "cannot be planned" not in told.stderr
    # As earlier versions kept it.
    path = out / "cells" / "request.json"
    request = {**json.loads(path.read_text()), "names": ["tiny.yaml"], "plugins": []}
    path.write_text(json.dumps(request))
    monkeypatch.chdir(tmp_path)
    assert command("status", "--results", out).exit_code == 0


def test_setting_is_blamed_for_what_it_says_and_not_for_what_the_file_does(tmp_path: Path) -> None:
    text = EXPERIMENT.replace("tuning_instances: 2", "tuning_instances: many")
    done = command("run", write_experiment(tmp_path, text), "--set", "seed=1")
    assert done.exit_code == 2
    assert done.stderr.startswith("tiny.yaml: sizes.tuning_instances is 'many'")


def test_results_without_cells_have_no_status(finished: Path, tmp_path: Path) -> None:
    out = copied(finished, tmp_path / "out")
    shutil.rmtree(out / "cells")
    done = command("status", "--results", out)
    assert done.exit_code == 2
    assert f"{out} has results but no cells" in done.stderr


def test_results_of_another_version_are_refused(tmp_path: Path) -> None:
    cells = tmp_path / "out" / "cells"
    cells.mkdir(parents=True)
    (cells / "version.json").write_text('{"results_version": 0}')
    done = command("run", write_experiment(tmp_path), "--results", tmp_path / "out")
    assert done.exit_code == 2
    assert "results version 0 made this folder" in done.stderr


def test_list_names_everything() -> None:
    told = json.loads(command("list", "--json").output)
    assert {"quadratic", "mlp"} <= {each["name"] for each in told["problems"]}
    adam = next(each for each in told["optimizers"] if each["name"] == "adam")
    assert adam["tuned"] == "lr"
    assert adam["fields"]["beta1"] == 0.9
    assert adam["summary"]
    tests = {each["name"]: each for each in told["claim_tests"]}
    fields = {"panel": "(text)", "optimizer": "(text)", "baselines": []}
    fields["until"] = "(a number, at least 1)"
    assert tests["ends_below_all"]["fields"] == fields
    assert tests["ends_below_all"]["summary"].startswith("The optimizer's mean final loss is below")
    assert {"truncated", "pes"} <= {each["name"] for each in told["estimators"]}
    assert "fig4" in {each["name"] for each in told["experiments"]}
    assert "F4M-1" in {each["id"] for each in told["claims"]}
    shown = command("list").output
    assert "quadratic" in shown and "Claim tests" in shown and "ends_below_all" in shown


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["list"], 0),
        (["list", "--schema"], 0),
        (["status", "--json"], 0),
        (["run", "nowhere.yaml"], 2),
    ],
)
def test_reader_that_has_seen_enough_ends_the_command_quietly(
    finished: Path, words: list[str], code: int
) -> None:
    own = ["--results", str(finished)] if words[0] in ("status", "run") else []
    with subprocess.Popen(
        [sys.executable, "reproduce.py", *words, *own],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        told = process.stderr.read().decode()
    assert process.returncode == code
    assert told == ("" if code == 0 else "nowhere.yaml cannot be read: No such file or directory\n")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_lines_are_read_as_they_come_where_python_buffers_nothing(stream: str) -> None:
    script = f"""
import sys
from l2l.suite.commands.output import output
stream = output(sys.{stream})
print("said", file=stream)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-u", "-c", script],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        # Without its answer the process waits: nothing is written because it ends.
        read, _, _ = select.select([getattr(process, stream)], [], [], 60)
        assert read
        process.stdin.close()


def test_help_explains_itself_without_loading_pytorch() -> None:
    told = command("--help").output
    for word in ("run", "list", "status", "report", "clean", "Exit codes"):
        assert word in told
    script = "import sys, reproduce; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


def test_own_experiments_stand_beside_the_papers(tmp_path: Path) -> None:
    assert l2l.suite.commands.request.find_experiments([str(write_experiment(tmp_path)), "fig4"])


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("place", ["{out}/figures/../cells/evil.py", "{tmp}/evil.py"])
def test_code_that_results_name_is_not_run_by_looking_at_them(
    finished: Path, tmp_path: Path, place: str
) -> None:
    out, mark = copied(finished, tmp_path / "out"), tmp_path / "it ran"
    evil = place.format(out=out, tmp=tmp_path)
    Path(evil).write_text(f"open({str(mark)!r}, 'w')")
    path = out / "cells" / "request.json"
    request = json.loads(path.read_text())
    path.write_text(json.dumps({**request, "plugins": [evil]}))
    words: list[tuple[str, ...]]
    words = [("report",), ("status",), ("clean", "--yes")]
    assert command("clean", "--unused", "--yes", "--results", out).exit_code == 0
    for each in words[:-1]:
        told = command(*each, "--results", out)
        assert told.exit_code == 2
        assert f"add --plugin {evil}" in told.stderr.replace("\n", "")
    assert command("run", finished.parent / "tiny.yaml", "--results", out).exit_code == 0
    path.write_text(json.dumps({**request, "plugins": [evil]}))
    assert not mark.exists()
    # What the user names is run, and not what the results name.
    (tmp_path / "mine").mkdir()
    own, asked = tmp_path / "mine" / "evil.py", tmp_path / "asked for"
    own.write_text(f"open({str(asked)!r}, 'w')")
    for each in words[:-1]:
        assert command(*each, "--plugin", own, "--results", out).exit_code == 0
        assert asked.exists()
        asked.unlink()
    assert command(*words[-1], "--results", out).exit_code == 0
    assert not mark.exists()


@pytest.mark.parametrize(
    "place", ["cells", "figures", "tables", "logs", "cells/{cell}", "cells/{cell}/log.txt"]
)
def test_link_inside_a_results_folder_is_refused_and_not_followed(
    finished: Path, tmp_path: Path, place: str
) -> None:
    out, outside = copied(finished, tmp_path / "out"), tmp_path / "outside"
    cell = next((out / "cells").glob("evaluate-*")).name
    link = out / place.format(cell=cell)
    link.rename(outside)
    link.symlink_to(outside)
    before = contents(outside)
    experiment = finished.parent / "tiny.yaml"
    words: list[tuple[object, ...]]
    words = [("run", experiment), ("report",), ("status",), ("clean", "--yes")]
    for each in words:
        told = command(*each, "--results", out)
        assert told.exit_code == 2, told.output
        assert "is a link" in told.stderr
        assert link.name in told.stderr
    assert contents(outside) == before
    # The folder as a whole may be one.
    (tmp_path / "linked").symlink_to(finished)
    assert command("status", "--results", tmp_path / "linked").exit_code == 0


def contents(path: Path) -> dict[str, bytes]:
    """All files below `path`, or its own content."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return {str(each.relative_to(path.parent)): each.read_bytes() for each in files}
