"""The discretisation gap: what is optimised is not what is derived. S searches, E choices × K candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from archgrad.architecture import Architecture
from archgrad.choice import Sample
from archgrad.config import Config
from archgrad.diagnostics.line import Reading
from archgrad.diagnostics.shared_weights import shared_accuracy
from archgrad.diagnostics.subject import Subject

_LEAST = 1e-300
"""In place of 0 under a logarithm."""


@dataclass(frozen=True)
class Gap:
    """Validation accuracy of the mixture beside that of architectures with the same weights.

    The mixture is that at the sampler's probabilities, in which every candidate runs; a sampler that draws
    draws around it. The architectures are the one that would be derived now and `samples` others, drawn at
    random by the probabilities and derived by the same rule. All with BatchNorm statistics of their own
    (`shared_weights.shared_accuracy`).

    Fields: `mixture`, `derived`, accuracies; `drop`, the first minus the second; `sampled`, the mean of the
    others, and `best`, the best of them; `mixture_loss`, `derived_loss`. On a landscape an accuracy is 1
    minus the loss, and that of several searches their mean.

    Cost: for the mixture, the derived architecture and each of the samples `calibration` + `batches` forward
    passes, no backward pass. One of the mixture runs all K candidates, one of an architecture a single one.
    Of a text there is one evaluation for each, over the whole validation part.
    """

    batches: int = 4
    calibration: int = 4
    samples: int = 4

    @staticmethod
    def unfit(config: Config, settings: dict[str, object]) -> str | None:
        """A text is evaluated as a whole."""
        surplus = [key for key in ("batches", "calibration") if key in settings]
        if not config.reads_text or not surplus:
            return None
        return f"a text is evaluated as a whole, so nothing reads {', '.join(surplus)}"

    def __call__(self, subject: Subject) -> Reading:
        """The fields of this epoch."""
        with torch.no_grad():
            logits = [a.detach() for a in subject.state.logits]
            mixture = subject.relaxed(logits)
            probabilities = [sample.weights for sample in mixture]
            derived = _derived(subject, probabilities)
            others = [_derived(subject, _drawn(subject, probabilities, n)) for n in range(self.samples)]
        mixture_loss, mixture_accuracy = self._accuracy(subject, mixture)
        derived_loss, derived_accuracy = self._accuracy(subject, derived)
        found = [self._accuracy(subject, other)[1] for other in others]
        return {
            "mixture": mixture_accuracy,
            "derived": derived_accuracy,
            "drop": mixture_accuracy - derived_accuracy,
            "sampled": sum(found) / len(found),
            "best": max(found),
            "mixture_loss": mixture_loss,
            "derived_loss": derived_loss,
        }

    def _accuracy(self, subject: Subject, samples: Sequence[Sample]) -> tuple[float, float]:
        return shared_accuracy(subject, samples, self.batches, self.calibration)


def _drawn(subject: Subject, probabilities: Sequence[Tensor], index: int) -> list[Tensor]:
    """Probabilities whose argmax is a random candidate, by the given ones: log p + Gumbel noise, of each row.

    Where choices depend on one another, the controller's own draw.
    """
    generator = subject.streams.generator("diagnostics/gap", subject.epoch, index)
    policy = subject.plan.policy
    if not policy.independent:
        return [s.weights for s in policy.draw(subject.state.logits, subject.tau, generator)]
    found = []
    for p in probabilities:
        uniform = torch.rand(p.shape, generator=generator, dtype=torch.float64).clamp_min(_LEAST)
        noise = -torch.log(-torch.log(uniform))
        found.append(
            torch.softmax(p.detach().to("cpu", torch.float64).clamp_min(_LEAST).log() + noise, dim=-1)
        )
    return found


def _derived(subject: Subject, probabilities: Sequence[Tensor]) -> list[Sample]:
    """The samples of the architecture that is derived of probabilities [E, K] or [S, E, K] per group."""
    plan, network, groups = subject.plan, subject.network, subject.task.groups
    if network is not None:
        return network.one_hot(Architecture(plan.derive(groups, probabilities)))
    each = [probabilities] if plan.searches is None else zip(*probabilities, strict=True)
    architectures = [plan.derive(groups, list(rows)) for rows in each]
    samples = []
    for group, p in zip(groups, subject.state.logits, strict=True):
        rows = [_one_hot(group.names, group.candidates, a) for a in architectures]
        samples.append(Sample(torch.stack(rows).reshape(p.shape).to(p)))
    return samples


def _one_hot(names: Sequence[str], candidates: Sequence[str], architecture: Mapping[str, str]) -> Tensor:
    index = torch.tensor([candidates.index(architecture[name]) for name in names])
    return torch.nn.functional.one_hot(index, len(candidates)).double()
