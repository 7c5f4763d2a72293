"""The contract of a landscape: ``value(z [..., E, K]) -> [...]``, a loss for every architecture.

E choices × K candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from archgrad.landscapes.landscape import Landscape
from archgrad.testing.law import require, require_close, require_identical

FORM = "value maps weights [..., E, K] to [...], in their precision, and leaves them as they are"
LOOK_UP = "value at one-hot weights is the loss of that architecture"
LINEAR = "value is linear in each row of the weights"
GRADIENT = "the gradient equals finite differences"
OPTIMUM = "no architecture is better than the optimum, nor than best, nor worse than worst"
BATCH = "members of a batch do not touch each other"
TRUTH = "the truth has the same choices and is its own truth"

_ENUMERATED = 20_000  # as many architectures are looked at one by one
_DRAWN = 2_000  # of more, this many


def check_landscape(landscape: Landscape, *, seed: int = 0) -> None:
    """Check a landscape's laws, in float64; its form in float32 too.

    Up to 20,000 architectures are all looked at; of more, 2,000 drawn ones and the optimum.

    Args:
        landscape: the part.
        seed: seed of all points.

    Raises:
        BrokenLaw: with the law's name and the numbers.
    """
    (group,) = landscape.groups
    choices, candidates = len(group.names), len(group.candidates)
    generator = torch.Generator().manual_seed(seed)
    index = _architectures(choices, candidates, generator)
    scale = max(abs(landscape.best), abs(landscape.worst), 1e-12)
    z = torch.softmax(torch.randn(3, 2, choices, candidates, generator=generator, dtype=torch.float64), -1)
    _check_form(landscape, z)
    _check_look_up(landscape, index, scale)
    _check_optimum(landscape, index, scale)
    _check_linear(landscape, z, generator, scale)
    _check_gradient(landscape, z, scale)
    _check_batch(landscape, z, scale)
    truth = landscape.truth
    require(truth.groups == landscape.groups, TRUTH, f"truth {truth.groups}, landscape {landscape.groups}")
    require(truth.truth is truth, TRUTH, "the truth has a truth of its own")


def _architectures(choices: int, candidates: int, generator: torch.Generator) -> Tensor:
    """[N, E]."""
    if candidates**choices <= _ENUMERATED:
        flat = torch.arange(candidates**choices)
        return torch.stack(torch.unravel_index(flat, (candidates,) * choices), dim=-1)
    return torch.randint(candidates, (_DRAWN, choices), generator=generator)


def _check_form(landscape: Landscape, z: Tensor) -> None:
    for dtype in (torch.float64, torch.float32):
        for point in (z, z[0], z[0, 0]):
            given = point.to(dtype).clone()
            before = given.clone()
            found = landscape.value(given)
            where = f"weights {list(given.shape)} {dtype}"
            require(
                found.shape == given.shape[:-2] and found.dtype == dtype,
                FORM,
                f"{where}: value {list(found.shape)} {found.dtype}",
            )
            require_identical(FORM, given, before, f"{where}: the weights")


def _check_look_up(landscape: Landscape, index: Tensor, scale: float) -> None:
    (group,) = landscape.groups
    losses = landscape.values(index)
    one_hot = torch.nn.functional.one_hot(index, len(group.candidates)).double()
    require_close(LOOK_UP, landscape.value(one_hot) / scale, losses / scale, 1e-9, f"{len(index)} losses")


def _check_optimum(landscape: Landscape, index: Tensor, scale: float) -> None:
    losses, slack = landscape.values(index), 1e-9 * scale
    at_optimum = float(landscape.values(torch.tensor(landscape.optimum)))
    best, worst = landscape.best, landscape.worst
    require(abs(at_optimum - best) <= slack, OPTIMUM, f"loss {at_optimum} at the optimum, best is {best}")
    least, most = int(losses.argmin()), int(losses.argmax())
    for k, holds in ((least, losses[least] >= best - slack), (most, losses[most] <= worst + slack)):
        detail = f"{index[k].tolist()} has the loss {float(losses[k])}, best is {best} and worst {worst}"
        require(bool(holds), OPTIMUM, detail)


def _check_linear(landscape: Landscape, z: Tensor, generator: torch.Generator, scale: float) -> None:
    """f(…, x + t·y, …) = f(…, x, …) + t·f(…, y, …) for rows of any sign and sum."""
    for e in range(z.shape[-2]):
        x, y = torch.randn(2, *z.shape[:-2], z.shape[-1], generator=generator, dtype=torch.float64)
        with_x, with_y, mixed = z.clone(), z.clone(), z.clone()
        with_x[..., e, :], with_y[..., e, :], mixed[..., e, :] = x, y, x - 2 * y
        wanted = landscape.value(with_x) - 2 * landscape.value(with_y)
        require_close(LINEAR, landscape.value(mixed) / scale, wanted / scale, 1e-9, f"choice {e}")


def _check_gradient(landscape: Landscape, z: Tensor, scale: float) -> None:
    """Central differences; of a function linear in each row they are exact, so the step may be large."""
    point = z[0, 0].clone().requires_grad_()
    (found,) = torch.autograd.grad(landscape.value(point), point)
    steps = 1e-3 * torch.eye(point.numel(), dtype=z.dtype).reshape(-1, *point.shape)
    up, down = landscape.value(z[0, 0] + steps), landscape.value(z[0, 0] - steps)
    wanted = ((up - down) / 2e-3).reshape(point.shape)
    require_close(GRADIENT, found / scale, wanted / scale, 1e-8, "at one point")


def _check_batch(landscape: Landscape, z: Tensor, scale: float) -> None:
    flat = z.flatten(0, 1)
    single = torch.stack([landscape.value(point) for point in flat]).reshape(z.shape[:-2])
    require_close(BATCH, landscape.value(z) / scale, single / scale, 1e-12, "values one by one")
    point = flat.clone().requires_grad_()
    (found,) = torch.autograd.grad(landscape.value(point)[0], point)
    require(not bool(found[1:].any()), BATCH, "the first value has a gradient to the others' weights")
