"""Who is compared: methods by name, and every sampler × hypergradient × schedule that fits together."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from archgrad.config import Config, unused
from archgrad.config_layers import dotted, layered, merge, overrides
from archgrad.config_problems import check
from archgrad.controllers import CONTROLLERS
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
LSTM_HIDDEN = 8
"""Units of an LSTM controller, where none are given. Every search has an LSTM of its own: 1,000 of them with
the published 32 units are 16 million parameters, and take minutes for choices that need no such memory."""
TAKEN = ("architecture", "regularizer", "controller")
"""Sections whose keys may be laid over all contenders."""
_INSTEAD = {
    "method": "write --methods",
    "seed": "write --seed",
    "search": "write --steps for search.epochs; a landscape reads no other of its keys",
    "temperature": "write --schedules name:start:end, e.g. --schedules linear:10:0.1",
    "sampler": "write --samplers name(key=value)",
    "hypergradient": "write --hypergradients name(key=value)",
    "landscape": "write --landscape NAME and landscape.KEY=VALUE on the command line",
    "noise": "write noise.name=NAME and noise.KEY=VALUE on the command line",
}


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
    """The contenders, and the combinations that were left out, each with the reason.

    read: the common settings, as ``section.key``, that some contender reads.
    """

    contenders: tuple[Contender, ...]
    left_out: tuple[str, ...]
    read: frozenset[str] = frozenset()

    def __add__(self, other: Line) -> Line:
        """Both together."""
        left_out = dict.fromkeys((*self.left_out, *other.left_out))
        return Line((*self.contenders, *other.contenders), tuple(left_out), self.read | other.read)


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

    A sampler without a temperature competes once, whatever the schedules. `settings`, of the sections
    `TAKEN`, go on top of every contender that reads them. Where a method and a sampler of the same name
    compete, the sampler's label is ``name (sampler)``.

    Raises:
        UserError: nothing to compare, a setting of another section, or a name or setting that is wrong for
            every contender.
    """
    line = those_that_fit(methods, samplers, hypergradients, schedules, steps=steps, settings=settings)
    check_any(line)
    return line


def those_that_fit(
    methods: Sequence[str] = (),
    samplers: Sequence[str] = (),
    hypergradients: Sequence[str] = (),
    schedules: Sequence[str] = (),
    *,
    steps: int,
    settings: Mapping[str, Any] | None = None,
) -> Line:
    """As `line_up`, but perhaps nobody."""
    settings = settings or {}
    check_sections(settings)
    rows: list[tuple[str, dict[str, Any]]] = [(name, {"method": name}) for name in methods]
    hypergradients = hypergradients or ("first_order",)
    schedules = schedules or ("constant:1",)
    for sampler, hypergradient, tau in itertools.product(samplers, hypergradients, schedules):
        section: dict[str, Any] = {
            "method": "darts",
            "sampler": part(sampler),
            "hypergradient": part(hypergradient),
        }
        HYPERGRADIENTS.check(section["hypergradient"]["name"])
        known = f"{sampler} (sampler)" if sampler in methods and hypergradient == "first_order" else sampler
        label = [known] + ([hypergradient] if hypergradient != "first_order" else [])
        temperature = schedule(tau)
        if getattr(SAMPLERS[section["sampler"]["name"]], "needs_plain_steps", False):
            section["architecture"] = {"betas": (0.0, 0.999), "weight_decay": 0.0}
        if Config.model_validate(layered(section)).uses_temperature:
            section["temperature"] = temperature
            label += [tau] if len(schedules) > 1 or tau != "constant:1" else []
        rows.append((" · ".join(label), section))
    found: dict[str, Contender] = {}
    left_out: dict[str, None] = {}
    read: set[str] = set()
    for name, row in rows:
        try:
            config, reads = _config(row, steps, settings)
            found.setdefault(name, Contender(name, config))
            read |= reads
        except UserError as error:
            left_out[f"{name}: {_first_problem(error)}"] = None
    return Line(tuple(found.values()), tuple(left_out), frozenset(read))


def check_any(line: Line) -> None:
    """Raise `UserError` where nobody competes."""
    if not line.contenders:
        why = "; ".join(line.left_out)
        raise UserError("nothing to compare" + (f"; {why}" if why else ": give --methods or --samplers"))


def check_sections(settings: Mapping[str, Any]) -> None:
    """Raise `UserError` where a setting is of a section that is not laid over contenders."""
    for key, value in settings.items():
        if key not in TAKEN:
            why = _INSTEAD.get(key, "a search on a landscape does not read it")
            raise UserError(f"the laboratory takes keys of {', '.join(TAKEN)}, got {key}: {why}")
        if not isinstance(value, Mapping):
            raise UserError(f"{key}: a section; write {key}.KEY=VALUE, got {key}={value}")


def check_read(settings: Mapping[str, Any], read: Collection[str]) -> None:
    """Raise `UserError` where no contender reads a setting; read: see `Line`."""
    for key in dotted(settings):
        if key not in read:
            raise UserError(f"{key}: no contender reads it; leave it out, or add one that does")


def _config(row: Mapping[str, Any], steps: int, settings: Mapping[str, Any]) -> tuple[Config, set[str]]:
    """The configuration of one contender, and the common settings that it reads: it has no others."""
    if row["method"] not in METHODS:
        check(row)  # says which there are
    length = {"search": {"epochs": steps}}
    if not check(merge(row, length)).learns:
        raise UserError("it trains no logits, so there is nothing to measure")
    row = merge(row, length, {"cost": {"name": "none"}})
    for section, key in (("architecture", "optimizer"), ("controller", "name"), ("regularizer", "name")):
        given = settings.get(section, {})
        if key in given:  # it says which other keys are read
            row = merge(row, {section: {key: given[key]} if section == "architecture" else given})
    reads = check(row)
    common = merge(LAB_SETTINGS)
    if reads.controller.name == "lstm":
        common["controller"] = {"hidden": LSTM_HIDDEN}
    silent = {*unused(reads), *_foreign(reads, settings.get("controller", {}))}
    kept, read = {}, set()
    for section, keys in merge(common, settings).items():
        kept[section] = {k: v for k, v in keys.items() if f"{section}.{k}" not in silent}
        read |= {f"{section}.{k}" for k in kept[section]}
    return check(merge(row, kept)), read


def _foreign(config: Config, given: Mapping[str, Any]) -> set[str]:
    """Settings of another controller than this configuration's, as ``controller.key``."""
    kind = CONTROLLERS[config.controller.name]
    if not is_dataclass(kind):
        return set()
    return (
        {f"controller.{key}" for key in given}
        - {f"controller.{f.name}" for f in fields(kind)}
        - {"controller.name"}
    )


def _first_problem(error: UserError) -> str:
    return str(error).splitlines()[-1].removeprefix("  - ")
