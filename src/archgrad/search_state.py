"""What a search is made of: the plan, which stays, and the state, which changes. E choices × K candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from archgrad.budgets.hold import Hold, HoldState
from archgrad.choice import Group
from archgrad.derive import derive
from archgrad.policy import Policy
from archgrad.problem import Hypergradient
from archgrad.regularizers import Regularizer


def argmax_architecture(groups: Sequence[Group], probabilities: Sequence[Tensor]) -> Mapping[str, str]:
    """The architecture of the rule "argmax", of probabilities or of gates."""
    return derive(groups, probabilities, "argmax", gates=True).architecture


@dataclass(frozen=True)
class SearchPlan:
    """The parts of a method, put together.

    policy: draws the samples.
    hypergradient: None leaves the logits alone (the random control).
    temperature, learning_rate: functions of the epoch.
    weight_clip, architecture_clip: largest L2 norm of the gradient, or None; of each search's own.
    relative_clip: largest L2 norm of the architecture gradient as a multiple of that of the logits.
    regularizer: added to the architecture's loss, a function of the probabilities; None for none.
    hold: the budgets and their prices, charged to the architecture's loss; None for none.
    searches: S where the logits carry a first dimension of S independent searches, else None.
    architecture_first: DARTS' order; GDAS steps on the weights first.
    architecture_every: steps on the weights for one on the logits.
    warmup_epochs: epochs at the start that train weights only.
    expected_cost: probabilities per group -> cost, for the record; None without a cost.
    derive: (groups, probabilities per group) -> architecture that would be derived now, for the record.
    """

    policy: Policy
    hypergradient: Hypergradient | None
    epochs: int
    temperature: Callable[[int], float]
    learning_rate: Callable[[int], float]
    weight_clip: float | None = None
    architecture_clip: float | None = None
    relative_clip: float | None = None
    regularizer: Regularizer | None = None
    hold: Hold | None = None
    searches: int | None = None
    architecture_first: bool = True
    architecture_every: int = 1
    warmup_epochs: int = 0
    expected_cost: Callable[[Sequence[Tensor]], float] | None = None
    derive: Callable[[Sequence[Group], Sequence[Tensor]], Mapping[str, str]] = argmax_architecture

    def learns(self, epoch: int) -> bool:
        """Whether the logits are trained in this epoch."""
        return self.hypergradient is not None and epoch >= self.warmup_epochs


@dataclass
class SearchState:
    """All that changes during a search, except the task's weights and buffers.

    epoch: epochs done. step: steps done in the running epoch.
    weight_optimizer, architecture_optimizer: None where there is nothing to train.
    memory: what the hypergradient handed on to its next call.
    hold: the prices of the budgets, from the first step on.
    totals: sums over the running epoch. winners: the epoch before's architecture.
    """

    logits: list[Tensor]  # θ of the controller, the logits themselves where choices are independent
    weight_optimizer: torch.optim.SGD | None
    architecture_optimizer: torch.optim.Optimizer | None
    epoch: int = 0
    step: int = 0
    skipped_in_a_row: int = 0
    memory: tuple[Tensor, ...] = ()
    hold: HoldState | None = None
    totals: dict[str, float] = field(default_factory=dict)
    winners: dict[str, str] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """A copy-free snapshot: tensors and plain values only."""
        return {
            "logits": [a.detach() for a in self.logits],
            "weight_optimizer": self.weight_optimizer and self.weight_optimizer.state_dict(),
            "architecture_optimizer": self.architecture_optimizer
            and self.architecture_optimizer.state_dict(),
            "position": [self.epoch, self.step, self.skipped_in_a_row],
            "memory": list(self.memory),
            "hold": self.hold and self.hold.state_dict(),
            "totals": dict(self.totals),
            "winners": dict(self.winners),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        with torch.no_grad():
            for logits, saved in zip(self.logits, state["logits"], strict=True):
                logits.copy_(saved)
        if self.weight_optimizer is not None:
            self.weight_optimizer.load_state_dict(state["weight_optimizer"])
        if self.architecture_optimizer is not None:
            self.architecture_optimizer.load_state_dict(state["architecture_optimizer"])
        self.epoch, self.step, self.skipped_in_a_row = state["position"]
        self.memory = tuple(m.to(self.logits[0].device) for m in state["memory"])
        held = state.get("hold")  # not in checkpoints of before there were budgets
        self.hold = held and HoldState.of(held).to(self.logits[0].device)
        self.totals, self.winners = dict(state["totals"]), dict(state["winners"])
