"""Searches within budgets on a landscape: S at once, one per seed. E choices × K candidates.

What is derived meets every budget: the most probable such architecture, or of several of the most probable
the one with the least loss on what is searched. They are found by going through all architectures, so no cost
needs to be a sum over choices here.

A price alone cannot do it. At a budget two architectures, one below and one above, may be worth the same, and
the search ends with a mixture of both; and one that is best under the budget without being best at any price
is never preferred. A few evaluations at the end close both gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from archgrad.budgets.budget import Budget
from archgrad.budgets.hold import Hold
from archgrad.errors import UserError
from archgrad.lab.contenders import Contender
from archgrad.lab.convergence import beginnings
from archgrad.landscapes.cost import LandscapeCost, all_indices
from archgrad.landscapes.landscape import Landscape
from archgrad.landscapes.task import LandscapeTask
from archgrad.method_parts import architecture_optimizer, search_plan
from archgrad.randomness import Streams
from archgrad.search import search
from archgrad.search_state import SearchState


@dataclass(frozen=True)
class Found:
    """How S searches within B budgets ended.

    argmax: [S, E], the most probable architectures. derived: [S, E], those of them that meet every budget.
    argmax_costs, costs: [S, B] of these. expected: [S, B], the expected costs that were held at the end.
    met: [S], whether the argmax met every budget.
    lost: [S], log-probability of the argmax minus that of the derived one, in nats; never negative.
    prices: [S, B, 2], the multipliers at the end.
    """

    argmax: Tensor
    derived: Tensor
    argmax_costs: Tensor
    costs: Tensor
    expected: Tensor
    met: Tensor
    lost: Tensor
    prices: Tensor


def search_within(
    contender: Contender,
    landscape: Landscape,
    budgets: Sequence[Budget],
    costs: Sequence[LandscapeCost],
    *,
    searches: int,
    seed: int = 0,
    candidates: int = 1,
) -> Found:
    """S searches by one method, held to the budgets (see `hold`), and what is derived from each.

    Args:
        contender: the method; its ``search.epochs`` are the steps.
        landscape: what is searched.
        budgets: what the derived architecture has to meet.
        costs: the cost of each budget.
        searches: S.
        seed: root of all random streams.
        candidates: so many of the most probable architectures that meet the budgets are evaluated.

    Raises:
        UserError: fewer than one search or candidate; a budget that no architecture meets, or all together.
        WorkError: the search diverged.
    """
    if searches < 1 or candidates < 1:
        raise UserError(f"wanted one search and one candidate or more, got {searches} and {candidates}")
    (group,) = landscape.groups
    index = all_indices(len(group.names), len(group.candidates))
    allowed = meeting(index, budgets, costs)
    config, streams = contender.config, Streams(seed)
    plan = search_plan(config, landscape.groups, searches=searches)
    hold = Hold(tuple(budgets), tuple(costs), landscape.groups, plan.epochs, gates=plan.policy.gates)
    plan = search_plan(config, landscape.groups, searches=searches, hold=hold)
    task = LandscapeTask(landscape, searches, "all", 1, 0.0, streams, plan.policy.gates)
    theta = beginnings(plan.policy, config.architecture, searches, streams)
    state = SearchState(theta, None, architecture_optimizer(theta, config.architecture))
    for _ in search(task, state, plan, streams):
        pass
    (p,) = plan.policy.probabilities([t.detach() for t in state.logits])
    assert state.hold is not None
    argmax = p.argmax(dim=-1)
    position, lost = pick_within(p, index, allowed, landscape, candidates)
    derived = index[position]
    return Found(
        argmax,
        derived,
        torch.stack([cost.values(argmax) for cost in costs], dim=-1),
        torch.stack([cost.values(derived) for cost in costs], dim=-1),
        hold.expected([p], state.hold.taken),
        meets(argmax, budgets, costs),
        lost,
        state.hold.multipliers,
    )


def meeting(index: Tensor, budgets: Sequence[Budget], costs: Sequence[LandscapeCost]) -> Tensor:
    """Which of the architectures [N, E] meet every budget, [N].

    Raises:
        UserError: none of them.
    """
    for budget, cost in zip(budgets, costs, strict=True):
        if not bool(meets(index, [budget], [cost]).any()):
            cheapest, dearest = cost.bounds()
            raise UserError(
                f"budget {budget}: no architecture meets it; the cheapest costs {budget.show(cheapest)}, the "
                f"dearest {budget.show(dearest)}"
            )
    allowed = meets(index, budgets, costs)
    if not bool(allowed.any()):
        raise UserError(
            f"budgets {' and '.join(map(str, budgets))}: no architecture meets all of them; widen one"
        )
    return allowed


def meets(index: Tensor, budgets: Sequence[Budget], costs: Sequence[LandscapeCost]) -> Tensor:
    """Which of the architectures [N, E] meet every budget, [N]."""
    every = torch.ones(len(index), dtype=torch.bool)
    for budget, cost in zip(budgets, costs, strict=True):
        every &= torch.tensor([budget.met(value) for value in cost.values(index).tolist()])
    return every


def pick_within(
    p: Tensor, index: Tensor, allowed: Tensor, landscape: Landscape, candidates: int = 1
) -> tuple[Tensor, Tensor]:
    """Of the most probable allowed architectures of each search the best, and what it lost in probability.

    Args:
        p: probabilities [S, E, K]; the choices are independent.
        index: all architectures [N, E].
        allowed: which of them may be derived, [N].
        landscape: whose loss decides between the candidates.
        candidates: how many of them are evaluated; of one, nothing is.

    Returns:
        positions in `index` [S], and log p(argmax) − log p(derived) in nats [S].
    """
    log_p = p.clamp_min(torch.finfo(p.dtype).tiny).log().double()
    score = torch.stack([log_p[:, e, index[:, e]] for e in range(index.shape[1])]).sum(dim=0)
    best = score.amax(dim=-1)
    count = min(candidates, int(allowed.sum()))
    value, position = score.masked_fill(~allowed, -torch.inf).topk(count, dim=-1)
    chosen = landscape.values(index[position]).argmin(dim=-1, keepdim=True)
    return position.gather(-1, chosen).squeeze(-1), best - value.gather(-1, chosen).squeeze(-1)
