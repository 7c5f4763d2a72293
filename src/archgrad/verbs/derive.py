"""Derive the architecture of a run. E choices × K candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from archgrad.architecture import Architecture
from archgrad.budgets.budget import parse_all
from archgrad.budgets.within import checked, table_of, within_budgets
from archgrad.choice import Group, concrete
from archgrad.config import Config
from archgrad.config_problems import rule_problem
from archgrad.costs.network_counts import count_network
from archgrad.derive import Derivation, derive, random_derivation
from archgrad.errors import UserError, WorkError
from archgrad.language_counts import count_language
from archgrad.method_parts import policy_of
from archgrad.randomness import Streams
from archgrad.rules import RULES
from archgrad.runs import Run
from archgrad.spaces import SPACES
from archgrad.spaces.space import as_space
from archgrad.verbs.contents import read_config, read_groups, read_logits
from archgrad.verbs.genotype import check_searched


def derive_run(folder: Path | str, rule: str | None = None, best: bool = False) -> Derivation:
    """Derive the architecture of a run: from the final logits, or from those of the best epoch.

    An unfinished search is derived from its newest checkpoint, with a warning.

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
    rule = rule or config.derive.rule
    remarks: list[str] = []
    epoch: int | None = None
    if not config.learns:
        if best:
            raise UserError(
                f"the method {config.method!r} trains no logits, so no epoch has the best: leave out --best"
            )
        derivation = random_derivation(groups, rule, Streams(config.seed), "derived", 0)
        remarks.append(f"drawn uniformly at random: the method {config.method!r} trains no logits")
    else:
        logits, epoch, remarks = _logits(run, best)
        policy = policy_of(config, groups)
        if [tuple(a.shape) for a in logits] != policy.controller.shapes(groups):
            raise UserError(f"{run.folder}: the saved logits do not fit choices.json; one of them is damaged")
        derivation = derive(groups, policy.probabilities(logits), rule, gates=policy.gates)
        if config.budget:
            derivation = _within(run, config, groups, policy.probabilities(logits), derivation)
    parameters, macs = _counts(run, config, derivation.architecture)
    derivation = replace(
        derivation,
        warnings=(*remarks, *derivation.warnings),
        parameters=parameters,
        macs=macs,
        epoch=epoch,
    )
    run.write_text("architecture.json", derivation.architecture.to_json())
    run.write_json("derivation.json", derivation.document())
    run.log(f"derived {derivation.architecture.digest} by rule {rule}")
    return derivation


def _within(
    run: Run, config: Config, groups: Sequence[Group], probabilities: Sequence[Tensor], derivation: Derivation
) -> Derivation:
    """The derivation checked against the run's budgets, and repaired where it misses one."""
    data, name, settings = run.read_json("data.json"), config.space.name, config.train.space
    builder, classes = as_space(SPACES[name]).builder, len(data["classes"])
    channels, height, width = (int(size) for size in data["shape"])
    shape, budgets = (channels, height, width), parse_all(config.budget)
    tables = [table_of(budget, name, builder, shape, classes, settings) for budget in budgets]
    derivation = within_budgets(derivation, groups, probabilities, budgets, tables)
    found = checked(derivation.architecture, budgets, tables, builder, shape, classes, settings)
    for budget, one in zip(budgets, found, strict=True):
        if not one["met"]:
            raise WorkError(
                f"budget {budget}: the table says that the repaired network meets it, but counted it has "
                f"{budget.show(one['value'])}: the cost is no sum over the choices of this space"
            )
    return replace(derivation, budgets=tuple(found))


def _counts(run: Run, config: Config, architecture: Architecture) -> tuple[int, int]:
    """(parameters, multiply-adds of an image or a word) of the network that `train` would build."""
    data = run.read_json("data.json")
    builder, settings = as_space(SPACES[config.space.name]).builder, config.train.space
    with run.reading("data.json"):
        shape = tuple(int(size) for size in data["shape"])
        classes = int(data["vocabulary"]) if config.reads_text else len(data["classes"])
        if len(shape) != (1 if config.reads_text else 3):
            raise ValueError(f"shape {shape}")
    if config.reads_text:
        return count_language(lambda: concrete(builder, architecture, shape, classes, **settings))
    counts = count_network(builder, architecture, shape, classes, settings)
    return counts.parameters_without_auxiliary, counts.macs


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
        return read_logits(run, "logits.safetensors"), len(run.read_lines("metrics.jsonl")) - 1, []
    checkpoint, warnings = run.load_checkpoint()
    if checkpoint is None:
        raise UserError(
            f"the search in {run.folder} has saved nothing to derive from yet; go on with\n"
            f"  archgrad search --run {run.folder} --resume"
        )
    epoch = int(checkpoint["search"]["position"][0])
    remark = f"the search is not finished: derived from its checkpoint in epoch {epoch}"
    return checkpoint["search"]["logits"], epoch, [*warnings, remark]
