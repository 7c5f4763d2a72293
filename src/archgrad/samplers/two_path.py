"""Two paths: the sampler of ProxylessNAS. Two candidates of each choice are compared at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.samplers.gumbel_noise import gumbel_perturbed
from archgrad.samplers.hard_draw import at_least_float32, hard_draw, softmax_pull_back


@dataclass(frozen=True)
class TwoPath:
    """A pair is drawn without replacement from p = softmax(α), one of it by q = p renormalised over the pair.

    The chosen one has weight exactly 1, the other runs with weight 0, as the gradient of its gate g is
    needed; backward, over the pair alone,

        dL/dα_i = Σ_j (dL/dg_j)·q_j·(δ_ij − q_i).

    Where the logits need no gradient (a step on the weights) the chosen candidate runs alone, from the
    same draw. The chosen candidate does not follow p for K > 2, as the pair has another second member:
    `probabilities` is the law that it does follow, of the same order as p. The pair is the two largest
    of α + G.

    After an optimizer's step the published procedure moves the logits once more: `after_step`.

    Source: Cai et al. 2019, ProxylessNAS (arXiv 1812.00332), section 3.2 and eq. 4; Kool et al. 2019
    (arXiv 1903.06059) for the pair; docs/gradients.md, eq. (30)-(31).
    """

    uses_temperature: ClassVar[bool] = False
    one_active: ClassVar[bool] = False
    log_prob_uses_temperature: ClassVar[bool] = False
    needs_plain_steps: ClassVar[bool] = True

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        """Weights [..., E, K], exactly one-hot; two candidates run, the first active one being the chosen."""
        pair = gumbel_perturbed(logits, generator).topk(min(2, logits.shape[-1]), dim=-1).indices
        of_pair = at_least_float32(logits.detach()).gather(-1, pair)
        place = gumbel_perturbed(of_pair, generator).argmax(dim=-1, keepdim=True)
        chosen = pair.gather(-1, place)

        def pull_back(alpha: Tensor, v: Tensor) -> Tensor:
            q = torch.softmax(of_pair, dim=-1)  # held: a second derivative is not that of the softmax
            return torch.zeros_like(v).scatter(-1, pair, softmax_pull_back(q, v.gather(-1, pair)))

        sample = hard_draw(logits, chosen, pull_back)._replace(one_hot=False)
        if not logits.requires_grad or pair.shape[-1] == 1:
            return sample
        if sample.active is None:
            return sample._replace(ran=torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, pair, True))
        both = zip(sample.active, pair.tolist(), strict=True)
        return sample._replace(active=tuple((k, i + j - k) for (k,), (i, j) in both))

    def probabilities(self, logits: Tensor) -> Tensor:
        """P(k is chosen) [..., E, K]: the sum over the pairs that k may be in; softmax(α) for K ≤ 2."""
        return _chosen_log_probabilities(logits).exp().to(logits.dtype)

    def log_prob(self, logits: Tensor, tau: float, weights: Tensor) -> Tensor:
        """log P(k is chosen) [..., E] of one-hot weights [..., E, K], which are held; at least float32."""
        index = weights.detach().argmax(dim=-1, keepdim=True)
        return _chosen_log_probabilities(logits).gather(-1, index).squeeze(-1)

    def after_step(self, before: Tensor, after: Tensor) -> Tensor:
        """Logits [..., E, K] after a step, those that moved shifted so that they have the mass they had.

        In every row the moved logits are shifted by one offset, so that their log-sum-exp is that of
        before: the softmax probabilities of the others do not change. Nothing is changed in place.
        The moved ones are meant to be the pair. Momentum and weight decay move all logits, and a common shift
        of all protects none: hence `needs_plain_steps` (the authors' Adam has β₁ = 0 and no decay). A term
        of the loss on the probabilities moves all of them too; the step is then as without this method.

        Source: Cai et al. 2019 (arXiv 1812.00332), section 3.2: the sampled paths share their mass
        anew; docs/gradients.md, eq. (32).
        """
        moved = before != after
        low = torch.full_like(after, -torch.inf)
        was, is_now = (torch.where(moved, a, low).logsumexp(dim=-1, keepdim=True) for a in (before, after))
        return torch.where(moved, after + (was - is_now), after)


def _chosen_log_probabilities(logits: Tensor) -> Tensor:
    """log Σ_{j≠k} (p_j·p_{k|j} + p_k·p_{j|k})·σ(α_k − α_j) [..., K], p_{k|j} = p_k/(1 − p_j).

    p_{·|j} is a softmax without j, as 1 − p_j would round to 0. At least float32; K² numbers a row.
    """
    alpha = logits.to(torch.promote_types(logits.dtype, torch.float32))
    candidates = alpha.shape[-1]
    log_p = torch.log_softmax(alpha, dim=-1)
    if candidates < 3:
        return log_p
    self_pair = torch.eye(candidates, dtype=torch.bool, device=alpha.device)
    others = alpha.unsqueeze(-2).masked_fill(self_pair, -torch.inf)
    second = torch.log_softmax(others, dim=-1).masked_fill(self_pair, 0.0)  # finite: so is the gradient below
    ordered = log_p.unsqueeze(-1) + second  # [j, k]: first j, then k
    pair = torch.logaddexp(ordered, ordered.transpose(-1, -2)).masked_fill(self_pair, -torch.inf)
    gap = alpha.unsqueeze(-2) - alpha.unsqueeze(-1)  # [j, k]: α_k − α_j
    return torch.logsumexp(pair + torch.nn.functional.logsigmoid(gap), dim=-2)
