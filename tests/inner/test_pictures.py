"""Evaluations of images keep pictures, and the report shows them."""

import dataclasses
import itertools
from dataclasses import dataclass

import pandas as pd
import pytest
import torch
from command_line import leave_figures_empty
from safetensors.torch import save_file
from tidy_curves import condensed, experiment, rows

from l2l import Problem
from l2l.suite.core.abilities import has
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import optimizers
from l2l.suite.inner.evaluate import evaluate
from l2l.suite.inner.pictures import PictureLog, load_pictures, save_pictures
from l2l.suite.report.figures.pictures import picture_sheets
from l2l.suite.report.results import Results, store_results
from l2l.suite.report.write import write_report


@dataclass(frozen=True)
class Dots(Problem):
    """An image to be made as dark as its instance says."""

    def instance(self, rng):
        return {"shade": rng.uniform(1)}

    def init(self, rng):
        return {"image": rng.uniform(3, 4, 4)}

    def loss(self, params, instance, batch):
        return (params["image"] - instance["shade"]).square().sum()

    def picture(self, params):
        return (255 * params["image"]).round().clamp(0, 255).to(torch.uint8)

    def sources(self, rng):
        return {"shade": (255 * rng.uniform(1)).to(torch.uint8).expand(3, 4, 4)}


def test_evaluation_keeps_the_first_instances_at_a_few_steps(monkeypatch):
    # Groups of one instance, as for images that are large.
    monkeypatch.setattr("l2l.suite.inner.evaluate.runs_at_once", lambda *_: 1)
    log = PictureLog(20)
    optimizer = optimizers.make({"name": "sgd", "lr": 0.1})
    watched = evaluate(Dots(), optimizer, 20, 5, seed=0, watch=[log])
    assert torch.equal(watched, evaluate(Dots(), optimizer, 20, 5, seed=0))
    assert set(log.pictures) == {(i, s) for i in range(3) for s in (0, 8, 16, 20, "shade")}
    for instance in range(3):
        reached = log.pictures[instance, 20].float()
        assert (reached - log.pictures[instance, "shade"]).abs().max() < 5
        assert (log.pictures[instance, 0].float() - reached).abs().max() > 20


@pytest.mark.parametrize("method", ["picture", "sources"])
def test_wrong_picture_is_told_by_the_run_that_makes_it(monkeypatch, method):
    wrong = torch.zeros(4, 4, 3)
    given = wrong if method == "picture" else {"shade": wrong}
    monkeypatch.setattr(Dots, method, lambda self, _: given)
    told = rf"Dots\.{method} .*gives no image: float32 \[4, 4, 3\], but must be uint8 \[3, H, W\]"
    with pytest.raises(SuiteError, match=told):
        evaluate(
            Dots(), optimizers.make({"name": "sgd", "lr": 0.1}), 2, 1, 0, watch=[PictureLog(2)]
        )


def test_other_problems_show_no_pictures():
    assert has(Dots(), "picture")
    assert not has(Problem(), "picture")


def test_pictures_come_back_as_they_were(tmp_path):
    pictures = {("e", 'odd "name"/', 0, 8): torch.arange(12, dtype=torch.uint8).view(3, 2, 2)}
    save_pictures(tmp_path / "p.safetensors", pictures)
    found = load_pictures(tmp_path / "p.safetensors")
    assert list(found) == list(pictures)
    assert all(torch.equal(found[key], pictures[key]) for key in found)


def test_damaged_pictures_are_said(tmp_path):
    path = tmp_path / "p.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(SuiteError, match="cannot be read as pictures"):
        load_pictures(path)
    save_file({"no key": torch.zeros(1)}, path)
    with pytest.raises(SuiteError, match="cannot be read as pictures"):
        load_pictures(path)


def made_up(panel, names):
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    kept = [0, 8, 16, panel.steps, "content", "style"]
    keys = itertools.product(["e"], [panel.name], names, range(2), kept)
    return dict.fromkeys(keys, image)


def test_sheets_show_sources_results_and_the_way():
    info = experiment(["LSTM", "ADAM", "SGD"])
    panel = info.panels[0]
    pictures = made_up(panel, ["LSTM", "SGD"])
    results, steps = picture_sheets(info, pictures)
    assert [axis.get_title(loc="center") for axis in results.draw().axes[:4]] == [
        "content",
        "style",
        "LSTM",
        "SGD",
    ]
    assert len(results.draw().axes) == 2 * 4
    assert len(steps.draw().axes) == 2 * 4
    assert "LSTM and SGD" in results.caption


def test_report_shows_the_sheets_and_can_be_made_again(tmp_path, monkeypatch):
    info = experiment(["LSTM", "SGD"])
    panel = info.panels[0]
    pictures = made_up(panel, ["LSTM", "SGD"])
    curves = pd.concat([rows("LSTM", 0.1), rows("SGD", 0.2)])
    results = Results((info,), condensed(info, curves), {"commit": None}, pictures)
    store_results(tmp_path, results)
    report = write_report(tmp_path)
    sheet = f"{info.name}-{panel.name}-pictures"
    assert (tmp_path / "figures" / f"{sheet}.png").stat().st_size > 0
    assert f"figures/{sheet}.png" in report.markdown.read_text()
    html = report.html.read_text()
    # All are alike here, and so in the page once.
    assert html.count('<use href="#picture-1"') == 16
    assert html.count("data:image/jpeg;base64") == 1
    write_report(tmp_path)
    assert report.html.read_text() == html
    leave_figures_empty(monkeypatch)
    # Pictures of an earlier run are not taken for those of this one.
    store_results(tmp_path, dataclasses.replace(results, pictures={}))
    write_report(tmp_path)
    assert "data:image/jpeg" not in report.html.read_text()
