"""Steps of meta-training and evaluation on a device, by each way, and what limits the kernel."""

from __future__ import annotations

import functools
import math
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from benchmarks.gpu.timing import median_seconds, peak_of, wait_for
from benchmarks.window import by_autograd, by_suite, evaluate, learned, using
from l2l.optimizers.kernels.dispatch import kernel_for
from l2l.optimizers.learned.checkpoint import load_optimizer
from l2l.optimizers.learned.lstm import LSTM
from l2l.problems.convnet import ConvNet
from l2l.problems.mlp import MLP
from l2l.problems.neural_art import NeuralArt
from l2l.suite.core.registry import optimizers
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Problem
from l2l.suite.files.places import CHECKPOINTS
from l2l.suite.inner.evaluate import evaluate as evaluate_runs
from l2l.suite.inner.loop import walk
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import start
from l2l.suite.meta.estimators.truncated import window_gradient
from l2l.suite.meta.meta_loss import loss_weights
from l2l.suite.meta.metatrain import metatrain
from l2l.suite.meta.schedule import Phase, Schedule

STEPS = 20
# Windows of a run; of one with more coordinates than FEW, only the first, which is long enough.
WINDOWS = 5
FEW = 5_000_000
# Hidden units of the MNIST network, for about 10^4, 10^5, 10^6 and 10^7 coordinates.
UNITS = {"cuda": (20, 126, 1258, 12579), "cpu": (20, 126)}
# Bytes that each way may keep for a coordinate and step.
BYTES = {"autograd": 2500, "reference": 310, "compiled": 310, "fused": 60}


def steps(device: str) -> pd.DataFrame:
    """A step of a run of 100, in windows of 20, and its peak memory, by coordinates and way."""
    rows = [
        row
        for units in UNITS[device]
        for way in ("autograd", "reference", "fused")
        for row in _step(device, units, way)
    ]
    table = pd.DataFrame(rows)
    ours = table[table.way == "fused"].set_index("coordinates").loc[table.coordinates]
    table["fused_is_faster_by"] = table.training_ms / ours.training_ms.to_numpy()
    table["fused_is_smaller_by"] = table.peak_mib / ours.peak_mib.to_numpy()
    return table


def compiled(device: str) -> pd.DataFrame:
    """The reference under `torch.compile`, at the largest size that it is compared at."""
    return pd.DataFrame(_step(device, UNITS[device][-2], "compiled"))


@functools.cache
def _case(device: str, units: int, way: str) -> tuple[Objective, LSTM]:
    """A problem of each way's own, so that none is measured with what was recorded of another."""
    optimizer = learned()
    optimizer = optimizer.with_weights(optimizer.phi.to(device))
    return Objective(MLP(units=units), [0], "train", 0, device=device), optimizer


def _step(device: str, units: int, way: str) -> list[dict[str, object]]:
    """A row of `steps`; none if there is too little memory."""
    objective, optimizer = _case(device, units, way)
    coordinates = objective.spec.size
    if device == "cuda" and BYTES[way] * coordinates * STEPS > 0.9 * torch.cuda.mem_get_info()[0]:
        return []
    function = by_autograd if way == "autograd" else by_suite
    windows = WINDOWS if coordinates < FEW else 1
    train = functools.partial(function, objective, optimizer, STEPS, windows=windows)
    with using(way):
        peak = peak_of(train, device)
        training = median_seconds(train, device)
        evaluation = median_seconds(
            functools.partial(evaluate, objective, optimizer, windows * STEPS), device
        )
    if device == "cuda":
        torch.cuda.empty_cache()
    return [
        {
            "coordinates": coordinates,
            "way": way,
            "training_ms": 1e3 * training / (windows * STEPS),
            "evaluation_ms": 1e3 * evaluation / (windows * STEPS),
            "peak_mib": peak,
        }
    ]


def _ceilings(device: str) -> tuple[float, float]:
    """Bytes a second of a copy, read and written, and float32 operations a second."""
    size = 2**28 if device == "cuda" else 2**24
    source, target = torch.rand(2, size, device=device)
    copy = median_seconds(lambda: target.copy_(source), device, 10)
    n = 8192 if device == "cuda" else 1024
    a, b = torch.rand(2, n, n, device=device)
    product = median_seconds(lambda: a @ b, device, 5)
    return 2 * 4 * size / copy, 2 * n**3 / product


