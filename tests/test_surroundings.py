"""What the user's machine is like (locale, settings of other programs, folders) changes nothing."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from command_line import EXPERIMENT, ROOT, command, write_experiment

from l2l.suite.core.native_build import BuildError, compiler

# Runs the command line with the suite's own uses of the locale's encoding as errors.
STRICT = """
import runpy, sys, warnings
own = r"(l2l|reproduce|__main__)\\b"
warnings.filterwarnings("error", category=EncodingWarning, module=own)
words = sys.argv[1:]
while words:
    end = words.index(";")
    sys.argv, words = ["reproduce.py", *words[:end]], words[end + 1 :]
    try:
        runpy.run_path("reproduce.py", run_name="__main__")
    except SystemExit as ended:
        print(f"exit code {ended.code}", flush=True)
"""
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
NO_FOLDER = "/dev/null/nothing"


def start(
    program: Sequence[str], *words: object, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *program, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def without_encoding(call: ast.Call) -> bool:
    """Whether a call reads or writes text in whatever encoding the locale has."""
    named = {keyword.arg for keyword in call.keywords}
    words = [*call.args, *(keyword.value for keyword in call.keywords)]
    binary = any(isinstance(w, ast.Constant) and "b" in str(w.value)[:3] for w in words[:2])
    match call.func:
        case ast.Attribute(attr="read_text" | "write_text"):
            return "encoding" not in named
        case ast.Attribute(value=ast.Name(id="os" | "Image"), attr="open"):
            return False
        case ast.Attribute(attr="open") | ast.Name(id="open"):
            return "encoding" not in named and not binary
        case ast.Attribute(value=ast.Name(id="subprocess")):
            return "text" in named and "encoding" not in named
    return False


def test_every_text_file_is_read_and_written_in_a_named_encoding() -> None:
    found = [
        f"{path.relative_to(ROOT)}, line {call.lineno}"
        for folder in ("suite", "problems", "optimizers", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and without_encoding(call)
    ]
    assert not found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder of a finished run; tests only read it."""
    folder = tmp_path_factory.mktemp("finished")
    done = command("run", write_experiment(folder), "--results", folder / "out")
    assert done.exit_code == 0, done.output
    return folder / "out"


def test_figures_do_not_depend_on_the_users_matplotlib(finished: Path, tmp_path: Path) -> None:
    settings = {
        "text.usetex": "True",
        "savefig.bbox": "tight",
        "savefig.transparent": "True",
        "figure.dpi": "30",
        "figure.constrained_layout.use": "False",
        "font.family": "No Such Font",
        "font.size": "25",
        "axes.grid": "True",
        "axes.facecolor": "black",
        "axes.prop_cycle": "cycler('color', ['k'])",
        "lines.linewidth": "9",
        "legend.loc": "upper left",
        "svg.fonttype": "path",
        "path.sketch": "(1, 100, 2)",
        "axes.formatter.use_locale": "True",
        "backend": "tkagg",
    }
    rc = tmp_path / "matplotlibrc"
    rc.write_text("\n".join(f"{k}: {v}" for k, v in settings.items()), encoding="utf-8")
    copy = tmp_path / "out"
    shutil.copytree(finished, copy, symlinks=True)
    shutil.rmtree(copy / "figures")
    notebook = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "MATPLOTLIBRC": str(rc)}
    nowhere = {"HOME": NO_FOLDER, "MPLCONFIGDIR": NO_FOLDER}
    done = start(["reproduce.py"], "report", "--results", copy, environment={**notebook, **nowhere})
    assert done.returncode == 0, done.stderr
    for path in (finished / "figures").iterdir():
        assert (copy / "figures" / path.name).read_bytes() == path.read_bytes(), path.name


def test_matplotlib_that_cannot_be_imported_costs_only_the_figures(
    finished: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "out"
    shutil.copytree(finished, copy, symlinks=True)
    rc = tmp_path / "matplotlibrc"
    rc.write_text("font.size: 9", encoding="utf-16")  # which it reads at once, as UTF-8
    done = start(
        ["reproduce.py"], "report", "--results", copy, environment={"MATPLOTLIBRC": str(rc)}
    )
    assert done.returncode == 1, done.stderr
    assert "figure tiny could not be drawn: UnicodeDecodeError" in done.stderr
    assert not list((copy / "figures").iterdir())
    assert "T-1" in (copy / "report.md").read_text(encoding="utf-8")


def test_figure_that_fails_costs_neither_tables_nor_report(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "out"
    shutil.copytree(finished, copy, symlinks=True)
    (copy / "final.csv").unlink()
    shutil.rmtree(copy / "tables")

    def fail(*_: object) -> None:
        raise RuntimeError("no <ink>\nat all")

    monkeypatch.setattr("l2l.suite.report.figures.experiment.draw_experiment", fail)
    done = command("report", "--results", copy)
    assert done.exit_code == 1
    assert "figure tiny could not be drawn: RuntimeError: no <ink> (test_surr" in done.stderr
    assert (copy / "final.csv").read_bytes() == (finished / "final.csv").read_bytes()
    assert (copy / "tables" / "final.tex").exists()
    assert "could not be drawn: RuntimeError: no &lt;ink&gt;" in (copy / "report.html").read_text(
        encoding="utf-8"
    )
    assert "could not be drawn" in (copy / "report.md").read_text(encoding="utf-8")
    # What an earlier report left would be taken for this one's.
    assert not list((copy / "figures").iterdir())
    assert command("merge", finished, "--results", copy).exit_code == 1
    monkeypatch.undo()
    assert command("report", "--results", copy).exit_code == 0
    assert (copy / "report.html").read_bytes() == (finished / "report.html").read_bytes()


def test_run_in_an_ascii_locale_and_in_folders_of_other_letters(tmp_path: Path) -> None:
    folder = tmp_path / "μεταμάθηση 学 1"
    folder.mkdir()
    text = EXPERIMENT.replace("title: Quadratics", "title: f(θ) ≥ −1")
    path = write_experiment(folder, text.replace("SGD: {name", "Σ: {name").replace("SGD}", "Σ}"))
    environment = {**ASCII, "L2L_CACHE": str(folder / "cache")}
    # One after the other in one process: the suite takes seconds to import.
    words = ["run", path, "--results", folder / "out", ";", "list", ";"]
    words += ["run", folder / "нет.yaml", ";"]
    strict = ("-X", "warn_default_encoding", "-c", STRICT)
    done = start(strict, *words, environment=environment)
    codes = [line for line in done.stdout.splitlines() if line.startswith("exit code ")]
    assert codes == ["exit code 0", "exit code 0", "exit code 2"], done.stderr
    assert "? ends below all" in done.stdout.replace("SGD", "?")
    assert f"Report: {folder / 'out' / 'report.html'}" in done.stdout
    try:
        compiler()
    except BuildError:
        pass
    else:
        assert len(list((folder / "cache").iterdir())) == 1, "the kernel was compiled"
        assert "fused LSTM kernel is not used" not in done.stderr
    page = (folder / "out" / "report.html").read_text(encoding="utf-8")
    assert "f(θ) ≥ −1" in page
    assert str(folder) in page  # in the command
    assert ".yaml cannot be read: No such file or directory" in done.stderr


@pytest.mark.skipif(
    "L2L_TESTS_CHOSE_THREADS" not in os.environ, reason="the user chose the number of threads"
)
def test_tests_side_by_side_have_one_thread_each() -> None:
    """With more, threads of one wait for a processor that the other's spin on."""
    alone = os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1") == "1"
    assert os.environ["OMP_NUM_THREADS"] == ("2" if alone else "1")
