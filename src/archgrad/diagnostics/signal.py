"""How much of the architecture gradient is signal and how much noise. S searches, n logits of each."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from archgrad.diagnostics.line import Reading
from archgrad.diagnostics.subject import Subject
from archgrad.errors import UserError


@dataclass(frozen=True)
class Signal:
    """The method's own gradient, taken on several batches with fresh draws, at one point of the search.

    With g_b the gradient of batch b of B and ḡ their mean: the noise is Σ_b ‖g_b − ḡ‖²/(B − 1), an estimate
    of the variance tr Cov(g) of a single one; the signal ‖ḡ‖² less noise/B, an estimate of ‖E g‖² without
    bias (0 where it falls below). Both the batch and the sampler's draw are in the noise; prices of budgets,
    regularizers and weight decay, which are the same for every batch, are left out.

    Fields: `signal` and `noise`, the roots of the two; `ratio`, signal over noise: below 1/√n the noise of n
    steps added up is longer than their signal; `cosine` between two batches' gradients, the mean over all
    pairs. Of several searches means.

    Cost: the method's hypergradient, `batches` times.
    """

    batches: int = 8

    def __post_init__(self) -> None:
        if self.batches < 2:
            raise UserError(
                f"signal: noise is seen between batches, so give batches=2 or more, got {self.batches}"
            )

    def __call__(self, subject: Subject) -> Reading:
        """The fields of this epoch."""
        hypergradient, logits = subject.plan.hypergradient, subject.logits()
        pairs = subject.pairs(self.batches)
        if hypergradient is None or len(pairs) < 2:
            return {}
        rows = []
        for index, (train, valid) in enumerate(pairs):
            problem = subject.problem(train, valid, "signal", index)
            rows.append(subject.flat(hypergradient(problem, logits).gradients))
        gradients, count = torch.stack(rows), len(rows)  # [B, S, n]
        mean = gradients.mean(dim=0)
        noise = (gradients - mean).square().sum(dim=(0, 2)) / (count - 1)
        signal = (mean.square().sum(dim=1) - noise / count).clamp(min=0)
        unit = torch.nn.functional.normalize(gradients, dim=-1)
        alike = torch.einsum("bsn,csn->sbc", unit, unit)
        beside = alike.sum(dim=(1, 2)) - alike.diagonal(dim1=1, dim2=2).sum(dim=1)
        reading: Reading = {
            "signal": float(signal.sqrt().mean()),
            "noise": float(noise.sqrt().mean()),
            "cosine": float((beside / (count * (count - 1))).mean()),
        }
        if bool((noise > 0).all()):
            reading["ratio"] = float((signal / noise).sqrt().mean())
        return reading
