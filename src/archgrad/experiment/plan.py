"""What an experiment consists of: arms (method × schedule), their seeds, and what all have in common."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from pydantic import ValidationError

from archgrad.config import Config, unused
from archgrad.config_layers import dotted, layered, merge
from archgrad.config_problems import check
from archgrad.errors import UserError
from archgrad.lab.contenders import Contender, Line, check_read, line_up, part, schedule
from archgrad.landscapes.task import Observe
from archgrad.methods import METHODS

CONTROL = "random search"
"""Name of the control's arm."""


@dataclass(frozen=True)
class Plan:
    """What is asked of an experiment.

    methods: presets, each perhaps with settings of its own in brackets, and with a name for it in front:
        ``gdas(search.epochs=30)``, ``early=darts(search.epochs=10)``.
    schedules: of τ, as in `lab.contenders.schedule`; every method that has a temperature is run with each of
        them, the others once. Without any a method keeps its own.
    seeds: runs of an arm, with the seeds `seed`, `seed` + 1, …; on a landscape searches at once.
    landscape, landscape_settings, noise, observe, step_noise, steps: what is searched, where it is a
        landscape; see `lab.studies.LabSettings`. None: networks.
    settings: configuration keys of all arms that read them.
    train: whether derived networks are trained from scratch and tested.
    control: whether random search of equal budget is an arm, too.
    entropy: the share of uniform at which an architecture counts as decided (`measures.converged_at`).
    within: how far below the best true accuracy a success may be, as a fraction.
    """

    methods: Sequence[str]
    schedules: Sequence[str] = ()
    seeds: int = 5
    seed: int = 0
    landscape: str | None = None
    landscape_settings: Mapping[str, Any] = field(default_factory=dict)
    noise: Mapping[str, Any] | None = None
    observe: Observe = "all"
    step_noise: float = 0.0
    steps: int = 400
    settings: Mapping[str, Any] = field(default_factory=dict)
    train: bool = False
    control: bool = True
    entropy: float = 0.5
    within: float = 0.01

    def __post_init__(self) -> None:
        """Raise `UserError` for what is wrong whatever is searched."""
        if not self.methods:
            raise UserError("wanted at least one method, e.g. --methods darts,gdas; got none")
        if self.seeds < 1 or self.seed < 0:
            raise UserError(
                f"wanted at least one seed, from 0 up; got seeds={self.seeds}, the first {self.seed}"
            )
        if not 0 < self.entropy < 1:
            raise UserError(
                f"--entropy is a share of the uniform entropy between 0 and 1, got {self.entropy}"
            )
        if not self.within >= 0:
            raise UserError(f"--within is a difference of accuracies, 0 or more, got {self.within}")
        if self.landscape is not None and self.train:
            raise UserError("on a landscape nothing is trained, its results are known: leave --train out")
        for key in ("method", "seed"):
            if key in self.settings:
                raise UserError(f"{key}: write --{key}{'s' if key == 'method' else ''}; it varies in here")

    @property
    def all_seeds(self) -> list[int]:
        """The seeds of an arm."""
        return list(range(self.seed, self.seed + self.seeds))

    def document(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def identity(self) -> dict[str, Any]:
        """What has to be the same for runs of two commands to stand in one experiment."""
        varies = ("methods", "schedules", "seeds", "control", "entropy", "within", "train")
        document = {key: value for key, value in self.document().items() if key not in varies}
        if self.landscape is None:  # each run has its seed
            del document["seed"]
        return document


class Arm(NamedTuple):
    """What is run with every seed. settings: the configuration's keys, without the seed.

    schedule: of τ, where one was asked for and the method has a temperature.
    """

    name: str
    method: str
    schedule: str | None
    settings: dict[str, Any]

    @property
    def slug(self) -> str:
        """A folder name of its own."""
        plain = re.sub(r"[^A-Za-z0-9.]+", "-", self.name).strip("-")
        if plain == self.name and len(plain) <= 60:
            return plain
        return f"{plain[:50]}-{hashlib.sha256(self.name.encode()).hexdigest()[:6]}"

    @property
    def is_control(self) -> bool:
        """Whether it is the random search."""
        return self.name == CONTROL


def network_arms(plan: Plan) -> list[Arm]:
    """The arms of an experiment on networks, checked as far as that needs no data; without the control.

    Raises:
        UserError: an unknown method or setting, or a common setting that no arm reads.
    """
    arms: list[Arm] = []
    read: set[str] = set()
    for text, tau in _combinations(plan):
        label, row, method = _row(text)
        common = that_it_reads(row, plan.settings)
        read |= set(dotted(common))
        settings = merge(common, row)
        config = check(settings)
        if tau is not None and config.uses_temperature:
            settings = merge(settings, {"temperature": schedule(tau)})
            check(settings)
        else:
            tau = None
        if config.reads_text:
            raise UserError(f"{text}: the space {config.space.name!r} reads texts; experiments are on images")
        _add(arms, Arm(_name(label, tau), method, tau, settings))
    _check_all_read(plan.settings, read)
    return arms


def landscape_arms(plan: Plan) -> list[tuple[Arm, Contender]]:
    """The arms of an experiment on a landscape, and what the laboratory runs for each; without the control.

    Raises:
        UserError: an unknown method or setting, or a common setting that no arm reads.
    """
    arms: list[Arm] = []
    contenders: list[Contender] = []
    read: frozenset[str] = frozenset()
    for text, tau in _combinations(plan):
        label, row, method = _row(text)
        del row["method"]
        line: Line = line_up([method], steps=plan.steps, settings=merge(plan.settings, row))
        check_read(row, line.read)
        read |= line.read
        (contender,) = line.contenders
        if tau is not None and contender.uses_temperature:
            document = merge(contender.config.model_dump(), {"temperature": schedule(tau)})
            config = Config.model_validate(layered(document))
            contender = Contender(contender.name, config)
        else:
            tau = None
        if _add(arms, Arm(_name(label, tau), method, tau, contender.config.document())):
            contenders.append(contender)
    check_read(plan.settings, read)
    return list(zip(arms, contenders, strict=True))


def _combinations(plan: Plan) -> list[tuple[str, str | None]]:
    """Method × schedule, as texts; every schedule is looked at, also where no method has a temperature."""
    for tau in plan.schedules:
        schedule(tau)
    return list(itertools.product(plan.methods, plan.schedules or (None,)))


def _row(text: str) -> tuple[str, dict[str, Any], str]:
    """``label=name(section.key=value,…)`` as label, settings, and the method's name."""
    label, _, rest = text.partition("=") if re.match(r"[^(]*=", text) else (text, "", text)
    found = part(rest)
    method = found.pop("name")
    if not label.strip() or method not in METHODS:
        check({"method": method})  # says which there are
        raise UserError(f"a method reads NAME, NAME(section.key=value,…) or LABEL=NAME(…); got {text!r}")
    for key in ("method", "seed"):
        if key in found:
            raise UserError(f"{text}: {key} cannot be a setting of a method")
    return label.strip(), {"method": method, **found}, method


def _name(label: str, tau: str | None) -> str:
    return label if tau is None else f"{label} · {tau}"


def _add(arms: list[Arm], arm: Arm) -> bool:
    """A method without a temperature comes once, whatever the schedules. Returns whether it was added."""
    known = next((other for other in arms if other.name == arm.name), None)
    if arm.is_control or (known is not None and known != arm):
        raise UserError(f"two arms are called {arm.name!r}: give one of them another name, LABEL=METHOD")
    if known is None:
        arms.append(arm)
    return known is None


def that_it_reads(row: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    """The common settings without those that this method has no use for."""
    preset = METHODS[row["method"]].settings
    try:
        config = Config.model_validate(layered(preset, common, row))
        silent = set(unused(config))
    except (ValidationError, UserError):
        check(merge(common, row))  # says what is wrong
        raise
    return _without(common, silent)


def _without(settings: Mapping[str, Any], keys: set[str], prefix: str = "") -> dict[str, Any]:
    """The settings without some dotted keys, and without sections that are then empty."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            if rest := _without(value, keys, f"{prefix}{key}."):
                found[key] = rest
        elif f"{prefix}{key}" not in keys:
            found[key] = value
    return found


def _check_all_read(settings: Mapping[str, Any], read: set[str]) -> None:
    for key in dotted(settings):
        if key not in read:
            raise UserError(f"{key}: no method here reads it; leave it out, or add one that does")
