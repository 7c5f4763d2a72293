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

from archgrad.architecture_step import architecture_step
from archgrad.choice import Group, Sample
from archgrad.gradient_step import add, count_skipped, descend, gradient_norm, mean
from archgrad.problem import Draw, Objective, Problem, WeightStep
from archgrad.randomness import Streams
from archgrad.samplers.sampler import check_call
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
        UserError: a temperature that is not above 0, or logits that are not finite to begin with.
        WorkError: a loss or a gradient was not finite in several steps in a row; each such step is
            not taken (what it would have moved stays as it was; where weights and logits alternate, the
            other half is taken if it is finite) and the step is counted as skipped.
    """
    if plan.hold is not None and state.hold is None:
        state.hold = plan.hold.begin(state.logits, plan.searches)
    while state.epoch < plan.epochs:
        started = time.perf_counter()
        for logits in state.logits:
            check_call(logits, plan.temperature(state.epoch))
        for group in state.weight_optimizer.param_groups if state.weight_optimizer else ():
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
    step = state.epoch * task.steps_per_epoch + state.step
    learns = plan.learns(state.epoch) and step % plan.architecture_every == 0
    # single level: the logits descend the weights' loss, from the same backward pass
    joint = learns and getattr(plan.hypergradient, "joint", False)
    if learns and plan.hold is not None and not plan.policy.independent:
        # the draws have no closed expectation, so each is charged its own cost
        assert state.hold is not None
        p = plan.policy.probabilities([a.detach() for a in state.logits])
        valid = plan.hold.charged(valid, p, state.hold)
        train = plan.hold.charged(train, p, state.hold) if joint else train
    before = learns and not joint and plan.architecture_first
    after = learns and not joint and not plan.architecture_first
    finite = not before or _architecture_step(task, state, plan, streams, train, valid)
    if joint or state.weight_optimizer is not None:
        finite &= _weight_step(task, state, plan, streams, train, joint)
    finite &= not after or _architecture_step(task, state, plan, streams, train, valid)
    count_skipped(
        state,
        finite,
        "steps",
        "lower weights.learning_rate, set weights.clip, or check the data for extreme values",
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
    problem = Problem(
        train,
        valid,
        _drawing(state, plan, streams, "architecture"),
        task.weights,
        task.buffers,
        weight_step(state.weight_optimizer),
        policy=plan.policy,
        tau=plan.temperature(state.epoch),
        noise=lambda repeat: _noise(streams, "architecture", state, repeat),
        memory=state.memory,
    )
    gradient, outcome, memory = plan.hypergradient(problem, state.logits)
    finite = math.isfinite(float(outcome.task_loss))
    norm = architecture_step(state, plan, gradient) if finite else None
    if norm is None:
        return False
    state.memory = memory
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
    inputs = [*task.weights, *(alpha if joint else [])]
    both = torch.autograd.grad(outcome.loss.sum(), inputs, allow_unused=True)
    gradient, alpha_gradient = both[: len(task.weights)], both[len(task.weights) :]
    norm = gradient_norm(gradient)
    finite = math.isfinite(norm + float(outcome.task_loss))
    if joint and finite:
        by_alpha = [
            torch.zeros_like(a) if g is None else g for a, g in zip(alpha, alpha_gradient, strict=True)
        ]
        alpha_norm = architecture_step(state, plan, by_alpha)
        finite = alpha_norm is not None
        add(state.totals, alpha_steps=int(finite), alpha_norm=alpha_norm or 0.0)
    if not finite:
        with torch.no_grad():
            for buffer, saved in zip(task.buffers, buffers, strict=True):
                buffer.copy_(saved)  # BatchNorm statistics saw the bad batch
        return False
    if state.weight_optimizer is not None:
        descend(state.weight_optimizer, task.weights, gradient, norm, plan.weight_clip)
    add(state.totals, train_steps=1, weight_norm=norm, **counts("train", outcome))
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
        lambda step: plan.policy.draw(logits, tau, streams.generator("sampler/evaluation", state.epoch, step))
    )


def _drawing(state: SearchState, plan: SearchPlan, streams: Streams, purpose: str) -> Draw:
    """Draws of this step: the same noise at every call with the same repeat."""
    tau = plan.temperature(state.epoch)

    def draw(alpha: Sequence[Tensor], repeat: int = 0) -> list[Sample]:
        return plan.policy.draw(alpha, tau, _noise(streams, purpose, state, repeat))

    return draw


def _noise(streams: Streams, purpose: str, state: SearchState, repeat: int) -> torch.Generator:
    indices = (state.epoch, state.step, repeat) if repeat else (state.epoch, state.step)
    return streams.generator(f"sampler/{purpose}", *indices)


def weight_step(optimizer: torch.optim.SGD | None) -> WeightStep:
    """What the next step of `optimizer` will be, for an unrolled hypergradient."""
    if optimizer is None:
        return WeightStep()
    group = optimizer.param_groups[0]
    velocities = [optimizer.state.get(p, {}).get("momentum_buffer") for p in group["params"]]
    return WeightStep(group["lr"], group["momentum"], group["weight_decay"], velocities, group["nesterov"])
