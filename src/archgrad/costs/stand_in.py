"""Counting a network of equal blocks fast: each candidate is counted once, and stands for its equals.

A DARTS network of 20 cells has 2,000 modules, and most of the time of a count goes into building them. Its
candidates come from few functions with few arguments. What such a candidate costs for an input of a size is
counted once by a dry run of it alone and kept; in the network a module without content stands in its place.
This is exact, as a candidate's cost follows from the function that builds it, its arguments and the input's
size. It is done for candidates that archgrad's own functions build in archgrad's own spaces; everything else
is counted as it stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from copy import copy
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from archgrad.costs.counting import Count, DryRun, dry_run
from archgrad.costs.macs import count_macs
from archgrad.costs.traffic import count_traffic

Options = TypeVar("Options", bound=Mapping[str, Callable[[], nn.Module]])
_OURS = "archgrad."
_KEPT = 1 << 18  # elements of the zeros that are kept, at most


class Part(NamedTuple):
    """What a candidate does for one image: shape of the output without the batch, and what that costs."""

    output: tuple[int, ...]
    macs: Count
    traffic: Count


class StandIn(nn.Module):
    """In place of a candidate: as many parameters, and an output of the shape that the candidate gives."""

    def __init__(self, build: Recipe, parameters: int):
        super().__init__()
        self.build = build
        self.stored = nn.Parameter(torch.empty(parameters), requires_grad=False)

    def part(self, shape: tuple[int, ...]) -> Part:
        """What it stands for, for an image of `shape`."""
        return _part(self.build, shape)

    def forward(self, x: Tensor) -> Tensor:
        """[B, …] -> zeros [B, …]."""
        shape = (x.shape[0], *self.part(tuple(x.shape[1:])).output)
        return _zeros(shape) if math.prod(shape) < _KEPT else torch.zeros(shape)


class Recipe(NamedTuple):
    """A function and its arguments, all of which can be compared."""

    function: Callable[..., nn.Module]
    arguments: tuple[Hashable, ...]
    named: tuple[tuple[str, Hashable], ...]

    def make(self) -> nn.Module:
        """Build it."""
        return self.function(*self.arguments, **dict(self.named))


def with_stand_in(options: Options, candidate: str | None) -> Options:
    """The options of a choice, with a stand-in for one of the candidates where that can be."""
    if not isinstance(options, dict) or candidate not in options:
        return options
    replaced = copy(options)  # of the same class: some say more than their candidates
    replaced[candidate] = partial(_stand_in, options[candidate])
    return replaced


def is_ours(function: Any) -> bool:
    """Whether a function or class is archgrad's own, also with arguments bound to it."""
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__module__", "")).startswith(_OURS)


def count_calls(stand_in: StandIn, run: DryRun) -> tuple[list[Count], list[Count]]:
    """Multiply-adds and traffic of every call that the network makes in evaluation."""
    parts = [stand_in.part(tuple(call.inputs[0][1:])) for call in run.calls.get(stand_in, [])]
    return [part.macs for part in parts], [part.traffic for part in parts]


def _stand_in(build: Callable[[], nn.Module]) -> nn.Module:
    recipe = _recipe(build)
    parameters = _parameters(recipe) if recipe else 0
    # without parameters there is little to save, and a space may look for them (Identity, Zero)
    return StandIn(recipe, parameters) if recipe and parameters else build()


def _recipe(build: Callable[[], nn.Module]) -> Recipe | None:
    """What `build` does, where that is known: ``partial(function of archgrad, plain values)``."""
    if type(build) is not partial or not is_ours(build.func):
        return None
    named = tuple(build.keywords.items())
    values = (*build.args, *build.keywords.values())
    if not all(isinstance(v, int | float | str | bool | None) and ":" not in str(v) for v in values):
        return None  # a part of the user's own, "module:object", may build what it likes
    return Recipe(build.func, build.args, named)


@lru_cache(maxsize=1024)
def _parameters(recipe: Recipe) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in recipe.make().parameters())


@lru_cache(maxsize=256)
def _zeros(shape: tuple[int, ...]) -> Tensor:
    """Zeros on the CPU that several stand-ins give; kept, as making them takes longer than finding them."""
    return torch.zeros(shape)


@lru_cache(maxsize=4096)
def _part(recipe: Recipe, shape: tuple[int, ...]) -> Part:
    run = dry_run(recipe.make, shape)
    calls = run.calls[run.network]
    if run.training_only or len(calls) != 1 or calls[0].output is None:
        raise RuntimeError("a candidate with an output of several parts, or another one in training")
    modules = list(run.network.modules())
    return Part(tuple(calls[0].output[1:]), count_macs(modules, run), count_traffic(modules, run))
