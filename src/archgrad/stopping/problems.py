"""Rules, actions and alarms in a configuration: which parts they are, and what does not go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archgrad.alarms import ALARMS
from archgrad.config import Config, Named
from archgrad.stopping import ACTIONS, STOPPING_RULES
from archgrad.stopping.guard import action_of
from archgrad.table import Table


def watching_parts(config: Config) -> list[tuple[str, Table, Named]]:
    """(key, table, part) of every rule, action and alarm that the configuration names."""
    parts = []
    for name, settings in config.stopping.rules.items():
        own = {key: value for key, value in settings.items() if key not in ("action", "name")}
        parts.append((f"stopping.rules.{name}", STOPPING_RULES, Named(name=name, **own)))
        if _action_problem(settings) is None:
            action, its = action_of(settings)
            parts.append((f"stopping.rules.{name}.action", ACTIONS, Named(name=action, **its)))
    for name, given in config.alarms.items():
        its = given if isinstance(given, Mapping) else {}
        parts.append(
            (f"alarms.{name}", ALARMS, Named(name=name, **{k: v for k, v in its.items() if k != "name"}))
        )
    return parts


def form_problems(config: Config) -> list[str]:
    """Rules and alarms that are not written as they should be."""
    problems = []
    for name, settings in config.stopping.rules.items():
        if "name" in settings:
            problems.append(f"stopping.rules.{name}.name: the rule is named already; leave it out")
        if why := _action_problem(settings):
            problems.append(f"stopping.rules.{name}.action: {why}")
    for name, given in config.alarms.items():
        if given is True:
            problems.append(f"alarms.{name}: it is on; give settings or false, or leave it out")
        elif isinstance(given, Mapping) and "name" in given:
            problems.append(f"alarms.{name}.name: the alarm is named already; leave it out")
    return problems


def stopping_problems(config: Config) -> list[str]:
    """Rules and actions that do not go with the method or with one another; names and settings are right."""
    rules, problems = config.stopping.rules, []
    for name, settings in rules.items():
        if not config.learns and getattr(STOPPING_RULES[name], "of_logits", True):
            problems.append(
                f"stopping.rules.{name}: the method {config.method!r} does not train the logits, so there is "
                "nothing to watch; leave it out"
            )
        action, _ = action_of(settings)
        key = f"stopping.rules.{name}.action"
        if action == "raise_weight_decay" and not config.weights.weight_decay:
            problems.append(f"{key}: weights.weight_decay is 0, and no factor raises it; set it above 0")
        if action == "raise_tau" and not config.uses_temperature:
            problems.append(f"{key}: {config.sampler.name!r} has no temperature; choose another action")
        if action in ("raise_tau", "freeze_alpha") and not config.learns:
            problems.append(f"{key}: the logits are never trained; choose another action")
    actions = [action_of(settings) for settings in rules.values()]
    if config.stopping.combine == "all" and any(action != actions[0] for action in actions):
        problems.append(
            "stopping.combine: rules that have to fire together share one action; give all of them the same, "
            "or write stopping.combine=any"
        )
    return problems


def _action_problem(settings: Mapping[str, Any]) -> str | None:
    given = settings.get("action", "stop")
    if isinstance(given, str) or (isinstance(given, Mapping) and isinstance(given.get("name"), str)):
        return None
    form = "{name: raise_tau, factor: 3.0}"
    return f"a name of {', '.join(ACTIONS)}, or a name with settings such as {form}; got {given!r}"
