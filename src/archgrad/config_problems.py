"""Everything that is wrong with a configuration, found at once and said in our words."""

from __future__ import annotations

import dataclasses
import inspect
import math
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from archgrad.config import Config, Named, unused
from archgrad.config_layers import dotted, layered
from archgrad.controllers import CONTROLLERS
from archgrad.costs import COSTS
from archgrad.datasets import DATASETS
from archgrad.diagnostics import PROBES, RECORDS
from archgrad.diagnostics.problems import probe_problems
from archgrad.errors import ConfigError, UserError
from archgrad.hypergradients import HYPERGRADIENTS
from archgrad.method_problems import (
    budget_problems,
    cost_problems,
    gradient_problems,
    law_problems,
    momentum_problems,
    plain_step_problems,
    regularizer_problems,
    selection_problems,
    temperature_problems,
    warmup_problems,
)
from archgrad.methods import METHODS
from archgrad.network_features import NetworkFeatures
from archgrad.penalties import PENALTIES
from archgrad.penalties.penalty import settings_of
from archgrad.rules import RULES
from archgrad.samplers import SAMPLERS
from archgrad.spaces import SPACES
from archgrad.spaces.skip_dropout import SKIP
from archgrad.spaces.space import as_space
from archgrad.stopping.problems import form_problems, stopping_problems, watching_parts
from archgrad.table import nearest

GIVEN = "given:"
"""Begins the name of data that were handed over in Python, not loaded by name."""


def check(given: Mapping[str, Any]) -> Config:
    """Validate what the user gave against defaults and preset, before any data is read.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    problems = []
    method = given.get("method", Config().method)
    known_method = isinstance(method, str) and method in METHODS
    if isinstance(method, Mapping):
        problems.append(f"method: a name, no section; write method={next(iter(method.values()), 'gdas')}")
    elif not known_method:
        problems.append(
            f"method: unknown {method!r}{nearest(str(method), METHODS)}; known: {', '.join(METHODS)}"
        )
    preset = METHODS[method].settings if known_method else {}
    config, wrong = _validated({**preset}, {k: v for k, v in given.items() if k != "method" or known_method})
    problems += wrong
    keys = set(dotted(given))
    names = _name_problems(config)
    problems += [text for key, text in names.items()]
    problems += _setting_problems(config, names)
    problems += form_problems(config)
    if "derive.rule" in keys and not names and (why := rule_problem(config.space.name, config.derive.rule)):
        problems.append(f"derive.rule: {why}")
    if known_method and not names:
        problems += [f"{key}: {why}" for key, why in unused(config).items() if key in keys]
        unfit = _signature_problems(config)
        problems += unfit or [*law_problems(config), *cost_problems(config)]
        problems += regularizer_problems(config)
        problems += plain_step_problems(config)
        problems += temperature_problems(config)
        problems += probe_problems(config)
        problems += [] if form_problems(config) else stopping_problems(config)
        problems += selection_problems(config)
        if not problems:  # they are tried, which needs parts that are right by themselves
            problems += gradient_problems(config)
        problems += budget_problems(config)
    problems += momentum_problems(config)
    if {"search.epochs", "search.warmup_epochs"} <= keys:  # else a rule may choose the other
        problems += warmup_problems(config)
    if problems:
        raise ConfigError(problems)
    return config


def _signature_problems(config: Config) -> list[str]:
    """Parts of the user's own that cannot be called as their family is."""
    from archgrad.datasets import DATASETS
    from archgrad.rules import RULES

    sampler, hypergradient = config.sampler, config.hypergradient
    calls: list[tuple[str, str, Any, tuple[str, ...], dict[str, Any]]] = [
        ("data.name", config.data.name, DATASETS, ("path", "resize"), {}),
        ("derive.rule", config.derive.rule, RULES, ("groups", "probabilities"), {}),
        ("sampler.name", sampler.name, SAMPLERS, (), sampler.settings()),
        ("controller.name", config.controller.name, CONTROLLERS, (), config.controller.settings()),
        ("hypergradient.name", hypergradient.name, HYPERGRADIENTS, (), hypergradient.settings()),
    ]
    problems = []
    for key, name, table, arguments, settings in calls:
        if ":" not in name or name.startswith(GIVEN):
            continue
        try:
            inspect.signature(table[name]).bind(*arguments, **settings)
        except (TypeError, ValueError):
            wanted = ", ".join([*arguments, *(f"{k}=…" for k in settings)])
            problems.append(f"{key}: {name!r} cannot be called as ({wanted}), as every {table.family} is")
    return problems


def rule_problem(space: str, rule: str) -> str | None:
    """Why a derivation rule of archgrad's own does not fit the space; None where it does.

    A derived recurrent cell has one edge into every node, which only the rule of its authors leaves there.
    """
    wanted = as_space(SPACES[space]).rule
    if wanted != "rnn" or rule == wanted or rule not in RULES:
        return None
    return (
        f"the rule {rule!r} keeps several edges into a node, and a derived cell of the space {space!r} has "
        f"one: use rule {wanted!r}"
    )


