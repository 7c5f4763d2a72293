"""Parts and settings of a method that do not go together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from archgrad.budgets.budget import parse_all
from archgrad.choice import Group, Sample
from archgrad.config import Config
from archgrad.costs import COSTS
from archgrad.costs.cost_table import CostTable
from archgrad.errors import UserError
from archgrad.hypergradients import HYPERGRADIENTS
from archgrad.method_parts import penalty_of, policy_of, target_of
from archgrad.penalties import PENALTIES
from archgrad.penalties.penalty import settings_of
from archgrad.problem import Outcome, Problem
from archgrad.randomness import Streams
from archgrad.samplers import SAMPLERS


def momentum_problems(config: Config) -> list[str]:
    """Nesterov's step looks ahead along the momentum, so there must be some."""
    return [
        f"{section}.nesterov: Nesterov's step needs {section}.momentum above 0"
        for section, part in (("weights", config.weights), ("train", config.train))
        if part.nesterov and part.momentum == 0
    ]


def schedule_problems(config: Config) -> list[str]:
    """A learning rate that falls by the same factor every epoch never reaches 0."""
    if config.train.schedule != "exponential" or config.train.final_learning_rate > 0:
        return []
    return ["train.final_learning_rate: an exponential schedule ends above 0; give e.g. 1e-4"]


def temperature_problems(config: Config) -> list[str]:
    """A schedule between two equal temperatures is none."""
    tau = config.temperature
    if not config.uses_temperature or tau.schedule == "constant" or tau.start != tau.end:
        return []
    problem = (
        f"temperature.schedule: {tau.schedule!r} from {tau.start:g} to {tau.end:g} goes nowhere; give both "
        "ends, e.g. temperature.start=10 temperature.end=0.1"
    )
    return [problem]


def warmup_problems(config: Config) -> list[str]:
    """The warm-up must leave epochs for the architecture."""
    if config.search.warmup_epochs < config.search.epochs:
        return []
    warmup, epochs = config.search.warmup_epochs, config.search.epochs
    return [f"search.warmup_epochs: {warmup} leaves no epoch of {epochs} for the architecture"]


def regularizer_problems(config: Config) -> list[str]:
    """Entropy is of probabilities that sum to 1, the 0-1 loss of gates that do not."""
    name, sampler = config.regularizer.name, config.sampler.name
    if name != "none" and not config.regularizer.strength:
        return [f"regularizer.strength: 0 leaves {name!r} out; give more, or set regularizer.name=none"]
    gates = getattr(SAMPLERS[sampler], "law", "argmax") == "gates"
    if name == "none" or gates == (name == "zero_one"):
        return []
    wanted = "exploration_bonus or decisiveness_penalty" if name == "zero_one" else "zero_one"
    kind = "independent gates" if gates else "probabilities that sum to 1"
    return [f"regularizer.name: {name!r} does not go with {kind}, as {sampler!r} has; use {wanted}"]


def budget_problems(config: Config) -> list[str]:
    """Budgets that cannot be read, that nothing holds, or that a penalty on the same cost would pull at."""
    if not config.budget:
        return []
    try:
        budgets = parse_all(config.budget)
    except UserError as error:
        return [str(error)]
    if config.reads_text:
        return ["budget: networks on texts have no table of costs; budgets are for spaces that read images"]
    if not config.learns:
        return [
            f"budget: the method {config.method!r} trains no logits, so nothing can hold them to a budget"
        ]
    if config.penalised and config.cost.name in {budget.cost for budget in budgets}:
        key, remedy = ("strength", "strength=0") if config.cost.strength else ("form", "name=none")
        problem = (
            f"cost.{key}: a budget holds {config.cost.name!r} already, and a penalty of fixed strength "
            f"would pull it away; set cost.{remedy} or leave the budget out"
        )
        return [problem]
    unmeasured = [b for b in budgets if b.table is None and b.cost not in COSTS and ":" not in b.cost]
    return [
        f"budget {b.cost!r}: it is measured, not counted; name the table behind @, as in "
        f"{b.cost}=2ms@phone.json, a file that archgrad latency writes"
        for b in unmeasured
    ]


def cost_problems(config: Config) -> list[str]:
    """Settings that the form of the penalty cannot take, and hypergradients that it does not go with."""
    cost = config.cost
    if not config.learns or cost.name == "none":
        return []
    if not config.penalised:
        default = type(cost).model_fields["form"].default
        if cost.form == default:
            return []  # the cost is recorded only
        return [f"cost.strength: 0 leaves the form {cost.form!r} out; set cost.strength=mild, or more"]
    form, hypergradient = PENALTIES[cost.form], config.hypergradient.name
    if getattr(form, "reward", False) and not config.scores:
        problem = (
            f"cost.form: {cost.form!r} is a reward without a gradient, and {hypergradient!r} needs one; set "
            "hypergradient.name=score_function and sampler.name=gumbel_max, or cost.form=logarithmic"
        )
        return [problem]
    if getattr(form, "product", False) and config.joint:
        problem = (
            f"cost.form: {cost.form!r} multiplies the loss, and {hypergradient!r} takes the weights' "
            "gradient from it, too, so their learning rate would follow the cost; set cost.form=linear, or "
            "hypergradient.name=first_order"
        )
        return [problem]
    try:
        aim = target_of(cost) if "target" in settings_of(form) else 100.0
        ends = (aim**0.5 if aim > 1 else aim / 2, aim * 2)
        choice = (Group(("cheap", "dear"), ("stand-in",)),)
        penalty_of(config, CostTable(cost.name, "", 0.0, choice, (torch.tensor([ends]).double(),)))
    except UserError as error:
        text = str(error)
        return [text if text.startswith("cost.") else f"cost: {text}"]
    return []


