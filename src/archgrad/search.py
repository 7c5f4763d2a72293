"""The search loop: alternating steps on weights and architecture logits.

A generator: it yields a `StepRecord` after every step and an `EpochRecord` after every epoch, and the
caller decides what to write, show, save and when to stop. Between two yields the `SearchState` is
complete, so a checkpoint of it resumes bit for bit. E choices × K candidates.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from archgrad.choice import Group, Sample
from archgrad.errors import WorkError
from archgrad.hypergradients.single_level import SingleLevel
from archgrad.problem import Hypergradient, Objective, Outcome, Problem, WeightStep
from archgrad.randomness import Streams
from archgrad.samplers.sampler import Sampler

MOST_SKIPPED_IN_A_ROW = 5


class SearchTask(Protocol):
    """What is searched: a supernet on data (`objectives.NetworkTask`) or anything that acts like it."""

    groups: tuple[Group, ...]
    weights: list[Any]
    buffers: list[Tensor]
    steps_per_epoch: int

    def steps(self, epoch: int, start: int) -> Iterator[tuple[Objective, Objective]]:
        """(training, validation) objectives for the steps of an epoch from `start`."""

    def evaluate(self, draw: Callable[[int], list[Sample]]) -> tuple[float, float]:
        """(loss, accuracy) on the validation part."""


@dataclass(frozen=True)
class SearchPlan:
    """The parts of a method, put together.

    hypergradient: None leaves the logits alone (the random control).
    temperature, learning_rate: functions of the epoch.
    weight_clip, architecture_clip: largest L2 norm of the gradient, or None.
    architecture_first: DARTS' order; GDAS steps on the weights first.
    warmup_epochs: epochs at the start that train weights only.
    expected_cost: probabilities per group -> cost, for the record; None without a cost.
    """

    sampler: Sampler
    hypergradient: Hypergradient | None
    epochs: int
    temperature: Callable[[int], float]
    learning_rate: Callable[[int], float]
    weight_clip: float | None = None
    architecture_clip: float | None = None
    architecture_first: bool = True
    warmup_epochs: int = 0
    expected_cost: Callable[[Sequence[Tensor]], float] | None = None


@dataclass
class SearchState:
    """All that changes during a search, except the task's weights and buffers."""

    logits: list[Tensor]
    weight_optimizer: torch.optim.SGD
    architecture_optimizer: torch.optim.Optimizer | None
    epoch: int = 0
    step: int = 0
    skipped_in_a_row: int = 0
    totals: dict[str, float] = field(default_factory=dict)
    winners: dict[str, str] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """A copy-free snapshot: tensors and plain values only."""
        return {
            "logits": [a.detach() for a in self.logits],
            "weight_optimizer": self.weight_optimizer.state_dict(),
            "architecture_optimizer": self.architecture_optimizer
            and self.architecture_optimizer.state_dict(),
            "position": [self.epoch, self.step, self.skipped_in_a_row],
            "totals": dict(self.totals),
            "winners": dict(self.winners),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        with torch.no_grad():
            for logits, saved in zip(self.logits, state["logits"], strict=True):
                logits.copy_(saved)
        self.weight_optimizer.load_state_dict(state["weight_optimizer"])
        if self.architecture_optimizer is not None:
            self.architecture_optimizer.load_state_dict(state["architecture_optimizer"])
        self.epoch, self.step, self.skipped_in_a_row = state["position"]
        self.totals, self.winners = dict(state["totals"]), dict(state["winners"])


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


def search(
    task: SearchTask, state: SearchState, plan: SearchPlan, streams: Streams
) -> Iterator[StepRecord | EpochRecord]:
    """Search from `state` to the last epoch of `plan`.

    Raises:
        WorkError: the loss or a gradient was not finite in several steps in a row; each such step is
            skipped (weights, logits and buffers as before it) and counted.
    """
    while state.epoch < plan.epochs:
        epoch, started = state.epoch, time.perf_counter()
        tau, learning_rate = plan.temperature(epoch), plan.learning_rate(epoch)
        for group in state.weight_optimizer.param_groups:
            group["lr"] = learning_rate
        learn = plan.hypergradient is not None and epoch >= plan.warmup_epochs
        for train, valid in task.steps(epoch, state.step):
            _step(task, state, plan, streams, train, valid, tau, learn)
            state.step += 1
            totals = state.totals
            yield StepRecord(
                epoch,
                state.step,
                totals.get("train_loss", 0.0) / max(totals.get("train_images", 0), 1),
                totals.get("train_correct", 0) / max(totals.get("train_images", 0), 1),
                tau,
                float(torch.cat([_entropy(p) for p in _probabilities(plan, state)]).mean()),
            )
        _add(state.totals, seconds=time.perf_counter() - started)
        record = _epoch_record(task, state, plan, streams, tau, learning_rate)
        state.epoch, state.step, state.totals = epoch + 1, 0, {}
        state.winners = record.architecture
        yield record


def _step(
    task: SearchTask,
    state: SearchState,
    plan: SearchPlan,
    streams: Streams,
    train: Objective,
    valid: Objective,
    tau: float,
    learn: bool,
) -> None:
    """One step on the weights and, when `learn`, one on the logits, in the plan's order."""

    def draws(purpose: str) -> Callable[[Sequence[Tensor]], list[Sample]]:
        return lambda alpha: draw(plan.sampler, alpha, tau, streams, purpose, state.epoch, state.step)

    def architecture_step() -> bool:
        assert plan.hypergradient is not None
        problem = Problem(
            train,
            valid,
            draws("architecture"),
            task.weights,
            task.buffers,
            weight_step(state.weight_optimizer),
        )
        gradient, outcome = plan.hypergradient(problem, state.logits)
        size = _norm(gradient)
        if math.isfinite(size):
            _apply(state.architecture_optimizer, state.logits, gradient, size, plan.architecture_clip)
            _add(state.totals, valid_steps=1, alpha_norm=size)
            _add(state.totals, **_counts("valid", outcome))
        return math.isfinite(size)

    def weights_step(joint: bool) -> bool:
        """`joint`: the logits descend the same loss, from the same backward pass."""
        alpha = state.logits if joint else [a.detach() for a in state.logits]
        buffers = [b.clone() for b in task.buffers]
        outcome = train(draws("weights")(alpha))
        # a weight whose candidate did not run has no gradient, and the optimizer leaves it alone
        both = torch.autograd.grad(
            outcome.loss, [*task.weights, *(alpha if joint else [])], allow_unused=True
        )
        gradient, alpha_gradient = both[: len(task.weights)], both[len(task.weights) :]
        size, alpha_size = _norm(gradient), _norm(alpha_gradient)
        if not math.isfinite(size + alpha_size):
            with torch.no_grad():
                for buffer, saved in zip(task.buffers, buffers, strict=True):
                    buffer.copy_(saved)
            return False
        _apply(state.weight_optimizer, task.weights, gradient, size, plan.weight_clip)
        _add(state.totals, train_steps=1, weight_norm=size)
        _add(state.totals, **_counts("train", outcome))
        if joint:
            _apply(state.architecture_optimizer, alpha, alpha_gradient, alpha_size, plan.architecture_clip)
            _add(state.totals, joint_steps=1, alpha_norm=alpha_size)
        return True

    joint = learn and isinstance(plan.hypergradient, SingleLevel)
    separate = learn and not joint
    fine = True
    if separate and plan.architecture_first:
        fine = architecture_step()
    fine = weights_step(joint) and fine
    if separate and not plan.architecture_first:
        fine = architecture_step() and fine
    state.skipped_in_a_row = 0 if fine else state.skipped_in_a_row + 1
    if not fine:
        _add(state.totals, skipped_steps=1)
    if state.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
        raise WorkError(
            f"the loss or its gradient was not finite in {state.skipped_in_a_row} steps in a row "
            f"(epoch {state.epoch}, step {state.step}): lower weights.learning_rate, set weights.clip, "
            "or check the data for extreme values"
        )


def _norm(gradient: Sequence[Tensor | None]) -> float:
    """L2 norm over all tensors."""
    present = [g for g in gradient if g is not None]
    return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(present)))) if present else 0.0


