"""Controller and sampler together: how a search draws architectures, and how probable each draw is.

θ is what is learned (`controllers`); with independent choices it is the logits α themselves, [..., E, K]
per group of E choices with K candidates, the leading dimensions being independent searches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from archgrad.choice import Group, Sample
from archgrad.controllers.controller import Choose, Controller
from archgrad.controllers.independent import Independent
from archgrad.errors import UserError
from archgrad.samplers.sampler import Sampler, law_of


@dataclass(frozen=True)
class Policy:
    """Draws one `Sample` per group.

    The weights of a blend (`choice.Blend`) are not drawn: they are the softmax of its logits, whatever
    the sampler.

    settled: choice -> candidate, where it is decided already: drawn as that, whatever the logits say.

    Raises:
        UserError: a controller that is not independent, with a blend among the groups.
    """

    groups: tuple[Group, ...]
    sampler: Sampler
    controller: Controller = field(default_factory=Independent)
    settled: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.blends and not self.independent:
            raise UserError(
                "controller.name: the space weighs edges (edge normalisation), and those logits must be "
                "learned by themselves: use controller 'independent'"
            )

    @property
    def blends(self) -> bool:
        """Whether some weights are not drawn."""
        return any(not group.chosen for group in self.groups)

    @property
    def gates(self) -> bool:
        """Whether a choice's weights are gates, each for itself in [0, 1], and not a point of the simplex."""
        return law_of(self.sampler) == "gates"

    @property
    def independent(self) -> bool:
        """Whether θ is the logits themselves, each choice drawn by itself."""
        return isinstance(self.controller, Independent)

    def draw(self, theta: Sequence[Tensor], tau: float, generator: torch.Generator) -> list[Sample]:
        """One sample per group, differentiable in θ as far as the sampler is."""
        parts: list[Sample] = []

        def choose(logits: Tensor) -> Tensor:
            blend = self.blends and not self.groups[len(parts)].chosen
            parts.append(
                Sample(torch.softmax(logits, dim=-1)) if blend else self.sampler(logits, tau, generator)
            )
            return parts[-1].weights

        self.controller.logits(self.groups, theta, choose)
        samples = parts if len(parts) == len(self.groups) else _grouped(parts, self.groups)
        return settle(samples, self.groups, self.settled) if self.settled else samples

    def log_prob(self, theta: Sequence[Tensor], tau: float, samples: Sequence[Sample]) -> Tensor:
        """Σ over all choices of log p(z | those before), [...]; differentiable in θ, the draws held.

        Raises:
            UserError: the sampler does not know the probability of its draws.
        """
        return self.log_prob_and_entropy(theta, tau, samples)[0]

    def log_prob_and_entropy(
        self, theta: Sequence[Tensor], tau: float, samples: Sequence[Sample]
    ) -> tuple[Tensor, Tensor]:
        """`log_prob` and the `entropy` given these draws, from one pass of the controller.

        Raises:
            UserError: as `log_prob`.
        """
        known = getattr(self.sampler, "log_prob", None)
        if known is None:
            raise UserError(
                f"the sampler {type(self.sampler).__name__} does not say how probable a draw is, so no "
                "score-function gradient can be taken; use gumbel_max"
            )
        if self.blends:
            raise UserError(
                "the space weighs edges (edge normalisation); those weights are not drawn, so no "
                "score-function gradient can be taken: choose another hypergradient"
            )
        logits = self.controller.logits(self.groups, theta, _replay(samples))
        rows = [known(a, tau, s.weights.detach()) for a, s in zip(logits, samples, strict=True)]
        return torch.cat(rows, dim=-1).sum(dim=-1), self._entropy(logits)

    def entropy(self, theta: Sequence[Tensor], samples: Sequence[Sample] | None = None) -> Tensor:
        """Σ over all choices of the entropy in nats, [...], given the draws before; None: the likeliest."""
        choose = _greedy if samples is None else _replay(samples)
        return self._entropy(self.controller.logits(self.groups, theta, choose))

    def _entropy(self, logits: Sequence[Tensor]) -> Tensor:
        rows = [torch.special.entr(p).sum(dim=-1) for p in self._probabilities(logits)]
        total: Tensor = torch.cat(rows, dim=-1).sum(dim=-1)
        return total

    def probabilities(self, theta: Sequence[Tensor]) -> list[Tensor]:
        """[..., E, K] per group; where choices depend on one another, given the likeliest ones before."""
        return self._probabilities(self.controller.logits(self.groups, theta, _greedy))

    def _probabilities(self, logits: Sequence[Tensor]) -> list[Tensor]:
        return [
            self.sampler.probabilities(a) if group.chosen else torch.softmax(a, dim=-1)
            for group, a in zip(self.groups, logits, strict=True)
        ]


def settle(samples: Sequence[Sample], groups: Sequence[Group], settled: Mapping[str, str]) -> list[Sample]:
    """The samples with the choices of `settled` (choice -> candidate) as these, one-hot and without gradient.

    A candidate that the choice does not have leaves it out (`choice.Droppable`): no weight at all.
    """
    found = []
    for group, sample in zip(groups, samples, strict=True):
        rows = {e: settled[name] for e, name in enumerate(group.names) if name in settled}
        if not rows:
            found.append(sample)
            continue
        decided = torch.zeros(len(group.names), 1, dtype=torch.bool, device=sample.weights.device)
        one_hot = torch.zeros_like(sample.weights, requires_grad=False)
        active = list(sample.active or [tuple(range(len(group.candidates)))] * len(group.names))
        for e, candidate in rows.items():
            decided[e] = True
            active[e] = tuple(k for k, known in enumerate(group.candidates) if known == candidate)
            one_hot[e, list(active[e])] = 1.0
        weights = torch.where(decided, one_hot, sample.weights)
        found.append(
            sample._replace(weights=weights, active=tuple(active), one_hot=sample.one_hot and all(active))
        )
    return found


def _greedy(logits: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(logits.detach().argmax(dim=-1), logits.shape[-1]).to(logits)


def _replay(samples: Sequence[Sample]) -> Choose:
    """Hand out the drawn rows again, in order, as many as are asked for."""
    position = [0, 0]  # group, row

    def choose(logits: Tensor) -> Tensor:
        group, row = position
        weights, asked = samples[group].weights.detach(), logits.shape[-2]
        end = row + asked
        position[:] = [group + 1, 0] if end == weights.shape[-2] else [group, end]
        return weights[..., row:end, :]

    return choose


def _grouped(parts: Sequence[Sample], groups: Sequence[Group]) -> list[Sample]:
    """Samples of single rows, put together per group."""
    found, start = [], 0
    for group in groups:
        rows = parts[start : start + len(group.names)]
        start += len(rows)
        active, ran = [row.active for row in rows], [row.ran for row in rows if row.ran is not None]
        found.append(
            rows[0]._replace(
                weights=torch.cat([row.weights for row in rows], dim=-2),
                active=None if None in active else tuple(a for one in active if one for a in one),
                ran=torch.cat(ran, dim=-2) if len(ran) == len(rows) else None,
            )
        )
    return found
