"""Learned optimizers side by side, one for each group of parameters (section 3.3)."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from l2l import Params, ParamSpec, Rng, register_optimizer
from l2l.optimizers.layout import Layout
from l2l.optimizers.learned.base import Learned
from l2l.optimizers.learned.lstm import LSTM
from l2l.suite.core.abilities import has
from l2l.suite.core.nearest import nearest
from l2l.suite.core.registry import optimizers


@dataclass(frozen=True)
class RoutedLayout(Layout):
    """The layouts of several networks, one after the other, names prefixed by the group's."""

    layouts: Mapping[str, Layout]

    def parameters(self) -> dict[str, torch.Size]:
        return {
            f"{group}.{name}": shape
            for group, layout in self.layouts.items()
            for name, shape in layout.parameters().items()
        }


class Route(NamedTuple):
    """Which of an instance's parameters [P_group] a network moves, and its state."""

    places: Tensor
    state: Any


@register_optimizer("routed")
@dataclass(frozen=True)
class Routed(Learned):
    """A network with weights of its own for each group that `Problem.group` puts parameters in.

    `groups` gives each group's optimizer, such as ``{conv: {name: lstm}, fc: {name: lstm}}``. φ is
    their weights, one after the other, groups sorted by name.
    """

    coordinatewise: ClassVar[bool] = True
    fused: ClassVar[bool] = True

    groups: dict[str, dict[str, Any]] = field(default_factory=lambda: {"all": {"name": "lstm"}})

    def __post_init__(self) -> None:
        if not self.groups:
            raise ValueError("groups must name at least one group")
        for group, network in self._untrained.items():
            if not isinstance(network, LSTM):
                name = self.groups[group]["name"]
                raise ValueError(f"the optimizer of group {group!r} must be an lstm, not {name!r}")

    @functools.cached_property
    def _untrained(self) -> dict[str, Any]:
        # Sorted, so that φ does not depend on the order in a file.
        return {group: optimizers.make(self.groups[group], group) for group in sorted(self.groups)}

    @functools.cached_property
    def layout(self) -> RoutedLayout:
        """Names and shapes of the parts of φ, such as ``conv.output.bias``."""
        return RoutedLayout({group: each.layout for group, each in self._untrained.items()})

    def initial_weights(self, rng: Rng) -> Tensor:
        return torch.cat([each.initial_weights(rng) for each in self._untrained.values()])

    def odd_part(self, vector: Tensor) -> Tensor:
        parts = zip(self._untrained.values(), self._split(vector), strict=True)
        return torch.cat([network.odd_part(part) for network, part in parts])

    def init(self, spec: ParamSpec, n: int) -> tuple[Route, ...]:
        """The state before the first step.

        Raises:
            ValueError: the problem's groups are not those of this optimizer.
        """
        names = dict.fromkeys(spec.groups[name] for name in spec.shapes)
        for group in names:
            if group not in self.groups:
                hint = nearest(group, self.groups)
                raise ValueError(f"the problem has a group {group!r}, 'groups' has not: {hint}")
        for group in self.groups:
            if group not in names:
                hint = nearest(group, names)
                raise ValueError(f"'groups' has a group {group!r}, the problem has not: {hint}")
        offsets = spec.unflatten(torch.arange(spec.size, device="cpu"))
        routes = []
        for group, network in zip(self._untrained, self._networks, strict=True):
            own = _of_group(spec, group)
            places = torch.cat([offsets[name].flatten() for name in own.shapes])
            places = places.to(self.phi.device)
            routes.append(Route(places, network.init(own, n)))
        return tuple(routes)

    def with_weights(self, weights: Tensor) -> Self:
        # Each step of a window has weights of its own: the groups are not made again.
        changed = copy.copy(self)
        changed.__dict__.pop("_networks", None)
        object.__setattr__(changed, "weights", weights)
        return changed

    @property
    def ignores_params(self) -> bool:  # type: ignore[override]
        """Whether no network reads them."""
        return all(has(network, "ignores_params") for network in self._untrained.values())

    def update(
        self, grads: Tensor, state: tuple[Route, ...], params: Params
    ) -> tuple[Tensor, tuple[Route, ...]]:
        updates = torch.zeros_like(grads)
        following = []
        for network, group, route in zip(self._networks, sorted(self.groups), state, strict=True):
            given = (grads.index_select(-1, route.places), route.state)
            part, own = network.update(*given, self._part(params, group, route.places))
            updates = updates.index_copy(-1, route.places, part)
            following.append(Route(route.places, own))
        return updates, tuple(following)

    def networks(
        self,
        grads: Tensor,
        state: tuple[Route, ...],
        cotangents: Tensor,
        params: Params | None = None,
    ) -> list[tuple[Learned, Tensor, Any, Tensor, Params | None]]:
        if not has(self, "fused"):
            return super().networks(grads, state, cotangents, params)
        return [
            (
                network,
                grads.index_select(-1, route.places),
                route.state,
                cotangents.index_select(-1, route.places),
                params and self._part(params, group, route.places),
            )
            for network, group, route in zip(
                self._networks, sorted(self.groups), state, strict=True
            )
        ]

    def _part(self, params: Params, group: str, places: Tensor) -> Params:
        """The parameters of a group; as they are if nobody reads them."""
        if self.ignores_params:
            return params
        return Params(params.theta.index_select(-1, places), _of_group(params.spec, group))

    @functools.cached_property
    def _networks(self) -> list[Any]:
        parts = zip(self._untrained.values(), self._split(self.phi), strict=True)
        return [network.with_weights(part) for network, part in parts]

    def _split(self, vector: Tensor) -> tuple[Tensor, ...]:
        return torch.split(vector, [each.size for each in self.layout.layouts.values()])


def _of_group(spec: ParamSpec, group: str) -> ParamSpec:
    """The parameters of one group, in their order."""
    names = [name for name in spec.shapes if spec.groups[name] == group]
    return ParamSpec({name: spec.shapes[name] for name in names})
