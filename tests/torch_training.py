"""A small network and its training loop, for the tests of `LearnedOptimizer`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from l2l.suite.core.seeds import Rng


def network(device: str = "cpu", seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).to(device)


def loss_of(net: nn.Module, step: int) -> Tensor:
    x = Rng(1, "x", step=step).normal(16, 5)
    return net(x.to(next(net.parameters()))).square().mean()


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss_of(net, step).backward()
        optimizer.step()


def weights(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def with_gradient(data: Tensor, grad: Tensor) -> nn.Parameter:
    """A parameter as it is after `backward`."""
    parameter = nn.Parameter(data)
    parameter.grad = grad
    return parameter
