"""`LearnedOptimizer`, the optimizer for anybody's training loop, against the bare kernel."""

from __future__ import annotations

import pandas as pd
import torch
from torch import nn

from benchmarks.timing import interleaved
from l2l import LearnedOptimizer
from l2l.optimizers.kernels import operators
from l2l.optimizers.learned.checkpoint import load_optimizer
from l2l.optimizers.learned.lstm import LSTM
from l2l.suite.core.seeds import Rng
from l2l.suite.files.places import CHECKPOINTS


@torch.no_grad()
def wrapper(repeats: int, parameters: int = 10**6, tensors: int = 20) -> pd.DataFrame:
    """A step of the wrapper on many tensors, and of the bare kernel on one of all."""
    shipped = load_optimizer(CHECKPOINTS / "mnist-lstm.safetensors")
    assert isinstance(shipped, LSTM)
    grads = Rng(0, "gradients").normal(parameters)
    own = [nn.Parameter(torch.zeros(parameters // tensors)) for _ in range(tensors)]
    for parameter, grad in zip(own, grads.view(tensors, -1), strict=True):
        parameter.grad = grad.clone()
    wrapped = LearnedOptimizer(own, "mnist-lstm")
    state = shipped.layout.initial_state(parameters, like=grads)
    given = (shipped.layout, shipped.phi, grads, state, shipped.scales, state)
    times = interleaved(
        {"kernel": lambda: operators.update(*given), "LearnedOptimizer": wrapped.step}, repeats
    )
    table = pd.DataFrame({"what": times.keys(), "step_ms": [1e3 * x for x in times.values()]})
    table["over_kernel"] = table.step_ms / times["kernel"] / 1e3
    return table