def search_problems(config: Config, searched: NetworkFeatures, trained: NetworkFeatures) -> list[str]:
    """Settings that the space's networks would ignore or cannot take."""
    problems = training_problems(config, trained)
    if config.search.drop_path and not searched.drop_path:
        problems.append(f"search.drop_path: the space {config.space.name!r} has no drop path")
    if config.search.skip_dropout and not any(SKIP in names for names in searched.choices.values()):
        problems.append(f"search.skip_dropout: the space {config.space.name!r} has no candidate {SKIP!r}")
    if not searched.choices:
        problems.append("space: it makes no choice with these settings: it has to call pick at least once")
    elif all(len(candidates) < 2 for candidates in searched.choices.values()):
        problems.append("space.candidates: every choice has one candidate, so there is nothing to search")
    if searched.auxiliary:
        problems.append("space: an auxiliary head is for training only; leave it out of the search")
    if searched.choices != trained.choices:
        lost = [name for name in searched.choices if searched.choices[name] != trained.choices.get(name)]
        new = [name for name in trained.choices if name not in searched.choices]
        problems.append(
            "train.space: the network that is trained has other choices than the one that is searched "
            f"(e.g. {(lost or new)[0]!r}): give settings such as nodes or candidates for both, in space and "
            "in train.space"
        )
    return problems


def training_problems(config: Config, trained: NetworkFeatures) -> list[str]:
    """Settings of the section ``train`` that the network would ignore."""
    problems = []
    if config.train.drop_path and not trained.drop_path:
        problems.append(f"train.drop_path: the space {config.space.name!r} has no drop path")
    if config.train.auxiliary_weight and not trained.auxiliary:
        takes = "auxiliary" in as_space(SPACES[config.space.name]).settings()
        remedy = "set train.space.auxiliary" if takes else f"the space {config.space.name!r} has none"
        problems.append(f"train.auxiliary_weight: the network has no auxiliary head; {remedy}")
    if trained.auxiliary and not config.train.auxiliary_weight:
        problems.append("train.space: an auxiliary head without train.auxiliary_weight learns nothing")
    return problems


