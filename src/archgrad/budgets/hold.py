"""Multipliers that hold the search to its budgets. S searches, B budgets, E choices × K candidates.

For the budget least ≤ E[c] ≤ most with target T there are two constraints g ≤ 0,

    g₁ = (E[c] − most) / T,      g₂ = (least − E[c]) / T,                                            (1)

and the loss of the architecture gets the augmented Lagrangian of inequalities,

    ψ(g; λ, ρ) = (max(0, λ + ρ·g)² − λ²) / 2ρ,      dψ/dg = max(0, λ + ρ·g),                         (2)

which charges nothing where a budget is kept with room to spare. After each step on the logits

    λ ← max(0, λ + η·g),                                                                             (3)

the price of the budget in nats for each 100 % of the target, so that any scale of loss is met in the end.
Dual ascent at every step, instead of after each inner minimisation, is the method of Arrow, Hurwicz & Uzawa
1958; (2) and (3) are Rockafellar 1973 (J. Optim. Theory Appl. 12, 555), eq. 1.7 and 4.4. The two-sided form
for searches has a precedent in TAS (Dong & Yang 2019, arXiv 1905.09717), with a fixed strength.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from archgrad.budgets.budget import Budget
from archgrad.budgets.expectation import CostModel, derived_weights
from archgrad.choice import Group, Sample
from archgrad.problem import Objective, Outcome

FIRST_RHO, LAST_RHO = 0.3, 100.0
"""ρ of (2) at the first and at the last step; between them it grows by the same factor every step."""
ASCENT = 20.0
"""η·steps of (3): a violation of 10 % that lasts for a tenth of the search raises λ by 0.2."""


SHARPEN_FROM, SHARPEST = 0.3, 10.0
"""E[c] is under p^s / Σ p^s: s is 1 for the first 30 % of the steps and then grows to 10. At a limit an
undecided search can keep its budget as a mixture of a cheap and a dear candidate, of which one is derived."""


@dataclass
class HoldState:
    """What changes: λ [..., B, 2] of g₁ and g₂, steps taken, and the newest E[c] [..., B]."""

    multipliers: Tensor
    taken: int = 0
    expected: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {"multipliers": self.multipliers, "taken": self.taken, "expected": self.expected}

    @classmethod
    def of(cls, state: dict[str, Any]) -> HoldState:
        """From what `state_dict` gave."""
        return cls(state["multipliers"], state["taken"], state["expected"])

    def to(self, device: torch.device) -> HoldState:
        """The same on another device."""
        expected = None if self.expected is None else self.expected.to(device)
        return HoldState(self.multipliers.to(device), self.taken, expected)


@dataclass(frozen=True)
class Hold:
    """Budgets, the cost that each is about, and the plan of their prices.

    groups: the space's choices. steps: on the logits, in the whole search. rule: that derives.
    gates: see `derived_weights`.
    """

    budgets: tuple[Budget, ...]
    costs: tuple[CostModel, ...]
    groups: tuple[Group, ...]
    steps: int
    rule: str = "argmax"
    gates: bool = False

    def begin(self, theta: Sequence[Tensor], searches: int | None = None) -> HoldState:
        """No price yet; one row a search where there are S."""
        shape = (() if searches is None else (searches,)) + (len(self.budgets), 2)
        return HoldState(torch.zeros(shape, dtype=theta[0].dtype, device=theta[0].device))

    def expected(self, probabilities: Sequence[Tensor], taken: int = 0) -> Tensor:
        """E[c] [..., B] of the network that would be derived, from probabilities [..., E, K] per group.

        taken: steps so far, which say how sharp the probabilities are made.
        """
        weights = derived_weights(
            self.groups, probabilities, self.rule, gates=self.gates, sharpness=self.sharpness(taken)
        )
        return torch.stack([cost.expected(weights) for cost in self.costs], dim=-1)

    def term(self, probabilities: Sequence[Tensor], state: HoldState) -> Tensor:
        """Σ ψ over the budgets [...], eq. (2); differentiable in the probabilities."""
        rho = self.rho(state.taken)
        plain = self.expected(probabilities)
        # its value is that of the sharp probabilities, its slope that of the plain ones: sharp ones have none
        # where a search is decided
        held = plain + (self.expected(probabilities, state.taken) - plain).detach()
        price = (state.multipliers + rho * self._gaps(held)).clamp(min=0)
        terms: Tensor = ((price.square() - state.multipliers.square()) / (2 * rho)).sum(dim=(-2, -1))
        return terms

    def update(self, probabilities: Sequence[Tensor], state: HoldState) -> None:
        """Eq. (3), at the probabilities after a step."""
        with torch.no_grad():
            state.expected = self.expected(probabilities, state.taken)
            gaps = self._gaps(state.expected)
            state.multipliers = (state.multipliers + ASCENT / self.steps * gaps).clamp(min=0)
        state.taken += 1

    def charged(self, objective: Objective, probabilities: Sequence[Tensor], state: HoldState) -> Objective:
        """The objective with Σ dψ/dE[c] · c(z) added to its loss: the form of (2) for a reward.

        With the price held, its expectation over the draws z has the gradient of (2). It is for policies
        whose choices depend on one another, where E[c] has no closed form in the probabilities.
        """
        with torch.no_grad():
            gaps = self._gaps(self.expected(probabilities, state.taken))
            price = (state.multipliers + self.rho(state.taken) * gaps).clamp(min=0)
            slope = (price[..., 0] - price[..., 1]) / self._targets(price)

        def evaluate(samples: Sequence[Sample]) -> Outcome:
            outcome = objective(samples)
            cost = torch.stack([c.expected(self._choices(samples)) for c in self.costs], dim=-1)
            return outcome._replace(loss=outcome.loss + (slope * cost).sum(dim=-1))

        return evaluate

    def rho(self, taken: int) -> float:
        """ρ after so many steps."""
        return float(FIRST_RHO * (LAST_RHO / FIRST_RHO) ** min(1.0, taken / max(1, self.steps)))

    def sharpness(self, taken: int) -> float:
        """s after so many steps."""
        beyond = (min(1.0, taken / max(1, self.steps)) - SHARPEN_FROM) / (1 - SHARPEN_FROM)
        return float(SHARPEST ** max(0.0, beyond))

    def record(self, probabilities: Sequence[Tensor], state: HoldState) -> dict[str, dict[str, float]]:
        """Of every budget E[c], E[c] under the sharpened probabilities (which is held), and the two prices.

        Each is the mean over S searches.
        """
        count, prices = len(self.budgets), state.multipliers
        with torch.no_grad():
            both = [self.expected(probabilities, taken) for taken in (0, state.taken)]
        means, held = (e.reshape(-1, count).mean(dim=0).tolist() for e in both)
        above, below = prices.reshape(-1, count, 2).mean(dim=0).unbind(dim=-1)
        return {
            budget.cost: {"expected": mean, "held": sharp, "price_above": up, "price_below": down}
            for budget, mean, sharp, up, down in zip(
                self.budgets, means, held, above.tolist(), below.tolist(), strict=True
            )
        }

    def _choices(self, samples: Sequence[Sample]) -> list[Tensor]:
        return [s.weights for group, s in zip(self.groups, samples, strict=True) if group.chosen]

    def _gaps(self, expected: Tensor) -> Tensor:
        """Eq. (1): [..., B] -> [..., B, 2]; −1 where there is no lower end, which never costs anything."""
        above = torch.stack(
            [(expected[..., b] - x.most) / x.target for b, x in enumerate(self.budgets)], dim=-1
        )
        below = torch.stack(
            [
                torch.full_like(expected[..., b], -1.0)
                if x.least is None
                else (x.least - expected[..., b]) / x.target
                for b, x in enumerate(self.budgets)
            ],
            dim=-1,
        )
        return torch.stack([above, below], dim=-1)

    def _targets(self, like: Tensor) -> Tensor:
        return torch.tensor([budget.target for budget in self.budgets]).to(like)
