"""How sharply the validation loss bends along the logits. S searches, n logits of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from archgrad.diagnostics.lanczos import hutchinson, lanczos
from archgrad.diagnostics.line import Reading
from archgrad.diagnostics.subject import Subject
from archgrad.problem import observe


@dataclass(frozen=True)
class Sharpness:
    """The largest eigenvalue of ∂²L_val/∂α², at the weights as they are; it grows before a search collapses.

    Of the mixture at the sampler's probabilities, in which every candidate runs: what samplers draw from, so
    their noise is no part of it. L_val is the loss that the logits descend, a penalty on the cost included.

    Fields: `largest`, λ_max, by Lanczos; `largest_with_decay`, the same of L_val plus the logits' weight
    decay ½λ‖α‖², that is λ_max + λ; `smallest`; `residual`, how far from an eigenvalue `largest` may be;
    `trace`, the sum of all, by Hutchinson, and its standard error `trace_error`. Of several searches means.

    Cost: for each of `batches` validation batches one forward and one backward pass of the mixture, and at
    most `iterations` + `trace_samples` passes back through that backward pass. The graphs of `batches`
    backward passes are held at once.

    tolerance: Lanczos ends when `residual` is at most so much of the largest absolute eigenvalue.

    Source: Zela et al. 2020, RobustDARTS (arXiv 1909.09656), section 3 (the full Hessian, on one batch).
    """

    batches: int = 1
    iterations: int = 20
    trace_samples: int = 4
    tolerance: float = 1e-3

    def __call__(self, subject: Subject) -> Reading:
        """The fields of this epoch."""
        logits = subject.logits()
        slope = self._slope(subject, logits)
        if not any(s.requires_grad for s in slope):
            return {}

        def product(vectors: Tensor) -> Tensor:
            pairs = [
                (s, v) for s, v in zip(slope, subject.like_logits(vectors), strict=True) if s.requires_grad
            ]
            slopes, along = zip(*pairs, strict=True)
            found = torch.autograd.grad(
                slopes, logits, along, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            return subject.flat(found)

        shape = subject.searches, subject.flat(logits).shape[1]
        generator = subject.streams.generator("diagnostics/sharpness", subject.epoch)
        found = lanczos(product, shape, self.iterations, self.tolerance, generator)
        trace, error = hutchinson(product, shape, self.trace_samples, generator)
        optimizer = subject.state.architecture_optimizer
        decay = 0.0 if optimizer is None else float(optimizer.param_groups[0]["weight_decay"])
        reading: Reading = {
            "largest": float(found.largest.mean()),
            "largest_with_decay": float(found.largest.mean()) + decay,
            "smallest": float(found.smallest.mean()),
            "residual": float(found.residual.mean()),
            "trace": float(trace.mean()),
        }
        return reading | ({"trace_error": float(error.mean())} if self.trace_samples > 1 else {})

    def _slope(self, subject: Subject, logits: Sequence[Tensor]) -> list[Tensor]:
        """∇_α of the mean validation loss, with its graph."""
        valid = [pair[1] for pair in subject.pairs(self.batches)]
        total = [torch.zeros_like(a) for a in logits]
        for index, objective in enumerate(valid):
            problem = subject.problem(objective, objective, "sharpness", index)
            loss = observe(problem, objective, subject.relaxed(logits)).loss
            if not loss.requires_grad:
                continue
            found = torch.autograd.grad(
                loss.sum(), logits, create_graph=True, allow_unused=True, materialize_grads=True
            )
            total = [t + g / len(valid) for t, g in zip(total, found, strict=True)]
        return total