def _apply(
    optimizer: torch.optim.Optimizer | None,
    parameters: Sequence[Tensor],
    gradient: Sequence[Tensor | None],
    size: float,
    clip: float | None,
) -> None:
    """Clip the gradient of L2 norm `size` and take the step."""
    assert optimizer is not None
    if clip is not None and size > clip:
        torch._foreach_mul_([g for g in gradient if g is not None], clip / (size + 1e-6))
    for parameter, g in zip(parameters, gradient, strict=True):
        parameter.grad = g
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def draw(
    sampler: Sampler, alpha: Sequence[Tensor], tau: float, streams: Streams, purpose: str, *indices: int
) -> list[Sample]:
    """One sample per group from the stream (purpose, indices): the same at every call."""
    generator = streams.generator(f"sampler/{purpose}", *indices)
    return [sampler(a, tau, generator) for a in alpha]


def weight_step(optimizer: torch.optim.SGD) -> WeightStep:
    """What the next step of `optimizer` will be, for an unrolled hypergradient."""
    group = optimizer.param_groups[0]
    velocities = [optimizer.state.get(p, {}).get("momentum_buffer") for p in group["params"]]
    return WeightStep(group["lr"], group["momentum"], group["weight_decay"], velocities)


def _counts(part: str, outcome: Outcome) -> dict[str, float]:
    return {
        f"{part}_loss": float(outcome.task_loss) * outcome.images,
        f"{part}_correct": float(outcome.correct),
        f"{part}_images": outcome.images,
    }