def limits(device: str) -> pd.DataFrame:
    """What the kernel reaches of the memory's bandwidth and of the arithmetic, and which it lacks.

    The ceilings are measured: a copy of 1 GiB, and a product of two 8,192² float32 matrices.
    """
    copied, flops = _ceilings(device)
    optimizer = learned().with_weights(learned().phi.to(device))
    shape = optimizer.layout
    kernel = kernel_for(shape, optimizer.phi)
    k = 10**6 if device == "cuda" else 10**5
    state = shape.initial_state(k, like=optimizer.phi)
    grads = torch.randn(k, device=device)
    features = torch.randn(STEPS, shape.inputs, k, device=device)
    lambdas = torch.randn(STEPS, k, device=device)
    products = sum(
        4 * shape.hidden * ((shape.inputs if layer == 0 else shape.hidden) + shape.hidden)
        for layer in range(shape.layers)
    )
    rows = []
    for name, function, count, moved, work in (
        (
            "update",
            lambda: kernel.update(shape, optimizer.phi, grads, state, optimizer.scales, state),
            1,
            4 * (2 * shape.layers * 2 * shape.hidden + 2),
            2 * products,
        ),
        (
            "window gradient",
            lambda: kernel.gradient(shape, optimizer.phi, features, state, lambdas),
            STEPS,
            4 * (shape.inputs + 1 + shape.layers * 2 * shape.hidden / STEPS),
            # Forward once more, and two products of the same size back.
            6 * products,
        ),
    ):
        seconds = median_seconds(function, device, 5) / count
        rows.append(
            {
                "call": name,
                "ns_a_coordinate_step": 1e9 * seconds / k,
                "bandwidth_share": k * moved / seconds / copied,
                "arithmetic_share": k * work / seconds / flops,
                "copy_gb_s": copied / 1e9,
                "float32_tflops": flops / 1e12,
            }
        )
    return pd.DataFrame(rows)


def side_by_side(device: str) -> pd.DataFrame:
    """A step of meta-training's walk on the larger problems, for one run and for 64."""
    many = 64 if device == "cuda" else 2
    rows = []
    problems: tuple[tuple[str, Problem], ...] = (
        ("MNIST network", MLP()),
        ("convolutional network", ConvNet()),
        ("neural art, 64x64", NeuralArt()),
    )
    for name, problem in problems:
        for runs in (1, many):
            objective = Objective(problem, range(runs), "test", 0, device=device)
            optimizer = learned().with_weights(learned().phi.to(device))
            run = functools.partial(evaluate, objective, optimizer, 5)
            seconds = median_seconds(run, device, 2) / 5
            peak = peak_of(run, device)
            rows.append({"problem": name, "runs": runs, "step_ms": 1e3 * seconds, "peak_mib": peak})
    table = pd.DataFrame(rows)
    one = table[table.runs == 1].set_index("problem").step_ms
    table["as_one_after_the_other"] = table.problem.map(one) * table.runs / table.step_ms
    return table


def whole_runs(device: str) -> pd.DataFrame:
    """Seconds of evaluation and of meta-training on MNIST, and of Figure 7's, from a window."""
    lstm = load_optimizer(CHECKPOINTS / "mnist-lstm.safetensors", device)
    count = 128 if device == "cuda" else 4
    evaluate_runs(MLP(), lstm, 5, count, 0, device)
    wait_for(device)
    begin = time.perf_counter()
    losses = evaluate_runs(MLP(), lstm, 100, count, 0, device)
    seconds = time.perf_counter() - begin
    rows = [{"what": f"MNIST, {count} runs of 100 steps", "seconds": seconds}]
    assert math.isfinite(float(losses.mean()))
    spec = {"name": "lstm", "preprocessing": "log", "output_scale": 0.1}
    trained = 40 if device == "cuda" else 2
    estimator = {"name": "truncated", "window": STEPS}
    phase = Phase(runs=trained, horizon=100, estimator=estimator, rate=0.003)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        metatrain(MLP(), spec, Schedule((phase,), trained, 1), 0, Path(folder), device)
    seconds = (time.perf_counter() - begin) / trained
    rows.append({"what": "MNIST, meta-training, a run of 100 steps", "seconds": seconds})
    routed = optimizers.make({"name": "routed", "groups": {"conv": spec, "fc": spec}})
    routed = routed.with_weights(routed.initial_weights(Rng(0, "phi")).to(device))
    objective = Objective(ConvNet(), [0], "train", 0, device=device)

    @torch.no_grad()
    def window() -> None:
        points = walk(objective, routed, start(objective, routed), STEPS)
        weights = loss_weights(points, "loss")
        window_gradient(routed, points, weights, Rng(0, "sample"), sample=4000)

    of_step = median_seconds(window, device, 3) / STEPS
    # 30 runs of 100 steps and 20 of 200.
    rows.append({"what": "Figure 7's 50 runs, from a window", "seconds": 7000 * of_step})
    return pd.DataFrame(rows)
