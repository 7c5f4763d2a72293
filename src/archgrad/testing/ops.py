"""The contract of a candidate operation: ``op(c_in, c_out, stride, affine=True) -> nn.Module``.

B C H W throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from archgrad.testing.law import require, require_identical

SHAPE = "an operation maps [B, c_in, H, W] to [B, c_out, ⌈H/stride⌉, ⌈W/stride⌉]"
FINITE = "an operation's output and gradients are finite"
INPUT = "an operation leaves its input as it was"
AFFINE = "without affine no BatchNorm has scale or shift"


def check_operation(
    op: Callable[..., nn.Module],
    *,
    channels: Sequence[tuple[int, int]] = ((4, 4), (4, 6), (6, 4)),
    sizes: Sequence[tuple[int, int]] = ((8, 8), (7, 7), (8, 5), (3, 4)),
    strides: Sequence[int] = (1, 2),
    seed: int = 0,
) -> None:
    """Check an operation for every combination of (c_in, c_out), (H, W), stride, affine and mode.

    An operation whose output does not depend on its input or parameters (`none`) has no gradient; that
    is no breach.

    Raises:
        BrokenLaw: with the law's name, the combination and the numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    for c_in, c_out in channels:
        for stride in strides:
            for affine in (True, False):
                module = op(c_in, c_out, stride, affine)
                place = f"c_in={c_in}, c_out={c_out}, stride={stride}, affine={affine}"
                _check_affine(module, affine, place)
                for height, width in sizes:
                    for training in (True, False):
                        x = torch.randn(2, c_in, height, width, generator=generator)
                        where = f"{place}, {height}×{width}, {'training' if training else 'evaluation'}"
                        _check_pass(module.train(training), x, c_out, stride, where)


def _check_affine(module: nn.Module, affine: bool, where: str) -> None:
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    wrong = sum(m.affine != affine for m in norms)
    require(wrong == 0, AFFINE, f"{where}: {wrong} of {len(norms)} BatchNorms have affine={not affine}")


def _check_pass(module: nn.Module, x: torch.Tensor, c_out: int, stride: int, where: str) -> None:
    """One forward and backward pass."""
    batch, _, height, width = x.shape
    before = x.clone()
    leaf = x.requires_grad_()
    # multiplied by one, as an in-place operation may not touch a leaf but would touch this
    inner = leaf * 1.0
    output = module(inner)
    wanted = (batch, c_out, -(-height // stride), -(-width // stride))
    require(tuple(output.shape) == wanted, SHAPE, f"{where}: got {tuple(output.shape)}, wanted {wanted}")
    require_identical(INPUT, inner.detach(), before, where)
    require(bool(output.isfinite().all()), FINITE, f"{where}: the output has non-finite numbers")
    if not output.requires_grad:
        return
    leaves = [leaf, *module.parameters()]
    found = torch.autograd.grad(output.square().sum(), leaves, allow_unused=True)
    bad = sum(g is not None and not bool(g.isfinite().all()) for g in found)
    require(bad == 0, FINITE, f"{where}: {bad} of {len(leaves)} gradients have non-finite numbers")
