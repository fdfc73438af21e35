"""What is committed of results is small, and enough to make the reports again."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from tidy_curves import known

from l2l.suite.commands.publish import publish_again
from l2l.suite.commands.request import every_experiment
from l2l.suite.plan.profiles import PROFILES, build, read_experiment
from l2l.suite.report.claims.verdicts import check_claims
from l2l.suite.report.results import load_results

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
MOST_BYTES = 15_000_000
MOST_BYTES_OF_A_PAGE = 3_000_000


def committed() -> list[Path]:
    """The files below results/ that git knows."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout, or git is not installed")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", "results"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).exists()]


def test_committed_results_take_little_room() -> None:
    sizes = {path: path.stat().st_size for path in committed()}
    assert sum(sizes.values()) <= MOST_BYTES, sorted(sizes, key=lambda path: -sizes[path])[:5]
    assert {path.suffix for path in sizes if path.parent.name == "figures"} == {".png"}
    for path, size in sizes.items():
        assert path.name != "report.html" or size < MOST_BYTES_OF_A_PAGE, path


def test_report_is_made_again_from_what_is_committed(tmp_path: Path) -> None:
    shutil.copytree(RESULTS / "ablation", tmp_path / "ablation")
    (tmp_path / "ablation" / "report.html").unlink(missing_ok=True)
    report = publish_again(tmp_path / "ablation")
    assert report.html.stat().st_size
    for name in ("final.csv", "claims.csv", "report.md"):
        made = (tmp_path / "ablation" / name).read_text(encoding="utf-8")
        assert made == (RESULTS / "ablation" / name).read_text(encoding="utf-8"), name


def test_claims_follow_from_what_is_committed() -> None:
    results = load_results(RESULTS / "reference")
    found = check_claims(results.experiments, *known(results.tables))
    told = pd.read_csv(RESULTS / "reference" / "claims.csv")
    told = told.fillna({"reason": "", "note": ""})
    for column in ("id", "kind", "verdict", "reason", "n", "note"):
        assert list(found[column]) == list(told[column])
    for column in ("estimate", "ci_low", "ci_high"):
        assert found[column].to_numpy() == pytest.approx(
            told[column].to_numpy(), rel=1e-6, nan_ok=True
        )


@pytest.mark.parametrize("profile", PROFILES)
def test_every_checkpoint_that_an_experiment_takes_is_there(profile: str) -> None:
    there = committed()
    experiments = build([read_experiment(path) for path in every_experiment()], profile, [])
    for experiment in experiments:
        for name, training in experiment.training.items():
            if training.use == "shipped":
                path = RESULTS / "checkpoints" / f"{training.checkpoint}.safetensors"
                assert path in there, (experiment.name, name)
