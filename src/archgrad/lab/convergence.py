"""Searches on a landscape: S at once, one per seed, by the same loop that searches networks.

S searches, T recorded steps, E choices × K candidates.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from archgrad.config import ArchitectureLogits
from archgrad.errors import UserError
from archgrad.lab.contenders import Contender
from archgrad.landscapes.landscape import Landscape
from archgrad.landscapes.task import LandscapeTask, Observe
from archgrad.method_parts import architecture_optimizer, search_plan
from archgrad.policy import Policy
from archgrad.randomness import Streams
from archgrad.search import search
from archgrad.search_records import EpochRecord
from archgrad.search_state import SearchState

RECORDED = 100
"""Steps at which the curves are taken, about."""
SKIP_SHARE = 0.5
"""An architecture with more than this share of skip connections counts as collapsed."""


@dataclass(frozen=True)
class Course:
    """What S searches did.

    steps: [T], the recorded steps; 0 is before the first. tau: [T].
    regret: [T, S], true loss of the argmax architecture minus that of the best.
    entropy: [T, S], mean over choices, in nats. margin: [T, S], winner's probability minus the runner-up's.
    stability: [T, S], share of choices whose argmax is that of the recorded step before (1 at the first).
    hit: [S], the first step at which the argmax is an optimum of what is searched, −1 for never.
    final: [S, E], candidate indices of the argmax at the end.
    seconds: for all searches together.
    """

    name: str
    steps: list[int]
    tau: list[float]
    regret: Tensor
    entropy: Tensor
    margin: Tensor
    stability: Tensor
    hit: Tensor
    final: Tensor
    seconds: float


def run(
    contender: Contender,
    landscape: Landscape,
    *,
    searches: int,
    seed: int = 0,
    observe: Observe = "all",
    step_noise: float = 0.0,
) -> Course:
    """S searches by one method. Where search s begins is drawn from a stream of its own.

    The stream is the same for every method, so those with the same controller, ``architecture.initial_mean``
    and ``initial_scale`` begin at the same logits.

    Args:
        contender: the method; its ``search.epochs`` are the steps.
        landscape: what is searched; its `truth` is what regret is measured on.
        searches: S.
        seed: root of all random streams.
        observe: "all", or "active": only candidates that ran have a gradient, as in a network.
        step_noise: standard deviation of an error of the loss that is fresh at every step.

    Raises:
        UserError: fewer than one search, or a number out of range.
        WorkError: the search diverged.
    """
    if searches < 1:
        raise UserError(f"wanted at least one search (--seeds), got {searches}")
    config, streams = contender.config, Streams(seed)
    plan = search_plan(config, landscape.groups, searches=searches)
    task = LandscapeTask(landscape, searches, observe, 1, step_noise, streams, plan.policy.gates)
    theta = beginnings(plan.policy, config.architecture, searches, streams)
    state = SearchState(theta, None, architecture_optimizer(theta, config.architecture))
    watch = _Watch(landscape, plan.policy, searches)
    every = max(1, plan.epochs // RECORDED)
    began = time.perf_counter()
    watch.look(0, plan.temperature(0), state.logits, record=True)
    for record in search(task, state, plan, streams):
        if isinstance(record, EpochRecord):
            last = record.epoch + 1 == plan.epochs
            watch.look(
                record.epoch + 1, record.tau, state.logits, record=last or (record.epoch + 1) % every == 0
            )
    return watch.course(contender.name, time.perf_counter() - began)


def beginnings(policy: Policy, settings: ArchitectureLogits, searches: int, streams: Streams) -> list[Tensor]:
    """θ of S searches, [S, …] each, search s from a stream of its own."""
    scale, mean = settings.initial_scale, settings.initial_mean
    each = (
        policy.controller.initial(policy.groups, streams.generator("logits", s), scale, mean)
        for s in range(searches)
    )
    return [torch.stack([t.detach() for t in row]).requires_grad_() for row in zip(*each, strict=True)]


class _Watch:
    """Collects the curves."""

    def __init__(self, landscape: Landscape, policy: Policy, searches: int) -> None:
        self.landscape, self.policy = landscape, policy
        self.threshold = _optimal_to(landscape)
        self.hit = torch.full((searches,), -1)
        self.index: Tensor | None = None
        self.recorded: Tensor | None = None
        self.loss = torch.empty(0)
        self.steps: list[int] = []
        self.tau: list[float] = []
        self.rows: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def look(self, step: int, tau: float, theta: Sequence[Tensor], *, record: bool) -> None:
        """Take note of where the searches are after `step` steps."""
        with torch.no_grad():
            (p,) = self.policy.probabilities([t.detach() for t in theta])
            index = p.argmax(dim=-1)
            if self.index is None or not torch.equal(index, self.index):
                self.loss = self.landscape.values(index)
            self.index = index
            self.hit[(self.hit < 0) & (self.loss <= self.threshold)] = step
            if record:
                self._record(step, tau, p, index)

    def _record(self, step: int, tau: float, p: Tensor, index: Tensor) -> None:
        truth = self.landscape.truth
        regret = truth.values(index) - truth.best
        share = p / p.sum(dim=-1, keepdim=True).clamp_min(1e-12)  # independent gates do not sum to one
        entropy = torch.special.entr(share).sum(dim=-1).mean(dim=-1)
        top = p.topk(min(2, p.shape[-1]), dim=-1).values
        margin = (top[..., 0] - top[..., -1]).mean(dim=-1)
        before = index if self.recorded is None else self.recorded
        stability = (index == before).double().mean(dim=-1)
        self.recorded = index
        self.steps.append(step)
        self.tau.append(tau)
        self.rows.append((regret, entropy.double(), margin.double(), stability))

    def course(self, name: str, seconds: float) -> Course:
        """Everything that was collected."""
        regret, entropy, margin, stability = (torch.stack(c) for c in zip(*self.rows, strict=True))
        assert self.index is not None
        return Course(
            name, self.steps, self.tau, regret, entropy, margin, stability, self.hit, self.index, seconds
        )


@dataclass(frozen=True)
class Outcome:
    """How S searches ended.

    regret: mean, standard error, median and quartiles over the seeds, in loss (0.01: one point of accuracy).
    optimum: share of the seeds whose argmax is an optimum of what was searched.
    top: share in the best percent of all architectures by true loss.
    skips: share that collapsed to skip connections; None where no candidate is a skip connection.
    steps_to_optimum: median over the seeds that came by it, None if none did; reached: their share.
    entropy, margin: means at the end. stability: mean over the last quarter of the recorded steps.
    """

    name: str
    searches: int
    regret: float
    regret_error: float
    regret_median: float
    regret_quartiles: tuple[float, float]
    optimum: float
    top: float
    skips: float | None
    reached: float
    steps_to_optimum: float | None
    entropy: float
    margin: float
    stability: float
    seconds: float


def outcome(course: Course, landscape: Landscape, threshold: float) -> Outcome:
    """Sum up a course; `threshold` is the true loss that the best percent of architectures do not exceed."""
    final = course.regret[-1]
    count = len(final)
    (group,) = landscape.groups
    skips = None
    if "skip_connect" in group.candidates:
        share = (course.final == group.candidates.index("skip_connect")).double().mean(dim=-1)
        skips = float((share > SKIP_SHARE).double().mean())
    reached = course.hit >= 0
    quartiles = torch.quantile(final, torch.tensor([0.25, 0.5, 0.75], dtype=final.dtype)).tolist()
    return Outcome(
        course.name,
        count,
        regret=float(final.mean()),
        regret_error=float(final.std() / count**0.5) if count > 1 else float("nan"),
        regret_median=quartiles[1],
        regret_quartiles=(quartiles[0], quartiles[2]),
        optimum=float((landscape.values(course.final) <= _optimal_to(landscape)).double().mean()),
        top=float((landscape.truth.values(course.final) <= threshold).double().mean()),
        skips=skips,
        reached=float(reached.double().mean()),
        steps_to_optimum=float(course.hit[reached].double().median()) if bool(reached.any()) else None,
        entropy=float(course.entropy[-1].mean()),
        margin=float(course.margin[-1].mean()),
        stability=float(course.stability[-(len(course.steps) // 4 or 1) :].mean()),
        seconds=course.seconds,
    )


def _optimal_to(landscape: Landscape) -> float:
    """The loss up to which an architecture is an optimum of what is searched: rounding is allowed for."""
    return landscape.best + 1e-9 * max(1.0, abs(landscape.worst - landscape.best))


def best_percent(landscape: Landscape, seed: int = 0, sample: int = 100_000) -> float:
    """The true loss that one percent of all architectures do not exceed.

    Exact up to `sample` architectures; beyond, the quantile of a uniform sample.
    """
    (group,) = landscape.groups
    choices, candidates = len(group.names), len(group.candidates)
    if candidates**choices <= sample:
        flat = torch.arange(candidates**choices)
        index = torch.stack(torch.unravel_index(flat, (candidates,) * choices), dim=-1)
    else:
        generator = Streams(seed).generator("lab/best percent")
        index = torch.randint(candidates, (sample, choices), generator=generator)
    losses = landscape.truth.values(index).sort().values
    return float(losses[max(0, -(-len(losses) // 100) - 1)])