def _validated(preset: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[Config, list[str]]:
    """The configuration, with the layer below in place of what is wrong, and what is wrong."""
    document, below = layered(preset, given), layered(preset)
    try:
        return Config.model_validate(document), []
    except ValidationError as error:
        messages: dict[tuple[str, ...], list[Any]] = {}
        for detail in error.errors():
            messages.setdefault(_place(document, detail["loc"]), []).append(detail)
    for place in messages:
        *path, last = place
        target, source = document, below
        for part in path:
            target, source = target[part], source.get(part, {})
        if last in source:
            target[last] = source[last]
        else:
            del target[last]
    return Config.model_validate(document), [_sentence(p, details) for p, details in messages.items()]


def _place(document: Mapping[str, Any], where: tuple[Any, ...]) -> tuple[str, ...]:
    """The key that an error is about: pydantic adds the branches of a union to its path."""
    place: list[str] = []
    here: Any = document
    for part in where:
        if not isinstance(here, Mapping) or part not in here:
            break
        place.append(part)
        here = here[part]
    return tuple(place) or (str(where[0]),)


def _sentence(place: tuple[str, ...], details: list[Any]) -> str:
    """Pydantic's errors about one key in our words."""
    key, last = ".".join(place), place[-1]
    if details[0]["type"] == "extra_forbidden":
        model: Any = Config
        for part in place[:-1]:
            model = model.model_fields[part].annotation
        if len(place) == 1 and (homes := _homes(last)):
            return f"{key}: belongs to a section; did you mean {' or '.join(homes)}?"
        fields = list(model.model_fields)
        short = [name for name in fields if "".join(word[0] for word in name.split("_")) == last]  # lr
        meant = f" - did you mean {short[0]!r}?" if short else nearest(last, fields)
        return f"{key}: unknown key{meant}; known: {', '.join(fields)}"
    if details[0]["type"] in ("model_type", "model_attributes_type"):
        fields = list(Config.model_fields[key].annotation.model_fields)  # type: ignore[union-attr]
        value = details[0]["input"] if fields[0] == "name" and isinstance(details[0]["input"], str) else "…"
        return f"{key}: a section with keys {', '.join(fields)}; write {key}.{fields[0]}={value}"
    if details[0]["type"] == "dict_type":
        return f"{key}: a section of settings; write {key}.setting=value, got {details[0]['input']!r}"
    wanted = " or ".join(
        dict.fromkeys(
            "should be a list of two numbers"
            if d["type"] in ("missing", "too_long", "tuple_type")
            else d["msg"].lower().removeprefix("input ")
            for d in details
        )
    )
    return f"{key}: {wanted}, got {details[0]['input']!r}"


def _homes(key: str) -> list[str]:
    """``section.key`` for every section of the schema that has this key."""
    sections = {name: field.annotation for name, field in Config.model_fields.items()}
    return [f"{name}.{key}" for name, kind in sections.items() if key in getattr(kind, "model_fields", {})]


def _name_problems(config: Config) -> dict[str, str]:
    """Names of parts that are in no table, or cannot be imported: key -> sentence."""
    tables = [
        ("space.name", SPACES, config.space.name),
        ("sampler.name", SAMPLERS, config.sampler.name),
        ("controller.name", CONTROLLERS, config.controller.name),
        ("data.name", DATASETS, config.data.name),
        ("derive.rule", RULES, config.derive.rule),
        ("hypergradient.name", HYPERGRADIENTS, config.hypergradient.name),
        ("cost.name", COSTS, config.cost.name),
        *((f"diagnostics.{name}", PROBES, name) for name in config.diagnostics),
        *((key, table, part.name) for key, table, part in watching_parts(config)),
        ("cost.form", PENALTIES, config.cost.form),
    ]
    problems = {}
    for key, table, name in tables:
        if table is PROBES and name in RECORDS:
            problems[key] = f"{key}: costs next to nothing and is always on; leave it out"
            continue
        if key in ("hypergradient.name", "cost.name") and name == "none":
            continue
        if key == "data.name" and (name.startswith(GIVEN) or (not name and config.data.path)):
            continue  # handed over in Python, or to be told from the files
        if name not in table and ":" not in name:
            known = ", ".join(table)
            problems[key] = (
                f"{key}: unknown {name!r}{nearest(name, table)}; known: {known}, or 'module:object'"
            )
            continue
        try:
            part = table[name]
            if key == "space.name":
                as_space(part)
            elif key == "cost.form":
                settings_of(part)
        except UserError as error:
            problems[key] = f"{key}: {error}"
    return problems


def _setting_problems(config: Config, unknown: Mapping[str, str]) -> list[str]:
    """Settings that a part does not take, or of a wrong type or size."""
    problems = []
    if "space.name" not in unknown:
        space = as_space(SPACES[config.space.name])
        for section, settings in (("space", config.space.settings()), ("train.space", config.train.space)):
            problems += [f"{section}: unknown setting {p}" for p in space.unknown_settings(settings)]
            problems += _type_problems(section, space.builder, settings, config.space.name in SPACES)
    for key, table, part in (
        ("sampler", SAMPLERS, config.sampler),
        ("controller", CONTROLLERS, config.controller),
        ("hypergradient", HYPERGRADIENTS, config.hypergradient),
        *((f"diagnostics.{n}", PROBES, Named(name=n, **rest)) for n, (_, rest) in config.probes.items()),
        *watching_parts(config),
    ):
        if {key, f"{key}.name"} & set(unknown):
            continue
        kind = None if part.name == "none" else table[part.name]
        known = [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
        problems += [
            f"{key}.{name}: {part.name!r} has no such setting{nearest(name, known)}; "
            f"it has {', '.join(known) or 'none'}"
            for name in part.settings()
            if name not in known
        ]
        found = _type_problems(key, kind, part.settings(), part.name in table)
        if not found and dataclasses.is_dataclass(kind) and set(part.settings()) <= set(known):
            try:
                table[part.name](**part.settings())
            except UserError as error:  # settings that only the part itself can judge
                found = [f"{key}: {error}"]
        problems += found
    return problems


def _type_problems(section: str, kind: Any, settings: Mapping[str, Any], ours: bool) -> list[str]:
    """Settings that do not have the type that `kind` annotates.

    In parts of our own tables a number is a size, so it is above 0 unless its default is 0; others may
    mean it otherwise.
    """
    try:
        hints = typing.get_type_hints(kind)
        if isinstance(kind, type) and not dataclasses.is_dataclass(kind):
            hints = typing.get_type_hints(vars(kind).get("__init__"))
    except (NameError, TypeError):  # no annotations, or some that cannot be resolved here
        return []
    defaults = {name: p.default for name, p in inspect.signature(kind).parameters.items()}
    problems = []
    for name, value in settings.items():
        if name not in hints:
            continue
        adapter: TypeAdapter[Any] = TypeAdapter(hints[name], config=ConfigDict(arbitrary_types_allowed=True))
        try:
            adapter.validate_python(value, strict=True)
        except ValidationError as error:
            detail = error.errors()[0]
            text = detail["msg"].lower().removeprefix("input ")
            if detail["type"] == "sequence_str":
                text = f"should be a list such as [{value}]"
            problems.append(f"{section}.{name}: {text}, got {value!r}")
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        zero = defaults.get(name) == 0
        if number and (not math.isfinite(value) or (ours and (value < 0 or (value == 0 and not zero)))):
            wanted = "finite" if not ours else "at least 0" if zero else "above 0"
            problems.append(f"{section}.{name}: should be {wanted}, got {value!r}")
    return problems
