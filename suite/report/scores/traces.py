"""Scores of what optimizers do with single coordinates, over all traced ones of an instance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from l2l.suite.report.scores.losses import Recorded, nothing
from l2l.suite.report.statistics.intervals import Floats

# A response is step-like if more than half of its range is crossed within the central tenth of the
# gradients: five times as much as by a straight line.
CENTRE = 0.1
STEEP = 0.5


@dataclass(frozen=True)
class MeanUpdate:
    """The mean absolute update."""

    name: str = field(default="mean absolute update", init=False)

    def of(self, recorded: Recorded, optimizer: str) -> pd.Series:
        own = _own(recorded.traces.traces, optimizer)
        return own["update"].astype(float).abs().groupby(own["instance"]).mean()


@dataclass(frozen=True)
class LaterEffect:
    """The share of the effect of a gradient's sign that comes after lag 0.

    Of the effects e_j that it has on the updates j steps later, Σ_{j≥1} e_j / Σ_j |e_j|.
    """

    name: str = field(default="share of the effect after lag 0", init=False)

    def of(self, recorded: Recorded, optimizer: str) -> pd.Series:
        effects = _effects(recorded, optimizer)
        later = [lag for lag in effects if lag > 0]
        return effects[later].sum(axis=1) / effects.abs().sum(axis=1)


@dataclass(frozen=True)
class MeanLag:
    """The time scale of the effects e_j of a gradient's sign: Σ_j j |e_j| / Σ_j |e_j|."""

    name: str = field(default="mean lag of the effect", init=False)

    def of(self, recorded: Recorded, optimizer: str) -> pd.Series:
        sizes = _effects(recorded, optimizer).abs()
        return (sizes * sizes.columns.to_numpy()).sum(axis=1) / sizes.sum(axis=1)


@dataclass(frozen=True)
class Noise:
    """Mean (u_t − u_{t−1})² over twice the mean u_t²: 1 for white noise, near 0 for smooth updates.

    Each coordinate's updates are taken in units of their root mean square.
    """

    name: str = field(default="noise of the updates", init=False)

    def of(self, recorded: Recorded, optimizer: str) -> pd.Series:
        keys = ["instance", "coordinate"]
        updates = _own(recorded.traces.traces, optimizer).sort_values([*keys, "step"])
        squares = updates["update"].astype(float).pow(2)
        changes = updates.groupby(keys)["update"].diff().astype(float).pow(2)
        groups = [updates[key] for key in keys]
        noise = changes.groupby(groups).mean() / (2 * squares.groupby(groups).mean())
        return noise.groupby("instance").mean()


@dataclass(frozen=True)
class StepLike:
    """The share of responses, one a coordinate and step, that are step-like.

    These have more than half of their range within the central tenth of the gradients.
    """

    name: str = field(default="share of step-like responses", init=False)

    def of(self, recorded: Recorded, optimizer: str) -> pd.Series:
        responses = _responses(recorded, optimizer)
        if not len(responses):
            return nothing()
        steep = pd.Series(_steepness(responses) > STEEP, index=responses.index)
        return steep.groupby("instance").mean()


# From products of two optimizers' responses, a row a response and a column a gradient, to how far
# each response is opposite.
WAYS: Mapping[str, Callable[[pd.DataFrame], pd.Series]] = {
    "share of responses opposite": lambda products: products.sum(axis=1) < 0,
    "share of responses mostly opposite": lambda products: (products < 0).mean(axis=1) > 0.5,
    "share of points opposite": lambda products: (products < 0).mean(axis=1),
}


@dataclass(frozen=True)
class Opposite:
    """The share of what is opposite to the responses of `than`, in one of several `WAYS`.

    These are responses whose product with the other's sums up to less than 0, responses of the
    other sign at most gradients, and points of all responses that have the other sign.
    """

    than: str
    way: str

    @property
    def name(self) -> str:
        return f"{self.way} to {self.than}"

    def of(self, recorded: Recorded, optimizer: str) -> pd.Series:
        ours, theirs = (_responses(recorded, name) for name in (optimizer, self.than))
        products = ours * theirs.reindex(ours.index, columns=ours.columns)
        return WAYS[self.way](products).groupby("instance").mean()


def _own(table: pd.DataFrame, optimizer: str) -> pd.DataFrame:
    return table[table["optimizer"] == optimizer]


def _effects(recorded: Recorded, optimizer: str) -> pd.DataFrame:
    """Effects of a gradient's sign, averaged over coordinates: instances by lags."""
    own = _own(recorded.traces.impulses, optimizer).astype({"effect": float})
    return own.groupby(["instance", "lag"])["effect"].mean().unstack("lag")


def _responses(recorded: Recorded, optimizer: str) -> pd.DataFrame:
    """One response a row, by (instance, coordinate, step), gradients ascending."""
    own = _own(recorded.traces.responses, optimizer)
    keys = ["instance", "coordinate", "step"]
    # The k-th gradient of one response stands at the same share of its span as that of any other.
    ordered = own.sort_values([*keys, "gradient"], kind="stable")
    place = ordered.groupby(keys).cumcount().rename("place")
    return ordered.set_index([*keys, place])["update"].astype(float).unstack("place")


def _steepness(responses: pd.DataFrame) -> Floats:
    """The part of each response's range that lies within the central tenth of the gradients."""
    values = responses.to_numpy()
    central = np.abs(np.linspace(-1, 1, values.shape[1])) <= CENTRE + 1e-9
    spans, inner = np.ptp(values, axis=1), np.ptp(values[:, central], axis=1)
    return np.asarray(np.divide(inner, spans, out=np.zeros_like(spans), where=spans > 0))