def law_problems(config: Config) -> list[str]:
    """A sampler of the user's own that breaks a law of samplers."""
    name = config.sampler.name
    if name in SAMPLERS:
        return []
    from archgrad.testing import BrokenLaw, check_sampler

    try:
        check_sampler(SAMPLERS[name](**config.sampler.settings()), draws=5_000)
    except BrokenLaw as error:
        return [f"sampler.name: {name!r} breaks a law of samplers: {error.law} ({error.detail})"]
    return []


def gradient_problems(config: Config) -> list[str]:
    """A method that trains logits needs a sampler that hands them a gradient."""
    if not config.learns:
        return []
    if config.scores:
        return _pair_problems(config)
    sampler = SAMPLERS[config.sampler.name](**config.sampler.settings())
    sample = sampler(torch.zeros(1, 2, requires_grad=True), 1.0, Streams(0).generator("gradient check"))
    if sample.weights.requires_grad:
        return []
    sampler_name, hypergradient = config.sampler.name, config.hypergradient.name
    problem = (
        f"sampler.name: {sampler_name!r} gives the logits no gradient, so {hypergradient!r} could not train "
        "them; choose another sampler, or set hypergradient.name=none"
    )
    return [problem]


def _pair_problems(config: Config) -> list[str]:
    """A hypergradient that asks for something that this policy has not: tried on a problem of two choices."""
    groups = (Group(("a", "b", "c"), ("0", "1")),)
    policy, streams = policy_of(config, groups), Streams(0)
    graph: list[bool] = []
    mixed: list[bool] = []
    theta = policy.controller.initial(groups, streams.generator("logits"), 0.1, 0.0)

    def objective(samples: Sequence[Sample]) -> Outcome:
        graph.append(torch.is_grad_enabled())
        mixed.extend(bool(((s.weights != 0) & (s.weights != 1)).any()) for s in samples)
        loss = torch.stack([s.weights[..., 0].sum() for s in samples]).sum()
        return Outcome(loss, loss.detach(), torch.tensor(0), 1)

    def draw(alpha: Sequence[Tensor], repeat: int = 0) -> list[Sample]:
        return policy.draw(alpha, 1.0, streams.generator("draw", repeat))

    part = config.hypergradient
    problem = Problem(
        objective,
        objective,
        draw,
        policy=policy,
        noise=lambda repeat: streams.generator("noise", repeat),
    )
    try:
        HYPERGRADIENTS[part.name](**part.settings())(problem, theta)
    except UserError as error:
        return [f"hypergradient.name: {part.name!r} does not go with this method: {error}"]
    if not (config.penalised and getattr(PENALTIES[config.cost.form], "reward", False)):
        return []
    form = config.cost.form
    if any(graph):
        text = (
            f"cost.form: {form!r} is a reward without a gradient of its own, and {part.name!r} takes one; "
            "set hypergradient.name=score_function"
        )
        return [text]
    if any(mixed):
        text = (
            f"cost.form: {form!r} rewards an architecture for its cost, and {config.sampler.name!r} draws "
            "mixtures of several; set sampler.name=gumbel_max"
        )
        return [text]
    return []


def plain_step_problems(config: Config) -> list[str]:
    """A sampler that rescales logits after a step needs to know which moved, so no others may."""
    if not (config.learns and getattr(SAMPLERS[config.sampler.name], "needs_plain_steps", False)):
        return []
    sampler, logits, problems = config.sampler.name, config.architecture, []
    if logits.weight_decay:
        problems.append(f"architecture.weight_decay: {sampler!r} moves two logits of a choice; set it to 0")
    if logits.optimizer == "adam" and logits.betas[0]:
        problems.append(f"architecture.betas: {sampler!r} moves two logits of a choice; write [0.0, 0.999]")
    if config.regularizer.name != "none":
        problems.append(f"regularizer.name: {sampler!r} moves two logits of a choice; leave it out")
    if config.controller.name != "independent":
        problems.append(f"controller.name: {sampler!r} rescales logits, so they must be 'independent'")
    return problems


def selection_problems(config: Config) -> list[str]:
    """A selection after the search that this search has nothing for."""
    key, controller = "selection.name", config.controller.name
    if config.selection.name == "none":
        return []
    if not config.learns:
        return [f"{key}: the method {config.method!r} trains no logits, so no mixture is left to choose from"]
    if config.reads_text:
        return [f"{key}: it is for images; on a text leave it out, and the logits decide"]
    if controller != "independent":
        return [f"{key}: with controller {controller!r} choices depend on one another; use 'independent'"]
    if config.budget:
        return [f"{key}: it decides in place of the logits and knows no budget: leave one of the two out"]
    return []
