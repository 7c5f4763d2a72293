"""What a search says after every step and after every epoch. E choices × K candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from archgrad.choice import Group
from archgrad.gradient_step import mean
from archgrad.problem import Outcome
from archgrad.search_state import SearchPlan, SearchState


class StepRecord(NamedTuple):
    """Progress after a step; loss and accuracy are means over the epoch so far, entropy in nats."""

    epoch: int
    step: int
    loss: float
    accuracy: float
    tau: float
    entropy: float


class EpochRecord(NamedTuple):
    """One line of ``metrics.jsonl``; the fields are described in docs/architecture.md."""

    epoch: int
    step: int
    seconds: float
    tau: float
    learning_rate: float
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    cost: float | None
    entropy: dict[str, float]
    entropy_mean: float
    probabilities: dict[str, list[float]]
    alpha_gradient_norm: float
    weight_gradient_norm: float
    skipped_steps: int
    architecture: dict[str, str]
    changed: list[str]
    budgets: dict[str, dict[str, float]] | None = None
    alpha_relative_step: float = float("nan")

    def line(self) -> dict[str, Any]:
        """What is written: `budgets` only where there are some."""
        return {key: value for key, value in self._asdict().items() if key != "budgets" or value}


def counts(part: str, outcome: Outcome) -> dict[str, float]:
    """An outcome as addends of the epoch's totals."""
    return {
        f"{part}_loss": float(outcome.task_loss) * outcome.images,
        f"{part}_correct": float(outcome.correct),
        f"{part}_images": outcome.images,
    }


def step_record(state: SearchState, plan: SearchPlan) -> StepRecord:
    """The record of the step just done."""
    totals = state.totals
    return StepRecord(
        state.epoch,
        state.step,
        mean(totals, "train_loss", "train_images"),
        mean(totals, "train_correct", "train_images"),
        plan.temperature(state.epoch),
        float(torch.cat([_entropy(p, plan) for p in _probabilities(plan, state)]).mean()),
    )


def epoch_record(
    groups: Sequence[Group],
    state: SearchState,
    plan: SearchPlan,
    steps_per_epoch: int,
    valid: tuple[float, float],
) -> EpochRecord:
    """The record of the epoch whose last step was just done; `valid` is (loss, accuracy)."""
    totals = state.totals
    probabilities = _probabilities(plan, state)
    rows = {
        name: row
        for group, p in zip(groups, probabilities, strict=True)
        for name, row in zip(group.names, p, strict=True)
    }
    architecture = dict(plan.derive(groups, probabilities))
    entropy = {name: float(_entropy(row, plan)) for name, row in rows.items()}
    return EpochRecord(
        epoch=state.epoch,
        step=(state.epoch + 1) * steps_per_epoch,
        seconds=totals["seconds"],
        tau=plan.temperature(state.epoch),
        learning_rate=plan.learning_rate(state.epoch),
        train_loss=mean(totals, "train_loss", "train_images"),
        train_accuracy=mean(totals, "train_correct", "train_images"),
        valid_loss=valid[0],
        valid_accuracy=valid[1],
        cost=plan.expected_cost(probabilities) if plan.expected_cost else None,
        entropy=entropy,
        entropy_mean=sum(entropy.values()) / len(entropy),
        probabilities={name: row.tolist() for name, row in rows.items()},
        alpha_gradient_norm=mean(totals, "alpha_norm", "alpha_steps"),
        weight_gradient_norm=mean(totals, "weight_norm", "train_steps"),
        skipped_steps=int(totals.get("skipped_steps", 0)),
        architecture=architecture,
        changed=[name for name, winner in architecture.items() if state.winners.get(name, winner) != winner],
        budgets=_budgets(plan, state),
        alpha_relative_step=mean(totals, "relative_step", "relative_steps"),
    )


def _probabilities(plan: SearchPlan, state: SearchState) -> list[Tensor]:
    """[E, K] per group, the mean over independent searches."""
    found = plan.policy.probabilities([a.detach() for a in state.logits])
    return found if plan.searches is None else [p.mean(dim=0) for p in found]


def _budgets(plan: SearchPlan, state: SearchState) -> dict[str, dict[str, float]] | None:
    """Expected cost and prices of every budget; see `Hold.record`."""
    if plan.hold is None or state.hold is None:
        return None
    return plan.hold.record(plan.policy.probabilities([a.detach() for a in state.logits]), state.hold)


def _entropy(probabilities: Tensor, plan: SearchPlan) -> Tensor:
    """Shannon entropy of each row, in nats; of gates their shares of the row's sum. [E, K] -> [E]."""
    if plan.policy.gates:
        probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    entropy: Tensor = torch.special.entr(probabilities).sum(dim=-1)
    return entropy
