"""A user's file with a problem or an optimizer, planned with in tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from l2l.suite.core.errors import SuiteError
from l2l.suite.core.plugins import load_plugin
from l2l.suite.core.registry import optimizers, problems
from l2l.suite.plan.resolved import optimizer_config, problem_config

FILE = Path("mine.py")
HEAD = """
from dataclasses import dataclass
import random
import numpy as np
import torch
from torch import nn
from l2l import Optimizer, Problem, register_optimizer, register_problem
NET = nn.Linear(2, 1)
KEPT = {}
FRESH = torch.tensor(np.random.default_rng().normal(size=2)).float()
"""


def planned(text: str) -> None:
    """Plan with the problem or the optimizer ``mine`` that a file with this text registers."""
    forget()
    FILE.write_text(text, encoding="utf-8")
    load_plugin(FILE)
    if "mine" in problems:
        problem_config({"name": "mine"}, "my.yaml: panels.p")
    else:
        optimizer_config({"name": "mine"}, {"name": "quadratic"}, "my.yaml: panels.p")


def complaint(text: str) -> str:
    """The one sentence that planning with it ends with, lines numbered N."""
    with pytest.raises(SuiteError) as caught:
        planned(text)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("my.yaml: panels.p: ")
    return re.sub(r"line \d+", "line N", str(caught.value))


def forget() -> None:
    """Take what the file registered out of the registries."""
    for registry in (problems, optimizers):
        registry._classes.pop("mine", None)
