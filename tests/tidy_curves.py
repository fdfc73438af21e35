"""Small tidy tables for the tests of everything between curves and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from suite.definitions import ClaimInfo, ExperimentInfo, PanelInfo

STEPS = 20
INSTANCES = 40


def rows(
    optimizer: str,
    final: float,
    *,
    panel: str = "p",
    instances: int = INSTANCES,
    steps: int = STEPS,
    diverged: Sequence[int] = (),
    learning_rate: float = 0.1,
) -> pd.DataFrame:
    """Curves that fall from 2 to about `final`; instances share their luck, as paired runs do."""
    rng = np.random.default_rng(7)
    luck = np.exp(0.3 * rng.normal(size=(instances, 1)))
    own = np.exp(0.02 * np.random.default_rng(len(optimizer)).normal(size=(instances, steps + 1)))
    loss = 2.0 * (final / 2.0) ** np.linspace(0, 1, steps + 1) * luck * own
    loss[list(diverged), steps // 2 :] = np.inf
    return pd.DataFrame(
        {
            "experiment": "e",
            "panel": panel,
            "problem": "quadratic",
            "optimizer": optimizer,
            "learning_rate": np.nan if optimizer.startswith("LSTM") else learning_rate,
            "instance": np.repeat(np.arange(instances), steps + 1),
            "step": np.tile(np.arange(steps + 1), instances),
            "loss": loss.ravel(),
        }
    )


def experiment(
    optimizers: Sequence[str],
    test: str = "",
    options: Mapping[str, Any] | None = None,
    **panel: Any,
) -> ExperimentInfo:
    """An experiment "e" with a panel "p", and a claim "C-1" if a `test` is named."""
    info = PanelInfo(name="p", title="Panel", steps=STEPS, optimizers=tuple(optimizers), **panel)
    claims = (ClaimInfo("C-1", "A claim.", test, options or {}),) if test else ()
    return ExperimentInfo("e", "Experiment", (info,), claims, settings="name: e\n")
