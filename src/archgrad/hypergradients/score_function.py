"""Score function (REINFORCE): draws that turned out better than a baseline become more probable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from archgrad.errors import UserError
from archgrad.problem import ArchitectureGradient, Outcome, Problem, gradients, observe, preserved

_DECAY = 0.99
"""Of the moving average: as in the authors' codes of ENAS on NAS-Bench-201, and of ProxylessNAS."""
_BASELINES = ("none", "moving_average", "leave_one_out")


@dataclass(frozen=True)
class ScoreFunction:
    """−mean_i (r_i − b_i) ∇_θ log p(z_i), reward r_i = −L_val(w, z_i) + entropy_bonus · H(z_i).

    z_i are `samples` draws of the policy and H the entropy in nats of its choices, each given those before.
    Only the policy is differentiated (its entropy too): the network is evaluated without a graph, so draws
    may be hard and the loss anything. `samples` forward passes, no backward pass. θ may be the logits α or
    a controller's parameters; with losses [S] of S independent searches, each has its own baseline.

    baseline: b_i is "none", 0; "moving_average", the rewards of the steps before, averaged with weights
        that fall by `decay` a step; or "leave_one_out", the mean reward of this step's other draws. Each
        leaves the expectation as it is. Only the first step of a moving average has nothing to average: it
        takes the mean of its own rewards, which scales its expectation by 1 − 1/samples (nothing is
        learned from one draw).
    samples: draws a step; two or more for "leave_one_out".
    decay: of the moving average, between 0 and 1; None is 0.99, or that there is no such average.
    entropy_bonus: reward per nat of entropy; undecided policies are rewarded.

    Source: Williams 1992 (doi 10.1007/BF00992696), eq. 4; Pham et al. 2018, ENAS (arXiv 1802.03268): the
    moving average, and in the authors' code the entropy in the reward; leave-one-out: Kool et al. 2019
    ("Buy 4 REINFORCE samples, get a baseline for free!"); docs/gradients.md, eq. (22)-(24).
    """

    baseline: Literal["none", "moving_average", "leave_one_out"] = "moving_average"
    samples: int = 1
    decay: float | None = None
    entropy_bonus: float = 0.0

    score: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.baseline not in _BASELINES:
            raise UserError(
                f"score_function: baseline is one of {', '.join(_BASELINES)}, got {self.baseline!r}"
            )
        if isinstance(self.samples, bool) or not isinstance(self.samples, int) or self.samples < 1:
            raise UserError(f"score_function: samples is a whole number from 1, got {self.samples!r}")
        if self.baseline == "leave_one_out" and self.samples < 2:
            raise UserError(
                "score_function: leave_one_out compares the draws of one step, so it needs two or more; "
                "set samples to 2, or baseline to moving_average"
            )
        if self.decay is not None and self.baseline != "moving_average":
            raise UserError(
                f"score_function: decay belongs to the moving average, and baseline is {self.baseline}; "
                "leave decay out, or set baseline to moving_average"
            )
        if self.decay is not None and not 0 < self.decay < 1:
            raise UserError(f"score_function: decay is a number between 0 and 1, got {self.decay!r}")
        if not math.isfinite(self.entropy_bonus) or self.entropy_bonus < 0:
            raise UserError(
                f"score_function: entropy_bonus is a finite number from 0, got {self.entropy_bonus!r}; to "
                "charge entropy, set regularizer.name to decisiveness_penalty"
            )

    def __call__(self, problem: Problem, alpha: Sequence[Tensor]) -> ArchitectureGradient:
        """The estimate of dE[L_val]/dθ, less the bonus' gradient; one tensor of its shape per tensor of θ.

        Raises:
            UserError: the problem has no policy, or its sampler does not know how probable a draw is.
        """
        if problem.policy is None:
            raise UserError("score_function: the problem has no policy to ask how probable a draw is")
        theta = [a.detach() for a in alpha]
        draws = [problem.draw(theta, repeat) for repeat in range(self.samples)]
        known = [problem.policy.log_prob_and_entropy(alpha, problem.tau, samples) for samples in draws]
        log_p = torch.stack([log_prob for log_prob, _ in known])
        with preserved(problem.buffers), torch.no_grad():
            outcomes = [observe(problem, problem.valid, samples) for samples in draws]
        reward = -torch.stack([outcome.loss.detach() for outcome in outcomes]).to(log_p)
        bonus = torch.zeros_like(reward)
        if self.entropy_bonus:
            bonus = self.entropy_bonus * torch.stack([entropy for _, entropy in known])
            reward = reward + bonus.detach()
        mean = reward.mean(dim=0)
        baseline, memory = torch.zeros_like(mean), tuple[Tensor, ...]()
        if self.baseline == "leave_one_out":
            baseline = (self.samples * mean - reward) / (self.samples - 1)
        elif self.baseline == "moving_average":
            (baseline,) = problem.memory or (mean,)
            memory = (torch.lerp(mean, baseline, _DECAY if self.decay is None else self.decay),)
        gain = ((reward - baseline) * log_p + bonus).mean(dim=0)
        return ArchitectureGradient(gradients(-gain, alpha), _mean(outcomes), memory)


def _mean(outcomes: Sequence[Outcome]) -> Outcome:
    """Mean losses; right predictions and images of all draws together."""
    return Outcome(
        torch.stack([outcome.loss for outcome in outcomes]).mean(dim=0),
        torch.stack([outcome.task_loss for outcome in outcomes]).mean(dim=0),
        torch.stack([outcome.correct for outcome in outcomes]).sum(dim=0),
        sum(outcome.images for outcome in outcomes),
    )
