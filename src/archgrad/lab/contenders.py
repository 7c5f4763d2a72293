"""Who is compared: methods by name, and every sampler × hypergradient × schedule that fits together."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archgrad.config import Config, unused
from archgrad.config_layers import layered, merge, overrides
from archgrad.config_problems import check
from archgrad.errors import UserError
from archgrad.hypergradients import HYPERGRADIENTS
from archgrad.methods import METHODS
from archgrad.samplers import SAMPLERS
from archgrad.schedules import SCHEDULES
from archgrad.table import nearest

LAB_SETTINGS: dict[str, dict[str, Any]] = {
    "search": {"warmup_epochs": 0, "architecture_every": 1},
    "architecture": {"learning_rate": 0.05, "weight_decay": 0.0},
}
"""What differs from the presets on a landscape: there are no weights to warm up, a search is a few hundred
steps, and a decay of the logits would add its own pull to a loss whose differences are small."""


@dataclass(frozen=True)
class Contender:
    """A method in the laboratory. One epoch of its configuration is one step."""

    name: str
    config: Config

    @property
    def uses_temperature(self) -> bool:
        """Whether it has a temperature."""
        return self.config.uses_temperature


@dataclass(frozen=True)
class Line:
    """The contenders, and the combinations that were left out, each with the reason."""

    contenders: tuple[Contender, ...]
    left_out: tuple[str, ...]


def names(text: str) -> list[str]:
    """Names in a list with commas, those inside brackets left alone.

    >>> names("softmax, gumbel_rao(samples=5), noisy_gumbel_softmax(logit_noise=1,candidate_dropout=0.1)")
    ['softmax', 'gumbel_rao(samples=5)', 'noisy_gumbel_softmax(logit_noise=1,candidate_dropout=0.1)']
    """
    return [name.strip() for name in re.split(r",(?![^(]*\))", text) if name.strip()]


def part(text: str) -> dict[str, Any]:
    """``"name"`` or ``"name(key=value,…)"`` as a section of the configuration.

    >>> part("score_function(baseline=leave_one_out,samples=4)")
    {'name': 'score_function', 'baseline': 'leave_one_out', 'samples': 4}

    Raises:
        UserError: it does not read so.
    """
    found = re.fullmatch(r"([^()]+)(?:\(([^()]*)\))?", text.strip())
    if found is None:
        raise UserError(f"a part reads name or name(key=value,…), got {text!r}")
    settings = overrides([pair.strip() for pair in (found[2] or "").split(",") if pair.strip()])
    return {"name": found[1].strip(), **settings}


def schedule(text: str) -> dict[str, Any]:
    """``"name:start"`` or ``"name:start:end"`` as the section ``temperature``.

    >>> schedule("exponential:10:0.1")
    {'schedule': 'exponential', 'start': 10.0, 'end': 0.1}
    >>> schedule("constant:1")
    {'schedule': 'constant', 'start': 1.0}

    Raises:
        UserError: it does not read so.
    """
    name, *numbers = text.split(":")
    if name not in SCHEDULES:
        known = ", ".join(SCHEDULES)
        raise UserError(f"unknown schedule {name!r}{nearest(name, SCHEDULES)}; known: {known}")
    wanted = 1 if name == "constant" else 2
    try:
        values = [float(n) for n in numbers]
    except ValueError:
        values = []
    if len(values) != wanted:
        form, example = ("TAU", "1") if wanted == 1 else ("START:END", "10:0.1")
        raise UserError(f"a schedule reads {name}:{form}, e.g. {name}:{example}; got {text!r}")
    return {"schedule": name, **dict(zip(("start", "end"), values, strict=False))}


def line_up(
    methods: Sequence[str] = (),
    samplers: Sequence[str] = (),
    hypergradients: Sequence[str] = (),
    schedules: Sequence[str] = (),
    *,
    steps: int,
    settings: Mapping[str, Any] | None = None,
) -> Line:
    """All contenders: the methods, then samplers × hypergradients × schedules.

    A sampler without a temperature competes once, whatever the schedules. `settings` go on top of every
    contender that reads them.

    Raises:
        UserError: nothing to compare, or a name or setting that is wrong for every contender.
    """
    rows = [(name, {"method": name}) for name in methods]
    hypergradients = hypergradients or ("first_order",)
    schedules = schedules or ("constant:1",)
    for sampler, hypergradient, tau in itertools.product(samplers, hypergradients, schedules):
        section: dict[str, Any] = {
            "method": "darts",
            "sampler": part(sampler),
            "hypergradient": part(hypergradient),
        }
        HYPERGRADIENTS.check(section["hypergradient"]["name"])
        label = [sampler] + ([hypergradient] if hypergradient != "first_order" else [])
        temperature = schedule(tau)
        if getattr(SAMPLERS[section["sampler"]["name"]], "needs_plain_steps", False):
            section["architecture"] = {"betas": (0.0, 0.999), "weight_decay": 0.0}
        if Config.model_validate(layered(section)).uses_temperature:
            section["temperature"] = temperature
            label += [tau] if len(schedules) > 1 or tau != "constant:1" else []
        rows.append((" · ".join(label), section))
    found: dict[str, Contender] = {}
    left_out: dict[str, None] = {}
    for name, row in rows:
        try:
            found.setdefault(name, Contender(name, _config(row, steps, settings or {})))
        except UserError as error:
            left_out[f"{name}: {_first_problem(error)}"] = None
    if not found:
        raise UserError(
            "nothing to compare"
            + ("; " + "; ".join(left_out) if left_out else ": give --methods or --samplers")
        )
    return Line(tuple(found.values()), tuple(left_out))


def _config(row: Mapping[str, Any], steps: int, settings: Mapping[str, Any]) -> Config:
    """The configuration of one contender; what it does not read is left out of the common settings."""
    if row["method"] not in METHODS:
        check(row)  # says which there are
    common = merge(LAB_SETTINGS, {"search": {"epochs": steps}}, settings)
    reads = check(merge(row, {"search": {"epochs": steps}}))
    if not reads.learns:
        raise UserError("it trains no logits, so there is nothing to measure")
    if reads.cost.name != "none":
        row = merge(row, {"cost": {"name": "none"}})
        reads = check(merge(row, {"search": {"epochs": steps}}))
    silent = unused(reads)
    kept = {
        section: {k: v for k, v in keys.items() if f"{section}.{k}" not in silent}
        if isinstance(keys, Mapping)
        else keys
        for section, keys in common.items()
    }
    return check(merge(row, kept))


def _first_problem(error: UserError) -> str:
    return str(error).splitlines()[-1].removeprefix("  - ")
