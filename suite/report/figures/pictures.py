"""Sheets of pictures (Figure 9, Appendix C): what came of which content and style, and the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from matplotlib.figure import Figure
from torch import Tensor

from l2l.suite.inner.pictures import Pictures
from l2l.suite.plan.definitions import ExperimentInfo, PanelInfo
from l2l.suite.report.figures.files import Drawing
from l2l.suite.report.figures.text import wrapped

SIDE = 1.45  # inches of a picture
LETTERS = 20  # of a line beside one


def picture_sheets(experiment: ExperimentInfo, pictures: Pictures) -> Iterator[Drawing]:
    """Two sheets for each panel of which there are pictures.

    ``<experiment>-<panel>-pictures`` has a row for each instance: its sources, then what each
    optimizer came to. ``<experiment>-<panel>-steps`` has the first instance after a few steps, a
    row for each optimizer.
    """
    for panel in experiment.panels:
        own: Pictures = {
            key[2:]: picture
            for key, picture in pictures.items()
            if key[:2] == (experiment.name, panel.name)
        }
        if not own:
            continue
        name = f"{experiment.name}-{panel.name}"
        shown = [each for each in panel.optimizers if any(key[0] == each for key in own)]
        who = " and ".join(shown)
        yield Drawing(
            f"{name}-pictures",
            f"{panel.title}: sources of the first test runs, and what {who} made of them.",
            partial(_results, panel, shown, own),
        )
        yield Drawing(
            f"{name}-steps",
            f"{panel.title}: the first test run on its way, by {who}.",
            partial(_steps, panel, shown, own),
        )


def _results(panel: PanelInfo, shown: Sequence[str], pictures: Pictures) -> Figure:
    instances = sorted({key[1] for key in pictures}, key=int)
    sources = dict.fromkeys(key[2] for key in pictures if isinstance(key[2], str))
    rows = [
        [
            *(pictures[shown[0], instance, source] for source in sources),
            *(pictures[name, instance, panel.steps] for name in shown),
        ]
        for instance in instances
    ]
    heads = [str(source) for source in sources]
    return _sheet(panel.title, rows, [*heads, *shown], [""] * len(rows))


def _steps(panel: PanelInfo, shown: Sequence[str], pictures: Pictures) -> Figure:
    first = min(int(key[1]) for key in pictures)
    steps = sorted({key[2] for key in pictures if isinstance(key[2], int)})
    rows = [[pictures[name, first, step] for step in steps] for name in shown]
    heads = [f"{step} steps" for step in steps]
    return _sheet(panel.title, rows, heads, shown)


def _sheet(
    title: str, rows: Sequence[Sequence[Tensor]], heads: Sequence[str], sides: Sequence[str]
) -> Figure:
    heads, sides = ([wrapped(text, LETTERS) for text in texts] for texts in (heads, sides))
    lines = max(head.count("\n") + 1 for head in heads)
    figure = Figure(
        figsize=(SIDE * len(heads) + 0.4, SIDE * len(rows) + 0.45 + 0.15 * lines),
        layout="constrained",
    )
    axes = figure.subplots(len(rows), len(heads), squeeze=False)
    for own, pictures, side in zip(axes, rows, sides, strict=True):
        own[0].set_ylabel(side)
        for axis, picture in zip(own, pictures, strict=True):
            axis.imshow(picture.permute(1, 2, 0).numpy(), interpolation="none")
            axis.set(xticks=[], yticks=[])
            for spine in axis.spines.values():
                spine.set_visible(False)
    for axis, head in zip(axes[0], heads, strict=True):
        axis.set_title(head, loc="center", fontweight="normal")
    figure.suptitle(wrapped(title, 22 * len(heads)), fontsize=9, fontweight="bold")
    return figure
