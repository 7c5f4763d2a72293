"""Whether the first-order gradient points where the unrolled one does."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from archgrad.config import Config
from archgrad.diagnostics.line import Reading, mean
from archgrad.diagnostics.subject import Subject
from archgrad.errors import UserError
from archgrad.hypergradients.first_order import FirstOrder
from archgrad.hypergradients.unrolled_exact import UnrolledExact


@dataclass(frozen=True)
class Agreement:
    """∇_α L_val(w, α) beside dL_val(w'(α), α)/dα, w' the weights after their optimizer's next step.

    The first takes the weights as given, the second follows what they do about the logits for one step
    (Liu et al. 2019, arXiv 1806.09055, eq. 6-7, exactly). Both are taken on the same batches at the same draw
    of the method's sampler.

    Fields: `cosine` between the two; `correction`, ‖unrolled − first order‖ / ‖first order‖. Means over the
    batches, those left out where one of the two is zero.

    Cost: for each of `batches` pairs of batches four forward and four backward passes, and one pass back
    through a backward pass; a copy of the weights.
    """

    batches: int = 2

    @staticmethod
    def unfit(config: Config, settings: dict[str, object]) -> str | None:
        """A draw without a gradient has neither of the two."""
        if not config.scores:
            return None
        name = config.hypergradient.name
        return f"{name!r} takes no gradient through the sampler, so there is none to compare"

    def __call__(self, subject: Subject) -> Reading:
        """The fields of this epoch.

        Raises:
            UserError: there are no weights that could do anything about the logits (a landscape).
        """
        if not subject.task.weights:
            raise UserError(
                "agreement: a landscape has no weights, so both gradients are the same; leave it out"
            )
        logits = subject.logits()
        cosines, corrections = [], []
        for index, (train, valid) in enumerate(subject.pairs(self.batches)):
            problem = subject.problem(train, valid, "agreement", index)
            first, unrolled = (
                subject.flat(part(problem, logits).gradients).flatten()
                for part in (FirstOrder(), UnrolledExact())
            )
            if float(first.norm()) and float(unrolled.norm()):
                cosines.append(float(torch.nn.functional.cosine_similarity(first, unrolled, dim=0)))
                corrections.append(float((unrolled - first).norm() / first.norm()))
        return {"cosine": mean(cosines), "correction": mean(corrections)} if cosines else {}
