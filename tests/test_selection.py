"""Selection by perturbation on tasks whose answer is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from archgrad.choice import Group, Sample
from archgrad.hypergradients.first_order import FirstOrder
from archgrad.policy import Policy, settle
from archgrad.problem import Objective, Outcome
from archgrad.randomness import Streams
from archgrad.samplers.softmax import Softmax
from archgrad.samplers.straight_through import StraightThrough
from archgrad.search_records import StepRecord
from archgrad.search_state import SearchPlan, SearchState
from archgrad.selection import Decided, chosen_by, select, selected

PLAIN = Group(("a", "b", "c"), ("x", "y"))
CELL = Group(("none", "skip", "conv"), ("cell/3<-0", "cell/3<-1", "cell/3<-2"))


@dataclass
class Planted:
    """Accuracy Σ z·value over all choices; the weights are one number with the loss w²."""

    group: Group
    value: Tensor
    drawn: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.groups = (self.group,)
        self.weights = [torch.ones(1, requires_grad=True)]
        self.buffers: list[Tensor] = []
        self.steps_per_epoch = 2

    def steps(self, epoch: int, start: int) -> Iterator[tuple[Objective, Objective]]:
        for _ in range(start, 2):
            yield self._objective, self._objective

    def _objective(self, samples: Sequence[Sample]) -> Outcome:
        self.drawn.append(samples[0].weights.detach().clone())
        loss = self.weights[0].square().sum() + 0 * samples[0].weights.sum()
        return Outcome(loss, loss.detach(), torch.tensor(1), 1)

    def evaluate(self, draw: Callable[[int], list[Sample]]) -> tuple[float, float]:
        (sample,) = draw(0)
        assert all(
            set(row) == set(z.nonzero().flatten().tolist())
            for row, z in zip(sample.active or (), sample.weights, strict=True)
        )
        score = float((sample.weights * self.value).sum())
        return -score, score


def beginning(task: Planted, logits: Tensor, sampler: Any) -> tuple[SearchState, SearchPlan]:
    alpha = logits.clone().requires_grad_()
    state = SearchState(
        [alpha], torch.optim.SGD(task.weights, lr=0.1), torch.optim.SGD([alpha], lr=0.0), epoch=3
    )
    plan = SearchPlan(Policy(task.groups, sampler), FirstOrder(), 3, lambda e: 1.0, lambda e: 0.1)
    return state, plan


def decisions(task: Planted, state: SearchState, plan: SearchPlan, **settings: Any) -> list[Decided]:
    found = select(task, state, plan, Streams(0), **{"prune": False, "tune_epochs": 1, **settings})
    return [record for record in found if isinstance(record, Decided)]


@pytest.mark.parametrize("measure", ["accuracy", "loss"])
def test_it_keeps_the_candidate_whose_removal_costs_most(measure: str) -> None:
    value = torch.tensor([[1.0, 9.0, 2.0], [3.0, 0.5, 4.0]])
    logits = torch.tensor([[2.0, 0.5, 0.0], [0.1, 0.5, 0.0]])
    task = Planted(PLAIN, value)
    found = decisions(task, *beginning(task, logits, Softmax()), measure=measure)
    contribution = torch.softmax(logits, -1) * value
    best = {n: PLAIN.candidates[int(contribution[e].argmax())] for e, n in enumerate(PLAIN.names)}
    assert dict(selected(found, task.groups)) == best
    assert best == {"x": "b", "y": "c"}  # not the most probable ones, a and b
    for one in found:
        e, before = PLAIN.names.index(one.choice), found[: found.index(one)]
        rest = sum(
            float(value[PLAIN.names.index(d.choice), PLAIN.candidates.index(d.chosen)])
            if d
            else float(contribution[i].sum())
            for i in range(2)
            if i != e
            for d in [next((b for b in before if b.choice == PLAIN.names[i]), None)]
        )
        for k, candidate in enumerate(PLAIN.candidates):  # nothing is renormalised
            left = float(contribution[e].sum() - contribution[e, k]) + rest
            assert one.scores[candidate] == pytest.approx(left, rel=1e-5)


@pytest.mark.parametrize("sampler", [Softmax(), StraightThrough()])
def test_the_supernet_is_tuned_around_each_decision(sampler: Any) -> None:
    task = Planted(PLAIN, torch.tensor([[1.0, 9.0, 2.0], [3.0, 0.5, 4.0]]))
    state, plan = beginning(task, torch.zeros(2, 3), sampler)
    found = decisions(task, state, plan, tune_epochs=2)
    assert state.epoch == 3 + 2 * len(found)
    # 2 epochs of 2 steps, each with a draw for the weights and one for the logits
    assert len(task.drawn) == 8 * len(found)
    first = PLAIN.names.index(found[0].choice)
    one_hot = torch.eye(3)[PLAIN.candidates.index(found[0].chosen)]
    assert all(torch.equal(z[first], one_hot) for z in task.drawn)
    other = [z[1 - first] for z in task.drawn[:8]]
    assert not all(torch.equal(z, torch.eye(3)[PLAIN.candidates.index(found[1].chosen)]) for z in other)
    # lr 0.1 / 10, loss w²: each step multiplies w by 1 − 0.02
    assert task.weights[0].item() == pytest.approx(0.98 ** (4 * len(found)), rel=1e-5)


def test_a_node_keeps_the_two_edges_that_it_misses_most() -> None:
    value = torch.tensor([[100.0, 1.0, 2.0], [100.0, 6.0, 3.0], [100.0, 4.0, 5.0]])
    task = Planted(CELL, value)
    found = decisions(task, *beginning(task, torch.zeros(3, 3), Softmax()), prune=True)
    assert [d.choice for d in found][-1] == "cell/3"
    assert all("none" not in d.scores for d in found)
    value[:, 0] = 0.0
    assert dict(selected(found, task.groups)) == {
        "cell/3<-0": "none",
        "cell/3<-1": "skip",
        "cell/3<-2": "conv",
    }
    assert set(found[-1].chosen.split(" ")) == {"cell/3<-1", "cell/3<-2"}


def test_it_goes_on_where_it_was_interrupted() -> None:
    value = torch.tensor([[1.0, 9.0, 2.0], [3.0, 0.5, 4.0]])
    task = Planted(PLAIN, value)
    whole = decisions(task, *beginning(task, torch.zeros(2, 3), Softmax()))
    again = Planted(PLAIN, value)
    state, plan = beginning(again, torch.zeros(2, 3), Softmax())
    running = select(again, state, plan, Streams(0), prune=False, tune_epochs=1)
    first = next(record for record in running if isinstance(record, Decided))
    rest = decisions(again, state, plan, done=[first])
    assert [first, *rest] == whole
    assert torch.equal(again.weights[0], task.weights[0])


def test_progress_is_told() -> None:
    task = Planted(PLAIN, torch.ones(2, 3))
    state, plan = beginning(task, torch.zeros(2, 3), Softmax())
    records = list(select(task, state, plan, Streams(0), prune=False, tune_epochs=1))
    assert [isinstance(r, StepRecord) for r in records] == [True, True, False] * 2


def test_settled_choices_have_no_gradient_and_left_out_ones_no_weight() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    samples = Policy((PLAIN,), Softmax(), settled={"x": "c"}).draw([logits], 1.0, torch.Generator())
    assert samples[0].weights[0].tolist() == [0.0, 0.0, 1.0]
    assert samples[0].active == ((2,), (0, 1, 2))
    (gradient,) = torch.autograd.grad((samples[0].weights * torch.arange(6.0).view(2, 3)).sum(), logits)
    assert not gradient[0].any()
    assert gradient[1].any()
    hard = Sample(torch.eye(3)[:2], ((0,), (1,)), one_hot=True)
    assert settle([hard], (PLAIN,), {"y": "a"})[0].one_hot
    (left_out,) = settle([hard], (PLAIN,), {"y": "none"})
    assert left_out.weights[1].tolist() == [0.0, 0.0, 0.0]
    assert left_out.active == ((0,), ())
    assert not left_out.one_hot
    assert settle([hard], (PLAIN,), {})[0] is hard


def test_the_edges_of_a_node_are_no_choice() -> None:
    decided = [
        Decided("cell/3<-0", {"skip": 0.1, "conv": 0.2}, "skip"),
        Decided("cell/3", {"cell/3<-0": 0.3, "cell/3<-1": 0.1, "cell/3<-2": 0.2}, "cell/3<-1 cell/3<-2"),
    ]
    assert chosen_by(decided, (CELL,)) == {"cell/3<-0": "none"}
