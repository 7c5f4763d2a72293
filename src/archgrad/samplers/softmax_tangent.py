"""The derivative of the softmax at a chosen point, as a tensor to add to a hard sample."""

from __future__ import annotations

from torch import Tensor


def softmax_tangent(logits: Tensor, at: Tensor) -> Tensor:
    """Exactly zero [..., K]; its derivative by the logits is diag(p) − p pᵀ with p = `at` [..., K].

    Written out because p need not be the softmax of the logits: to move the logits to where it is
    (through log p) would lose the digits of p where logits are large, and log 0 where p is zero.
    `at` carries no gradient, so a second derivative is not that of the softmax.
    """
    zero = logits - logits.detach()
    return at * (zero - (at * zero).sum(dim=-1, keepdim=True))
