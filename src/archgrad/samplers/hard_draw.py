"""Hard samples: one candidate of each choice, with a gradient in closed form as one autograd node.

Both are for speed: on the smallest networks a draw of a dozen small operations, and as many backward, was
3 % of a search step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from archgrad.choice import Sample

PullBack = Callable[[Tensor, Tensor], Tensor]
"""``pull_back(alpha, v)``: dL/dα [..., E, K] for v = dL/dz [..., E, K], both in at least float32. Made of
differentiable operations, as a second derivative goes through it: by v and, where α is not held, by α."""


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, drawn: Tensor, pull_back: PullBack) -> Tensor:
        ctx.save_for_backward(logits)
        ctx.pull_back = pull_back
        return drawn

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None, None]:
        (logits,) = ctx.saved_tensors
        pulled: Tensor = ctx.pull_back(at_least_float32(logits), at_least_float32(gradient[0]))
        return pulled if pulled.dtype == logits.dtype else pulled.to(logits.dtype), None, None


def hard_draw(logits: Tensor, index: Tensor, pull_back: PullBack | None = None) -> Sample:
    """The sample with the candidates index [..., E, 1] of logits [..., E, K]; weights are exactly one-hot.

    pull_back: None where a draw has no gradient.
    Nothing of `pull_back` is computed before a gradient is asked for: the steps on a supernet's weights
    need none. It is called once for every backward pass, so what is random in it has to be drawn before.
    """
    weights = torch.zeros_like(logits, requires_grad=False).scatter_(-1, index, 1.0)
    if pull_back is not None and logits.requires_grad and torch.is_grad_enabled():
        weights = _Gate.apply(logits, weights, pull_back)  # type: ignore[no-untyped-call]
    active = tuple(map(tuple, index.tolist())) if logits.dim() == 2 else None  # one transfer to the host
    return Sample(weights, active, one_hot=True)


def softmax_pull_back(at: Tensor, v: Tensor) -> Tensor:
    """(diag(p) − p pᵀ)·v [..., K] with p = `at` [..., K]: v = dL/dp pulled back through a softmax.

    p need not be the softmax of the logits that are differentiated: to move those to where it is (through
    log p) would lose the digits of p where logits are large, and log 0 where p is zero.
    """
    weighted = at * v
    return torch.addcmul(weighted, at, weighted.sum(dim=-1, keepdim=True), value=-1)


def at_least_float32(x: Tensor) -> Tensor:
    """x itself, or widened where it is of a lower precision."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
