"""SNAS' own cost of an edge: parameters, FLOPs and memory accesses, in the weights of its authors.

Xie et al. 2019, SNAS (arXiv 1812.09926), section 3.3; formulas as in the authors' code. Per candidate, H_out
being the side of its output:

- size: weights of its convolutions, and nothing else.
- FLOPs: size·H_out² (one a multiply-add), of a pooling k²·C·H_out².
- MAC, memory accesses: Σ over its convolutions and poolings of H_out²·(s²·C_in + C_out), s being the stride,
  plus size; of an identity 2·C·H².
- linear: (2·size + FLOPs/4000 + MAC/100)·0.43. Logarithmic: (ln size + ln FLOPs + ln MAC)/3, where a number
  below 1 counts as 1. Of `none` both are 0.

An edge that several cells share costs the mean over its places. (The authors divide by 6 normal and 2
reduction cells, whatever the network; for their 8 cells that is the same.) Everything outside the edges
costs nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from archgrad.choice import Choice, Supernet, supernet
from archgrad.costs.cost_table import CostTable
from archgrad.costs.counting import Call, DryRun, TabledCost, dry_run, own_parameters
from archgrad.errors import UserError

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_POOLINGS = (nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SnasCounts(NamedTuple):
    """size, FLOPs and MAC of a candidate in one place, and module types that the formulas do not know."""

    size: float
    flops: float
    mac: float
    uncounted: frozenset[str] = frozenset()

    @property
    def linear(self) -> float:
        """(2·size + FLOPs/4000 + MAC/100)·0.43."""
        return (2 * self.size + self.flops / 4000 + self.mac / 100) * 0.43

    @property
    def log(self) -> float:
        """(ln size + ln FLOPs + ln MAC)/3, numbers below 1 counting as 1."""
        return sum(math.log(max(n, 1.0)) for n in (self.size, self.flops, self.mac)) / 3


def snas_counts(candidate: nn.Module, run: DryRun) -> SnasCounts:
    """Count a candidate by what its modules did in a dry run."""
    if isinstance(candidate, nn.Identity):
        return SnasCounts(0, 0, sum(2.0 * call.inputs[0].numel() for call in run.calls.get(candidate, [])))
    size = flops = mac = 0.0
    uncounted = set()
    for module in candidate.modules():
        calls = run.calls.get(module, [])
        if isinstance(module, _CONVOLUTIONS):
            weights, stride = module.weight.numel(), math.prod(module.stride)
            size += weights
            mac += weights + sum(
                _positions(c) * (stride * module.in_channels + module.out_channels) for c in calls
            )
            flops += sum(weights * _positions(c) for c in calls)
        elif isinstance(module, _POOLINGS):
            for call in calls:
                sides = len(call.inputs[0]) - 2
                kernel, stride = _product(module.kernel_size, sides), _product(module.stride, sides)
                channels = call.inputs[0][1]
                flops += kernel * channels * _positions(call)
                mac += (stride + 1) * channels * _positions(call)
        elif own_parameters(module) and not isinstance(module, _NORMS):
            uncounted.add(type(module).__name__)
    return SnasCounts(size, flops, mac, frozenset(uncounted))


def _positions(call: Call) -> int:
    """Pixels of the output."""
    return 0 if call.output is None else math.prod(call.output[2:])


def _product(value: Any, sides: int) -> int:
    return int(math.prod(value)) if isinstance(value, tuple | list) else int(value) ** sides


def snas_table(
    builder: Callable[..., nn.Module],
    shape: tuple[int, ...],
    classes: int,
    settings: Mapping[str, Any],
    form: Literal["linear", "log"],
) -> CostTable:
    """The table of every candidate's cost, mean over the places of its choice.

    Raises:
        UserError: a choice stands inside a candidate of another: the logarithm of what both cost is no sum.
    """
    run = dry_run(lambda: supernet(builder, shape, classes, **settings), shape)
    network = run.network
    assert isinstance(network, Supernet)
    places: dict[str, list[list[float]]] = {}
    uncounted: set[str] = set()
    for choice in network.choices():
        inner = next((m for m in choice.options.modules() if isinstance(m, Choice)), None)
        if inner is not None:
            raise UserError(
                f"choice {inner.name!r} stands inside a candidate of choice {choice.name!r}, and SNAS' cost "
                "is one of edges without choices of their own; use parameters, macs or traffic"
            )
        counts = [snas_counts(option, run) for option in choice.options]
        uncounted = uncounted.union(*(c.uncounted for c in counts))
        row = [c.linear if form == "linear" else c.log for c in counts]
        places.setdefault(choice.name, []).append(row)
    groups = tuple(group for group in network.groups if group.chosen)
    return CostTable(
        name="snas" if form == "linear" else "snas_log",
        unit="SNAS units",
        fixed=0.0,
        choices=groups,
        groups=tuple(
            torch.stack([torch.tensor(places[n], dtype=torch.float64).mean(dim=0) for n in g.names])
            for g in groups
        ),
        uncounted=tuple(sorted(uncounted)),
    )


SNAS = TabledCost("SNAS units", partial(snas_table, form="linear"))
SNAS_LOG = TabledCost("SNAS units", partial(snas_table, form="log"))