def _add(totals: dict[str, float], **values: float) -> None:
    for key, value in values.items():
        totals[key] = totals.get(key, 0.0) + value


def _probabilities(plan: SearchPlan, state: SearchState) -> list[Tensor]:
    return [plan.sampler.probabilities(a.detach()) for a in state.logits]


def _entropy(probabilities: Tensor) -> Tensor:
    """Shannon entropy of each row, in nats. [E, K] -> [E]."""
    entropy: Tensor = torch.special.entr(probabilities).sum(dim=-1)
    return entropy


def _mean(totals: dict[str, float], total: str, count: str) -> float:
    return totals[total] / totals[count] if totals.get(count) else float("nan")


def _epoch_record(
    task: SearchTask, state: SearchState, plan: SearchPlan, streams: Streams, tau: float, learning_rate: float
) -> EpochRecord:
    totals = state.totals
    if totals.get("valid_images"):
        valid = (_mean(totals, "valid_loss", "valid_images"), _mean(totals, "valid_correct", "valid_images"))
    else:  # no architecture step looked at the validation part in this epoch
        logits = [a.detach() for a in state.logits]
        valid = task.evaluate(
            lambda step: draw(plan.sampler, logits, tau, streams, "evaluation", state.epoch, step)
        )
    probabilities = _probabilities(plan, state)
    rows = {
        name: row
        for group, p in zip(task.groups, probabilities, strict=True)
        for name, row in zip(group.names, p, strict=True)
    }
    # the winner is the largest logit: a sampler whose probabilities are all equal has one, too
    architecture = {
        name: group.candidates[k]
        for group, a in zip(task.groups, state.logits, strict=True)
        for name, k in zip(group.names, a.argmax(dim=-1).tolist(), strict=True)
    }
    entropy = {name: float(_entropy(row)) for name, row in rows.items()}
    return EpochRecord(
        epoch=state.epoch,
        step=(state.epoch + 1) * task.steps_per_epoch,
        seconds=totals["seconds"],
        tau=tau,
        learning_rate=learning_rate,
        train_loss=_mean(totals, "train_loss", "train_images"),
        train_accuracy=_mean(totals, "train_correct", "train_images"),
        valid_loss=valid[0],
        valid_accuracy=valid[1],
        cost=plan.expected_cost(probabilities) if plan.expected_cost else None,
        entropy=entropy,
        entropy_mean=sum(entropy.values()) / len(entropy),
        probabilities={name: row.tolist() for name, row in rows.items()},
        alpha_gradient_norm=_mean(
            totals, "alpha_norm", "valid_steps" if "valid_steps" in totals else "joint_steps"
        ),
        weight_gradient_norm=_mean(totals, "weight_norm", "train_steps"),
        skipped_steps=int(totals.get("skipped_steps", 0)),
        architecture=architecture,
        changed=[name for name, winner in architecture.items() if state.winners.get(name, winner) != winner],
    )
