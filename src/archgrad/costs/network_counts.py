"""Parameters, multiply-adds and memory traffic of a network before any training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn

from archgrad.architecture import Architecture
from archgrad.choice import Pick, concrete
from archgrad.costs.counting import DryRun, dry_run, light_run, own_parameters
from archgrad.costs.live import LiveCounts, count_live
from archgrad.costs.macs import count_macs
from archgrad.costs.parameters import count_parameters
from archgrad.costs.stand_in import StandIn, count_calls, is_ours, with_stand_in
from archgrad.costs.traffic import count_traffic


class NetworkCounts(NamedTuple):
    """What a network costs.

    parameters: all of them, as in training.
    parameters_without_auxiliary: those that evaluation uses; the number that papers print.
    macs: multiply-adds of one image in evaluation (see `macs`).
    uncounted: what the multiply-adds leave out.
    traffic: bytes that the layers move for one image in evaluation (see `traffic`).
    live: the same of what matters for the output (see `live`), where that was asked for. Papers print the
        counts as built, those above.
    """

    parameters: int
    parameters_without_auxiliary: int
    macs: int
    uncounted: tuple[str, ...]
    traffic: int
    live: LiveCounts | None = None


def count_module(
    build: Callable[[], nn.Module], shape: tuple[int, ...], *, live: bool = False
) -> NetworkCounts:
    """Count the network that `build` makes, for one image of `shape` (C, H, W); live: also what matters."""
    return _counts(dry_run(build, shape))._replace(live=count_live(build, shape) if live else None)


def count_network(
    builder: Callable[..., nn.Module],
    architecture: Architecture,
    shape: tuple[int, ...],
    classes: int,
    settings: Mapping[str, Any] | None = None,
    *,
    live: bool = False,
) -> NetworkCounts:
    """Count the concrete network of an architecture, for one image of `shape` (C, H, W).

    Operations are billed as built: NAS-Bench-201 cells that are equal as functions, because a node
    leads nowhere, can differ in cost; what `live` asks for is equal. Of archgrad's own spaces equal
    candidates are counted once (see `stand_in`), which is as exact and several times as fast.

    Raises:
        UserError: the architecture does not fit the space (see `choice.concrete`).
    """

    def lighter(pick: Pick, *arguments: Any, **named: Any) -> nn.Module:
        def picks(name: str, options: Mapping[str, Callable[[], nn.Module]]) -> nn.Module:
            return pick(name, with_stand_in(options, architecture.get(name)))

        return builder(picks, *arguments, **named)

    def build(space: Callable[..., nn.Module]) -> nn.Module:
        return concrete(space, architecture, shape, classes, **(settings or {}))

    if is_ours(builder):
        try:
            counts = _counts(light_run(lambda: build(lighter), shape))
            return counts._replace(live=count_live(lambda: build(builder), shape) if live else None)
        except (RuntimeError, TypeError):
            pass  # layers that stand-ins do not know; a fault comes again, with its own message
    return count_module(lambda: build(builder), shape, live=live)


def _counts(run: DryRun) -> NetworkCounts:
    modules = list(run.network.modules())
    built = [module for module in modules if not isinstance(module, StandIn)]
    macs, traffic = [count_macs(built, run)], [count_traffic(built, run)]
    for module in modules:
        if isinstance(module, StandIn):
            more = count_calls(module, run)
            macs += more[0]
            traffic += more[1]
    return NetworkCounts(
        parameters=sum({id(p): p.numel() for module in modules for p in own_parameters(module)}.values()),
        parameters_without_auxiliary=round(count_parameters(modules, run).value),
        macs=round(sum(count.value for count in macs)),
        uncounted=tuple(sorted({name for count in macs for name in count.uncounted})),
        traffic=round(sum(count.value for count in traffic)),
    )
