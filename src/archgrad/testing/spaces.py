"""The contract of a space: its supernet at one-hot weights is the concrete network.

B C H W throughout; E choices × K candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from archgrad.architecture import Architecture
from archgrad.architecture_warnings import NONE
from archgrad.choice import Group, Sample, Supernet, concrete, supernet
from archgrad.errors import UserError
from archgrad.inheritance import inherit, inherited, leading
from archgrad.randomness import seeded_modules
from archgrad.spaces.space import Shape, as_space
from archgrad.testing.law import BrokenLaw, require, require_close

NAMES = "choice names, their candidates and their order are the same at every building"
PARAMETERS = "the concrete network has exactly the parameters of the supernet's chosen candidates"
ONE_HOT = "the supernet at one-hot weights equals the concrete network with the same parameters"
WEIGHT_GRADIENT = "the supernet at one-hot weights has the concrete network's weight gradients"
INACTIVE = "candidates that are not active are not needed: running all of them gives the same output"
BUILDS = "every architecture builds, in search and in training settings, and gives [B, classes]"


def random_architecture(groups: Sequence[Group], generator: torch.Generator) -> Architecture:
    """An architecture drawn uniformly; a choice that may be dropped is, as often as it has any candidate."""
    chosen: dict[str, str] = {}
    for group in groups:
        candidates = _candidates(group)
        index = torch.randint(len(candidates), (len(group.names),), generator=generator)
        if group.chosen:
            chosen |= {n: candidates[k] for n, k in zip(group.names, index.tolist(), strict=True)}
    return Architecture(chosen)


def _candidates(group: Group) -> tuple[str, ...]:
    """What an architecture may say of the group's choices."""
    return (*group.candidates, NONE) if group.kind == "droppable" else group.candidates


def check_space(
    space: object,
    shape: Shape,
    classes: int,
    *,
    search: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    architectures: int = 3,
    batch: int = 3,
    tolerance: float = 1e-10,
    seed: int = 0,
) -> None:
    """Check a space's laws, in float64, in training and in evaluation mode.

    Besides `architectures` random ones, those made of one candidate throughout are checked, so every
    candidate stands at every choice once.

    Args:
        space: a `Space` or a builder ``(pick, shape, classes, **settings)``.
        shape: (C, H, W) of an image.
        classes: number of classes.
        search: settings of the supernet; by default the space's own, which may be large.
        train: settings of the final network; likewise.
        architectures: number of random architectures.
        batch: images in a batch; BatchNorm needs at least two.
        tolerance: largest difference, relative to the largest number where that exceeds 1.
        seed: seed of parameters, images and architectures.

    Raises:
        BrokenLaw: with the law's name and the numbers.
    """
    part = as_space(space)
    search = part.search if search is None else search
    train = part.train if train is None else train
    generator = torch.Generator().manual_seed(seed)
    with seeded_modules(seed):
        network = supernet(part.builder, shape, classes, **search).double()
        again = supernet(part.builder, shape, classes, **search)
    require(network.groups == again.groups, NAMES, f"first {network.groups}, then {again.groups}")
    for architecture in [
        *uniform_architectures(network.groups),
        *(random_architecture(network.groups, generator) for _ in range(architectures)),
    ]:
        _check_builds(part.builder, architecture, shape, classes, train, batch)
        target = _build(part.builder, architecture, shape, classes, search).double()
        for training in (True, False):
            x = torch.randn(batch, *shape, generator=generator, dtype=torch.float64)
            network.train(training)
            target.train(training)
            try:
                inherit(network, target, architecture)
            except UserError as error:
                raise BrokenLaw(PARAMETERS, f"{architecture}: {error}") from None
            mode = "training" if training else "evaluation"
            _check_equal(network, target, architecture, x, tolerance, f"{mode} mode, {architecture}")


def uniform_architectures(groups: Sequence[Group]) -> list[Architecture]:
    """For each k the architecture with candidate k (of K, cyclically) at every choice."""
    chosen = [(group, _candidates(group)) for group in groups if group.chosen]
    return [
        Architecture({n: candidates[k % len(candidates)] for g, candidates in chosen for n in g.names})
        for k in range(max(len(candidates) for _, candidates in chosen))
    ]


def _build(
    builder: Any, architecture: Architecture, shape: Shape, classes: int, settings: Mapping[str, Any]
) -> nn.Module:
    try:
        with seeded_modules(0):
            return concrete(builder, architecture, shape, classes, **settings)
    except Exception as error:
        raise BrokenLaw(
            BUILDS, f"{architecture} with {dict(settings)}: {type(error).__name__}: {error}"
        ) from error


def _check_builds(
    builder: Any,
    architecture: Architecture,
    shape: Shape,
    classes: int,
    settings: Mapping[str, Any],
    batch: int,
) -> None:
    """Build in training settings and run once."""
    built = _build(builder, architecture, shape, classes, settings).eval()
    with torch.no_grad():
        found = tuple(built(torch.zeros(batch, *shape)).shape)
    require(found == (batch, classes), BUILDS, f"{architecture}: output {found}, wanted {(batch, classes)}")


def _check_equal(
    network: Supernet,
    target: nn.Module,
    architecture: Architecture,
    x: Tensor,
    tolerance: float,
    where: str,
) -> None:
    samples = network.one_hot(architecture)
    ours, theirs = _outputs(network(x, samples)), _outputs(target(x))
    require(len(ours) == len(theirs), ONE_HOT, f"{where}: {len(ours)} outputs, {len(theirs)} outputs")
    for got, wanted in zip(ours, theirs, strict=True):
        require_close(ONE_HOT, got, wanted, tolerance, where)
    _check_weight_gradients(network, target, architecture, ours, theirs, tolerance, where)
    for got, wanted in zip(
        _outputs(network(x, [Sample(s.weights) for s in samples])), ours, strict=True
    ):  # every candidate runs
        require_close(INACTIVE, got, wanted, tolerance, where)


def _outputs(output: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A network's output, and its auxiliary one where there is one."""
    return (output,) if isinstance(output, Tensor) else output


def _check_weight_gradients(
    network: Supernet,
    target: nn.Module,
    architecture: Architecture,
    ours: Sequence[Tensor],
    theirs: Sequence[Tensor],
    tolerance: float,
    where: str,
) -> None:
    """Gradients of Σ output², those of the supernet looked up by the concrete network's paths."""
    named = dict(network.network.named_parameters(remove_duplicate=False))
    by_path = inherited(
        network, architecture, dict(zip(named, _gradients(ours, list(named.values())), strict=True))
    )
    parameters = dict(target.named_parameters(remove_duplicate=False))
    for path, wanted in zip(parameters, _gradients(theirs, list(parameters.values())), strict=True):
        found = leading(by_path[path], wanted)
        require_close(WEIGHT_GRADIENT, found, wanted, tolerance, f"{path}, {where}")
        rest = by_path[path].abs().sum() - found.abs().sum()  # of channels that a narrower layer has not
        require_close(WEIGHT_GRADIENT, rest, torch.zeros_like(rest), tolerance, f"masked {path}, {where}")


def _gradients(outputs: Sequence[Tensor], leaves: Sequence[Tensor]) -> list[Tensor]:
    total = torch.stack([output.square().sum() for output in outputs]).sum()
    return list(torch.autograd.grad(total, list(leaves), allow_unused=True, materialize_grads=True))
