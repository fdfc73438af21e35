"""`make bench`: one page of tables, each measured against its alternatives in the same run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch

from benchmarks.convnet import convnet
from benchmarks.from_torch import from_torch
from benchmarks.in_jax import available, in_jax
from benchmarks.neighbour import neighbour
from benchmarks.page import as_markdown
from benchmarks.small import small
from benchmarks.sweeps import sweeps
from benchmarks.updates import batches, quadratics
from benchmarks.window import CASES, windows
from benchmarks.wrapper import wrapper
from l2l.problems.mlp import MLP
from l2l.suite.files.atomic import write_text_atomic
from l2l.suite.files.provenance import processor
from l2l.suite.inner.process import keep_freed_memory

FOLDER = Path(__file__).parents[1] / "results" / "reference" / "benchmarks"
REPEATS = 5


def measurements(quick: bool) -> dict[str, tuple[str, Callable[[], pd.DataFrame]]]:
    """By name: a caption, and what measures."""
    repeats = 1 if quick else REPEATS
    found = {
        "window": (
            "A step of meta-training and of evaluation on the MNIST network, by its number of "
            "parameters; what would take more than a quarter of the memory is left out",
            lambda: windows(repeats, CASES[:2] if quick else CASES),
        ),
        "updates": (
            "An update of φ from 20 steps on quadratics",
            lambda: quadratics(repeats, 16 if quick else 128),
        ),
        "batches": ("Several runs an update, on MNIST", lambda: batches(repeats)),
        "convnet": (
            "Figure 7's network on a minibatch of 128 images: loss and gradient, and the Hessian",
            lambda: convnet(repeats),
        ),
        "sweeps": (
            "Tuning learning rates over runs of 100 steps; runs of torch.optim, one after the "
            "other, are measured in part and scaled",
            lambda: sweeps(min(repeats, 3), 10 if quick else 1),
        ),
        "from_torch": (
            "100 steps of MNIST's network with classes of torch.optim, by the processor's time on "
            "one thread: one run, and a sweep of 13 rates with 10 instances each, beside as many "
            "runs of the loop by hand",
            lambda: from_torch(min(repeats, 3), 1 if quick else 10),
        ),
        "small": (
            "A step of a 31-parameter logistic regression on one thread, by the processor's time "
            "that it takes beside the gradient in plain PyTorch; what stands below nested vmap is "
            "the suite's",
            lambda: small(repeats, windows=1 if quick else 5),
        ),
        "neighbour": (
            "Milliseconds of a step on MNIST's network with two threads for the LSTM's kernel, "
            "alone and beside a process that keeps a processor busy",
            lambda: neighbour(repeats),
        ),
        "wrapper": (
            "A step on a million parameters in 20 tensors",
            lambda: wrapper(repeats, 10**5 if quick else 10**6),
        ),
    }
    if available():
        found["in_jax"] = (
            "A step of meta-training on MNIST's network beside one compiled scan in JAX over a "
            "window of 20 steps",
            lambda: in_jax(repeats),
        )
    return found


def main(arguments: Sequence[str]) -> None:
    """Measure and print; without ``--quick`` write the page, and each table as CSV."""
    parser = argparse.ArgumentParser("benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes; nothing is written")
    quick = parser.parse_args(arguments).quick
    keep_freed_memory()
    page = []
    for name, (caption, measure) in measurements(quick).items():
        data = measure()
        page.append(as_markdown(name, caption, data))
        print(page[-1], flush=True)
        if not quick:
            write_text_atomic(FOLDER / f"{name}.csv", data.to_csv(index=False))
    if not quick:
        notice = f" MNIST is {notice}." if (notice := MLP().notice) else ""
        what = f"Medians, on {torch.get_num_threads()} threads of a processor {processor()}."
        head = f"# Benchmarks\n\n{what}{notice}\n\n"
        write_text_atomic(FOLDER / "benchmarks.md", head + "\n".join(page))
        print(FOLDER)


if __name__ == "__main__":
    main(sys.argv[1:])
