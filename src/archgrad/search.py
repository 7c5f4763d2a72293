"""The search loop: alternating steps on weights and architecture logits.

A generator: it yields a `StepRecord` after every step and an `EpochRecord` after every epoch, and the
caller decides what to write, show, save and when to stop. Between two yields the `SearchState` is
complete, so a checkpoint of it resumes bit for bit. E choices × K candidates.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from archgrad.choice import Group, Sample
from archgrad.errors import WorkError
from archgrad.gradient_step import MOST_SKIPPED_IN_A_ROW, add, descend, gradient_norm, mean
from archgrad.hypergradients.single_level import SingleLevel
from archgrad.problem import Objective, Problem, WeightStep
from archgrad.randomness import Streams
from archgrad.samplers.sampler import Sampler
from archgrad.search_records import EpochRecord, StepRecord, counts, epoch_record, step_record
from archgrad.search_state import SearchPlan, SearchState


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


def search(
    task: SearchTask, state: SearchState, plan: SearchPlan, streams: Streams
) -> Iterator[StepRecord | EpochRecord]:
    """Search from `state` to the last epoch of `plan`.

    Raises:
        WorkError: a loss or a gradient was not finite in several steps in a row; each such step is
            not taken (what it would have moved stays as it was; where weights and logits alternate, the
            other half is taken if it is finite) and the step is counted as skipped.
    """
    while state.epoch < plan.epochs:
        started = time.perf_counter()
        for group in state.weight_optimizer.param_groups:
            group["lr"] = plan.learning_rate(state.epoch)
        for train, valid in task.steps(state.epoch, state.step):
            _step(task, state, plan, streams, train, valid)
            state.step += 1
            add(state.totals, seconds=time.perf_counter() - started)
            yield step_record(state, plan)
            started = time.perf_counter()
        validation = _validation(task, state, plan, streams)
        add(state.totals, seconds=time.perf_counter() - started)
        record = epoch_record(task.groups, state, plan, task.steps_per_epoch, validation)
        state.epoch, state.step, state.totals = state.epoch + 1, 0, {}
        state.winners = record.architecture
        yield record


def _step(
    task: SearchTask,
    state: SearchState,
    plan: SearchPlan,
    streams: Streams,
    train: Objective,
    valid: Objective,
) -> None:
    """One step on the weights and, when the plan learns, one on the logits, in the plan's order."""
    learns = plan.learns(state.epoch)
    # single level: the logits descend the weights' loss, from the same backward pass
    joint = learns and isinstance(plan.hypergradient, SingleLevel)
    before = learns and not joint and plan.architecture_first
    after = learns and not joint and not plan.architecture_first
    finite = not before or _architecture_step(task, state, plan, streams, train, valid)
    finite &= _weight_step(task, state, plan, streams, train, joint)
    finite &= not after or _architecture_step(task, state, plan, streams, train, valid)
    if finite:
        state.skipped_in_a_row = 0
        return
    add(state.totals, skipped_steps=1)
    state.skipped_in_a_row += 1
    if state.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
        raise WorkError(
            f"the loss or its gradient was not finite in {state.skipped_in_a_row} steps in a row "
            f"(epoch {state.epoch}, step {state.step}): lower weights.learning_rate, set weights.clip, "
            "or check the data for extreme values"
        )


def _architecture_step(
    task: SearchTask,
    state: SearchState,
    plan: SearchPlan,
    streams: Streams,
    train: Objective,
    valid: Objective,
) -> bool:
    """One step on the logits; returns whether it was finite, hence taken."""
    assert plan.hypergradient is not None
    assert state.architecture_optimizer is not None
    problem = Problem(
        train,
        valid,
        _drawing(state, plan, streams, "architecture"),
        task.weights,
        task.buffers,
        weight_step(state.weight_optimizer),
    )
    gradient, outcome = plan.hypergradient(problem, state.logits)
    norm = gradient_norm(gradient)
    if not math.isfinite(norm + float(outcome.task_loss)):
        return False
    descend(state.architecture_optimizer, state.logits, gradient, norm, plan.architecture_clip)
    add(state.totals, alpha_steps=1, alpha_norm=norm, **counts("valid", outcome))
    return True


def _weight_step(
    task: SearchTask, state: SearchState, plan: SearchPlan, streams: Streams, train: Objective, joint: bool
) -> bool:
    """One step on the weights and, when `joint`, on the logits; returns whether it was taken."""
    alpha = state.logits if joint else [a.detach() for a in state.logits]
    buffers = [b.clone() for b in task.buffers]
    outcome = train(_drawing(state, plan, streams, "weights")(alpha))
    # a weight whose candidate did not run has no gradient, and the optimizer leaves it alone
    both = torch.autograd.grad(outcome.loss, [*task.weights, *(alpha if joint else [])], allow_unused=True)
    gradient, alpha_gradient = both[: len(task.weights)], both[len(task.weights) :]
    norm, alpha_norm = gradient_norm(gradient), gradient_norm(alpha_gradient)
    if not math.isfinite(norm + alpha_norm + float(outcome.task_loss)):
        with torch.no_grad():
            for buffer, saved in zip(task.buffers, buffers, strict=True):
                buffer.copy_(saved)  # BatchNorm statistics saw the bad batch
        return False
    descend(state.weight_optimizer, task.weights, gradient, norm, plan.weight_clip)
    add(state.totals, train_steps=1, weight_norm=norm, **counts("train", outcome))
    if joint:
        assert state.architecture_optimizer is not None
        descend(state.architecture_optimizer, alpha, alpha_gradient, alpha_norm, plan.architecture_clip)
        add(state.totals, alpha_steps=1, alpha_norm=alpha_norm)
    return True


def _validation(
    task: SearchTask, state: SearchState, plan: SearchPlan, streams: Streams
) -> tuple[float, float]:
    """(loss, accuracy) of the epoch: of its architecture steps, else of a pass over the validation part."""
    totals = state.totals
    if totals.get("valid_images"):
        return mean(totals, "valid_loss", "valid_images"), mean(totals, "valid_correct", "valid_images")
    logits = [a.detach() for a in state.logits]
    tau = plan.temperature(state.epoch)
    return task.evaluate(
        lambda step: draw(plan.sampler, logits, tau, streams, "evaluation", state.epoch, step)
    )


def _drawing(
    state: SearchState, plan: SearchPlan, streams: Streams, purpose: str
) -> Callable[[Sequence[Tensor]], list[Sample]]:
    tau = plan.temperature(state.epoch)
    return lambda alpha: draw(plan.sampler, alpha, tau, streams, purpose, state.epoch, state.step)


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
    return WeightStep(group["lr"], group["momentum"], group["weight_decay"], velocities, group["nesterov"])
