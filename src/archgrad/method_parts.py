"""From a configuration to the parts of its method, whatever is searched: a network or a landscape."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from archgrad.budgets.budget import Budget
from archgrad.budgets.hold import Hold
from archgrad.choice import Group
from archgrad.config import ArchitectureLogits, Config, Cost
from archgrad.controllers import CONTROLLERS
from archgrad.errors import UserError
from archgrad.hypergradients import HYPERGRADIENTS
from archgrad.penalties import PENALTIES
from archgrad.penalties.penalty import Penalty, PricedCost, settings_of
from archgrad.policy import Policy
from archgrad.regularizers import REGULARIZERS, Regularizer
from archgrad.samplers import SAMPLERS
from archgrad.schedules import SCHEDULES, cosine, epoch_progress
from archgrad.search_state import SearchPlan, argmax_architecture


def policy_of(config: Config, groups: Sequence[Group]) -> Policy:
    """How the method draws architectures of these groups.

    Raises:
        UserError: the groups have a blend and the method takes only score-function gradients.
    """
    if config.scores and any(not group.chosen for group in groups):
        raise UserError(
            f"hypergradient.name: {config.hypergradient.name!r} learns from how probable a draw is, and the "
            "weights of edges (space.edge_normalisation) are not drawn: leave one of the two out"
        )
    return Policy(
        tuple(groups),
        SAMPLERS[config.sampler.name](**config.sampler.settings()),
        CONTROLLERS[config.controller.name](**config.controller.settings()),
    )


def penalty_of(config: Config, cost: PricedCost) -> Penalty | None:
    """The price on the cost in the architecture's loss, or None.

    Raises:
        UserError: settings that the form cannot take, or with this cost.
    """
    if not config.penalised:
        return None
    form, given = PENALTIES[config.cost.form], config.cost.model_dump(exclude={"name", "form", "target"})
    settings = {key: given[key] for key in settings_of(form) if given.get(key) is not None}
    if "target" in settings_of(form):
        settings["target"] = target_of(config.cost)
    for key, parameter in inspect.signature(form).parameters.items():
        if key in settings_of(form) and key not in settings and parameter.default is parameter.empty:
            raise UserError(f"cost.{key}: the form {config.cost.form!r} needs it; write e.g. cost.{key}=1")
    penalty: Penalty = form(cost, **settings)
    return penalty


def target_of(cost: Cost) -> float:
    """What the form aims at, in the cost's base unit.

    >>> target_of(Cost(name="macs", form="mnasnet", target="60M"))
    60000000.0

    Raises:
        UserError: none is given, or it does not read as a number with a unit.
    """
    if cost.target is None:
        raise UserError(f"cost.target: the form {cost.form!r} aims at a cost; write e.g. cost.target=60M")
    try:
        budget = Budget.parse(f"{cost.name}={cost.target}")
    except UserError as error:
        raise UserError(f"cost.target: {str(error).removeprefix('budget ')}") from None
    if budget.least is not None or budget.table is not None:
        raise UserError(
            f"cost.target: a price aims at one number, without a tolerance or a table, got {cost.target!r}; "
            f"to hold the search within a tolerance, write budget.{cost.name}={cost.target}"
        )
    return budget.target


def regularizer_of(config: Config) -> Regularizer | None:
    """The term on the logits, or None."""
    if config.regularizer.name == "none" or not config.regularizer.strength:
        return None
    term, strength = REGULARIZERS[config.regularizer.name], config.regularizer.strength
    return lambda probabilities: strength * term(probabilities)


def search_plan(
    config: Config,
    groups: Sequence[Group],
    *,
    searches: int | None = None,
    expected_cost: Callable[[Sequence[Tensor]], float] | None = None,
    hold: Hold | None = None,
    derive: Callable[[Sequence[Group], Sequence[Tensor]], Mapping[str, str]] = argmax_architecture,
) -> SearchPlan:
    """The method's parts for these groups of choices; see `SearchPlan`."""
    tau, weights, epochs = config.temperature, config.weights, config.search.epochs
    schedule, hypergradient = SCHEDULES[tau.schedule], config.hypergradient
    warmup = config.search.warmup_epochs if config.learns else 0
    return SearchPlan(
        policy=policy_of(config, groups),
        hypergradient=HYPERGRADIENTS[hypergradient.name](**hypergradient.settings())
        if config.learns
        else None,
        epochs=epochs,
        # annealed while the logits learn: from tau.start in the first such epoch
        temperature=lambda epoch: schedule(
            tau.start, tau.end, epoch_progress(max(0, epoch - warmup), epochs - warmup)
        ),
        learning_rate=lambda epoch: cosine(
            weights.learning_rate, weights.final_learning_rate, epoch / epochs
        ),
        weight_clip=weights.clip,
        architecture_clip=config.architecture.clip,
        relative_clip=config.architecture.relative_clip,
        regularizer=regularizer_of(config),
        hold=hold if config.learns else None,
        searches=searches,
        architecture_first=config.search.order == "architecture_first",
        architecture_every=config.search.architecture_every,
        warmup_epochs=warmup,
        expected_cost=expected_cost,
        derive=derive,
    )


def architecture_optimizer(theta: Sequence[Tensor], settings: ArchitectureLogits) -> torch.optim.Optimizer:
    """The optimizer of the logits."""
    if settings.optimizer == "sgd":
        return torch.optim.SGD(theta, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    return torch.optim.Adam(
        theta, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
    )
