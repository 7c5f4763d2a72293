"""Derive the architecture of a run. E choices × K candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from archgrad.architecture import Architecture
from archgrad.budgets.budget import Budget, parse_all
from archgrad.budgets.within import checked, table_of, within_budgets
from archgrad.choice import Group, concrete, of_choices
from archgrad.config import Config
from archgrad.config_problems import rule_problem
from archgrad.costs.cost_table import CostTable, cost_table
from archgrad.costs.forms import expectation_gap
from archgrad.costs.network_counts import count_network
from archgrad.derive import Derivation, derive, random_derivation
from archgrad.errors import UserError, WorkError
from archgrad.language_counts import count_language
from archgrad.method_parts import policy_of
from archgrad.randomness import Streams
from archgrad.restriction import restricted
from archgrad.rules import RULES
from archgrad.runs import Run
from archgrad.selection import derivation_of
from archgrad.spaces import SPACES
from archgrad.spaces.space import as_space
from archgrad.verbs.contents import read_config, read_groups, read_logits
from archgrad.verbs.genotype import check_searched
from archgrad.verbs.select import read_selection
from archgrad.verbs.steering import final_epoch


def derive_run(
    folder: Path | str,
    rule: str | None = None,
    best: bool = False,
    budgets: Mapping[str, str] | None = None,
) -> Derivation:
    """Derive the architecture of a run: from the final logits, or from those of the best epoch.

    An unfinished search is derived from its newest checkpoint, with a warning.

    Args:
        folder: of the run.
        rule: in place of the run's.
        best: from the logits of the best epoch.
        budgets: cost -> limit, as in the configuration; in place of those that the search was held to.

    Raises:
        UserError: nothing to derive from, a genotype in place of a search, a rule that does not fit the
            space, budgets that no architecture meets, or `best` where no logits were trained.
    """
    run = Run.open(folder)
    check_searched(run)
    config = read_config(run)
    if rule is not None:
        RULES.check(rule)
        if unfit := rule_problem(config.space.name, rule):
            raise UserError(unfit)
    groups = read_groups(run)
    by_logits = rule is not None or best or bool(budgets)
    rule = rule or config.derive.rule
    remarks: list[str] = []
    epoch: int | None = None
    if not config.learns:
        if best:
            raise UserError(
                f"the method {config.method!r} trains no logits, so no epoch has the best: leave out --best"
            )
        if budgets:
            raise UserError(
                f"the method {config.method!r} trains no logits, so there is no most probable network within "
                "a budget: leave --budget out"
            )
        derivation = random_derivation(groups, rule, Streams(config.seed), "derived", 0)
        remarks.append(f"drawn uniformly at random: the method {config.method!r} trains no logits")
    else:
        logits, epoch, remarks = _logits(run, best)
        policy = policy_of(config, groups)
        if [tuple(a.shape) for a in logits] != policy.controller.shapes(groups):
            raise UserError(f"{run.folder}: the saved logits do not fit choices.json; one of them is damaged")
        p = policy.probabilities(logits)
        selection = read_selection(run) if not by_logits else None
        derivation = (
            derive(groups, p, rule, gates=policy.gates)
            if selection is None
            else derivation_of(selection, groups, p)
        )
        if selection is None and config.selection.name != "none" and not by_logits:
            remarks.append("the selection is not finished: derived from the logits")
        held = parse_all(dict(budgets or config.budget))
        if held and config.reads_text:
            raise UserError("budgets are for networks on images; leave --budget out")
        if not config.reads_text:
            network = _Trained.of(run, config)
            derivation = _within(network, groups, p, derivation, held, config.cost.name)
    parameters, macs, live = _counted(run, config, derivation.architecture)
    derivation = replace(
        derivation,
        warnings=(*remarks, *derivation.warnings),
        parameters=parameters,
        macs=macs,
        live=live,
        gaps=tuple({**gap, "live": (live or {}).get(gap["cost"])} for gap in derivation.gaps),
        epoch=epoch,
    )
    run.write_text("architecture.json", derivation.architecture.to_json())
    run.write_json("derivation.json", derivation.document())
    run.log(f"derived {derivation.architecture.digest} by rule {derivation.rule}")
    return derivation


class _Trained(NamedTuple):
    """What `train` builds for a run on images: (builder, shape, classes, settings) of the space `name`."""

    name: str
    builder: Callable[..., nn.Module]
    shape: tuple[int, int, int]
    classes: int
    settings: dict[str, Any]

    @classmethod
    def of(cls, run: Run, config: Config) -> _Trained:
        data, name = run.read_json("data.json"), config.space.name
        with run.reading("data.json"):
            channels, height, width = (int(size) for size in data["shape"])
            classes = len(data["classes"])
        builder = restricted(as_space(SPACES[name]).builder, config.restrict)
        return cls(name, builder, (channels, height, width), classes, config.train.space)

    def table(self, budget: Budget) -> CostTable:
        return table_of(budget, self.name, *self[1:])


def _within(
    network: _Trained,
    groups: Sequence[Group],
    probabilities: Sequence[Tensor],
    derivation: Derivation,
    budgets: Sequence[Budget],
    penalised: str,
) -> Derivation:
    """The derivation checked against budgets, repaired where it misses one, and beside what was expected.

    penalised: a cost that the search charged a price without a limit, or "none".
    """
    tables = [network.table(budget) for budget in budgets]
    if budgets:
        derivation = within_budgets(derivation, groups, probabilities, budgets, tables)
        found = checked(derivation.architecture, budgets, tables, *network[1:])
        for budget, one in zip(budgets, found, strict=True):
            if not one["met"]:
                raise WorkError(
                    f"budget {budget}: the table says that the repaired network meets it, but counted it has "
                    f"{budget.show(one['value'])}: the cost is no sum over the choices of this space"
                )
        derivation = replace(derivation, budgets=tuple(found))
    if penalised not in ("none", *(table.name for table in tables)):
        tables.append(cost_table(penalised, *network[1:]))
    p = of_choices(groups, probabilities)
    gaps = ((table, expectation_gap(table, p, derivation.architecture)) for table in tables)
    named = tuple({"cost": table.name, "unit": table.unit, **gap._asdict()} for table, gap in gaps)
    return replace(derivation, gaps=named)


def _counted(run: Run, config: Config, architecture: Architecture) -> tuple[int, int, dict[str, int] | None]:
    """(parameters, multiply-adds of an image or a word, live ones) of the network that `train` builds."""
    if config.reads_text:
        data = run.read_json("data.json")
        builder, settings = as_space(SPACES[config.space.name]).builder, config.train.space
        with run.reading("data.json"):
            (features,) = (int(size) for size in data["shape"])
            words = int(data["vocabulary"])
        return *count_language(lambda: concrete(builder, architecture, (features,), words, **settings)), None
    network = _Trained.of(run, config)
    counts = count_network(
        network.builder, architecture, network.shape, network.classes, network.settings, live=True
    )
    live = counts.live
    assert live is not None
    both = {"parameters": live.parameters, "macs": live.macs}
    return counts.parameters_without_auxiliary, counts.macs, both


def _logits(run: Run, best: bool) -> tuple[list[Tensor], int, list[str]]:
    """(logits, epoch, remarks): the best epoch's, the final ones, or those of the newest checkpoint."""
    if best:
        if not run.exists("best.json"):
            raise UserError(f"{run.folder} has no finished epoch yet")
        document = run.read_json("best.json")
        with run.reading("best.json"):
            epoch = int(document["epoch"])
        return read_logits(run, "best.safetensors"), epoch, []
    if run.exists("logits.safetensors"):
        return read_logits(run, "logits.safetensors"), final_epoch(run), []
    checkpoint, warnings = run.load_checkpoint()
    if checkpoint is None:
        raise UserError(
            f"the search in {run.folder} has saved nothing to derive from yet; go on with\n"
            f"  archgrad search --run {run.folder} --resume"
        )
    epoch = int(checkpoint["search"]["position"][0])
    remark = f"the search is not finished: derived from its checkpoint in epoch {epoch}"
    return checkpoint["search"]["logits"], epoch, [*warnings, remark]
