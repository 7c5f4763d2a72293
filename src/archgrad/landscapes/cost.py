"""A true cost of every architecture of a landscape, made differentiable. E choices × K candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from archgrad.architecture import Architecture
from archgrad.errors import UserError
from archgrad.landscapes.landscape import index_in
from archgrad.landscapes.multilinear import MultilinearLandscape
from archgrad.landscapes.nasbench201 import NASBench201, lower_is_better
from archgrad.landscapes.nasbench201 import landscape as nasbench201


@dataclass(frozen=True, eq=False)
class LandscapeCost:
    """The multilinear extension of a table of costs: exact in expectation, whether a sum over choices or not.

    Like a `costs.cost_table.CostTable` it has `expected`, `of` and `bounds`.
    """

    name: str
    unit: str
    table: MultilinearLandscape = field(repr=False)

    def expected(self, weights: Sequence[Tensor]) -> Tensor:
        """Σ_a Π_e z[e, a_e] · c[a] [...] of the one group's weights z [..., E, K]."""
        (z,) = weights
        return self.table.value(z)

    def values(self, index: Tensor) -> Tensor:
        """Costs [...] of architectures [..., E], float64."""
        return self.table.values(index)

    def of(self, architecture: Architecture) -> float:
        """Cost of one architecture."""
        return float(self.table.values(torch.tensor(index_in(self.table, architecture))))

    def bounds(self) -> tuple[float, float]:
        """Costs of the cheapest and of the dearest architecture."""
        return self.table.best, self.table.worst

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation of the cost over all architectures."""
        (group,) = self.table.groups
        values = self.values(all_indices(len(group.names), len(group.candidates)))
        return float(values.mean()), float(values.std(correction=0))


def nasbench201_cost(column: str) -> LandscapeCost:
    """A cost of NAS-Bench-201: ``latency_ms_raspi4`` (ms), ``flops_cifar10``, ``params_cifar10`` ….

    >>> nasbench201_cost("flops_cifar10").bounds()
    (7783050.0, 220119690.0)

    Raises:
        UserError: no such column, or it is an accuracy.
    """
    cube = NASBench201.open().cube(column)
    if not lower_is_better(column):
        raise UserError(f"{column!r} is an accuracy; a budget is about a cost such as latency_ms_1080ti_1")
    unit = {"l": "ms", "f": "MACs", "p": "parameters"}[column[0]]
    return LandscapeCost(
        column, unit, MultilinearLandscape(torch.from_numpy(cube.astype(np.float64)), nasbench201().groups[0])
    )


def all_indices(choices: int, candidates: int, most: int = 1_000_000) -> Tensor:
    """Every architecture as candidate indices [K^E, E].

    Raises:
        UserError: more than `most` of them.
    """
    if choices * math.log(candidates) > math.log(most):
        raise UserError(f"{candidates}^{choices} architectures are too many to go through one by one")
    flat = torch.arange(candidates**choices)
    return torch.stack(torch.unravel_index(flat, (candidates,) * choices), dim=-1)
