"""Parameters and multiply-adds of a network before any training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn

from archgrad.architecture import Architecture
from archgrad.choice import concrete
from archgrad.costs.counting import dry_run
from archgrad.costs.macs import count_macs
from archgrad.costs.parameters import count_parameters


class NetworkCounts(NamedTuple):
    """What a network costs.

    parameters: all of them, as in training.
    parameters_without_auxiliary: those that evaluation uses; the number that papers print.
    macs: multiply-adds of one image in evaluation (see `macs`).
    uncounted: what the multiply-adds leave out.
    """

    parameters: int
    parameters_without_auxiliary: int
    macs: int
    uncounted: tuple[str, ...]


def count_module(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> NetworkCounts:
    """Count the network that `build` makes, for one image of `shape` (C, H, W)."""
    run = dry_run(build, shape)
    modules = list(run.network.modules())
    macs = count_macs(modules, run)
    return NetworkCounts(
        parameters=sum(p.numel() for p in run.network.parameters()),
        parameters_without_auxiliary=round(count_parameters(modules, run).value),
        macs=round(macs.value),
        uncounted=macs.uncounted,
    )


def count_network(
    builder: Callable[..., nn.Module],
    architecture: Architecture,
    shape: tuple[int, ...],
    classes: int,
    settings: Mapping[str, Any] | None = None,
) -> NetworkCounts:
    """Count the concrete network of an architecture, for one image of `shape` (C, H, W).

    Operations are billed as built: NAS-Bench-201 cells that are equal as functions, because a node
    leads nowhere, can differ in cost.

    Raises:
        UserError: the architecture does not fit the space (see `choice.concrete`).
    """
    return count_module(lambda: concrete(builder, architecture, shape, classes, **(settings or {})), shape)
