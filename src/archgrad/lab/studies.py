"""The studies of the laboratory as one document of plain values: what is written, drawn and printed.

``{"landscape", "settings", "left_out", "estimators": [...], "searches": study, "schedules": study}`` where
a study is ``{"outcomes": [...], "curves": {...}, "comparisons": [...], "pairs_tested": n}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from archgrad.errors import UserError
from archgrad.lab.comparison import compare
from archgrad.lab.contenders import Contender, Line, check_any, check_read, line_up, those_that_fit
from archgrad.lab.convergence import Course, best_percent, outcome, run
from archgrad.lab.estimators import estimate, points
from archgrad.landscapes.build import build
from archgrad.landscapes.landscape import Landscape, mean_loss
from archgrad.landscapes.task import Observe
from archgrad.progress import Progress, Shown, Silent
from archgrad.samplers import SAMPLERS

STUDIES = ("estimators", "searches", "schedules")
SCHEDULES_COMPARED = (
    *(f"constant:{tau}" for tau in ("0.1", "0.3", "1", "3", "10")),
    *(
        f"{shape}:{ends}"
        for shape in ("linear", "exponential", "cosine")
        for ends in ("1:0.1", "10:0.1", "10:1", "1:0.03")
    ),
)
"""The grid of the schedule study: shapes × ends, with those of SNAS (1 to 0.03) and GDAS (10 to 0.1)."""
_SCHEDULED = ("gumbel_softmax", "straight_through")
_NOISY = "noisy_gumbel_softmax(logit_noise=0.5,candidate_dropout=0.1)"
"""With its defaults it is gumbel_softmax."""
_SCORES = (
    "score_function(baseline=none)",
    "score_function(baseline=moving_average)",
    "score_function(baseline=leave_one_out,samples=2)",
    "rebar",
)


@dataclass(frozen=True)
class LabSettings:
    """What is asked of the laboratory.

    methods, samplers, hypergradients, schedules: see `contenders.line_up`; without methods and samplers:
        every sampler that has a gradient, and the score functions with gumbel_max. The study "schedules" is
        of samplers, gumbel_softmax and straight_through if none are given; methods have a schedule of
        their own.
    landscape, landscape_settings, noise: see `landscapes.build.build`.
    seeds: searches per method. steps: of each. draws: per estimate. seed: root of all random streams.
    studies: some of `STUDIES`. observe, step_noise: see `landscapes.task.LandscapeTask`.
    overrides: configuration keys laid over every contender that reads them; see `contenders.TAKEN`.
    """

    methods: Sequence[str] = ()
    samplers: Sequence[str] = ()
    hypergradients: Sequence[str] = ()
    schedules: Sequence[str] = ()
    landscape: str = "nasbench201"
    landscape_settings: Mapping[str, Any] = field(default_factory=dict)
    noise: Mapping[str, Any] | None = None
    seeds: int = 256
    steps: int = 400
    draws: int = 20_000
    seed: int = 0
    studies: Sequence[str] = ("estimators", "searches")
    observe: Observe = "all"
    step_noise: float = 0.0
    overrides: Mapping[str, Any] = field(default_factory=dict)


def study(settings: LabSettings, progress: Progress | None = None) -> dict[str, Any]:
    """Do the studies that are asked for.

    Raises:
        UserError: anything wrong with the settings, or nothing to measure.
        WorkError: a search diverged.
    """
    _check_studies(settings)
    progress = progress or Silent()
    landscape = build(settings.landscape, settings.noise, **settings.landscape_settings)
    line = _contenders(settings) if set(settings.studies) - {"schedules"} else Line((), ())
    scheduled = _scheduled(settings) if "schedules" in settings.studies else Line((), ())
    line, scheduled = (_tried(found, landscape, settings.observe) for found in (line, scheduled))
    both = line + scheduled
    check_any(both)
    check_read(settings.overrides, both.read)
    independent = [c for c in line.contenders if c.config.controller.name == "independent"]
    if set(settings.studies) == {"estimators"} and not independent:
        raise UserError(
            "the study estimators needs a contender with independent logits, and there is none: give others "
            "in --methods or --samplers, or --study searches"
        )
    document: dict[str, Any] = {
        "landscape": _described(landscape, settings),
        "settings": asdict(settings),
        "left_out": list(both.left_out),
    }
    if "estimators" in settings.studies:
        document["estimators"] = _estimators(independent, landscape, settings, progress)
    if "searches" in settings.studies:
        document["searches"] = _searches(line.contenders, landscape, settings, progress, "searches")
    if "schedules" in settings.studies:
        document["schedules"] = _searches(scheduled.contenders, landscape, settings, progress, "schedules")
    return document


def _check_studies(settings: LabSettings) -> None:
    if not settings.studies:
        raise UserError(f"wanted a study (--study), one or more of: {', '.join(STUDIES)}; got none")
    for name in settings.studies:
        if name not in STUDIES:
            raise UserError(f"unknown study {name!r}; known: {', '.join(STUDIES)}")
    if settings.hypergradients and not settings.samplers:
        raise UserError("--hypergradients need --samplers to go with, e.g. --samplers gumbel_max")
    if settings.schedules and settings.methods and not settings.samplers:
        raise UserError("--schedules need --samplers to go with: methods have a schedule of their own")
    if "schedules" in settings.studies and settings.methods and not settings.samplers:
        raise UserError(
            "the study schedules is of samplers, and methods have a schedule of their own: give --samplers"
        )


def _scheduled(settings: LabSettings) -> Line:
    return line_up(
        samplers=settings.samplers or _SCHEDULED,
        hypergradients=settings.hypergradients,
        schedules=settings.schedules or SCHEDULES_COMPARED,
        steps=settings.steps,
        settings=settings.overrides,
    )


def _contenders(settings: LabSettings) -> Line:
    common: dict[str, Any] = {"steps": settings.steps, "settings": settings.overrides}
    if settings.methods or settings.samplers:
        return line_up(
            settings.methods, settings.samplers, settings.hypergradients, settings.schedules, **common
        )
    samplers = [_NOISY if name == "noisy_gumbel_softmax" else name for name in SAMPLERS]
    plain = those_that_fit(samplers=samplers, schedules=settings.schedules, **common)
    line = plain + those_that_fit(
        samplers=["gumbel_max"], hypergradients=_SCORES, schedules=settings.schedules, **common
    )
    check_any(line)
    return line


def _tried(line: Line, landscape: Landscape, observe: Observe) -> Line:
    """Those that can take a step on this landscape; an hour's work must not end at the last of them."""
    fit: list[Contender] = []
    left_out = list(line.left_out)
    for contender in line.contenders:
        search = contender.config.search.model_copy(update={"epochs": 1})
        step = replace(contender, config=contender.config.model_copy(update={"search": search}))
        try:
            run(step, landscape, searches=2, observe=observe)
        except UserError as error:
            left_out.append(f"{contender.name}: {error}")
        else:
            fit.append(contender)
    return replace(line, contenders=tuple(fit), left_out=tuple(left_out))


def _described(landscape: Landscape, settings: LabSettings) -> dict[str, Any]:
    (group,) = landscape.groups
    return {
        "name": settings.landscape,
        "choices": len(group.names),
        "candidates": list(group.candidates),
        "architectures": len(group.candidates) ** len(group.names),
        "best": landscape.truth.best,
        "worst": landscape.truth.worst,
        "best_percent": best_percent(landscape, settings.seed),
        "regret_of_random": mean_loss(landscape.truth) - landscape.truth.best,
        "optimum": [group.candidates[k] for k in landscape.optimum],
        "regret_of_optimum": float(landscape.truth.values(torch.tensor(landscape.optimum)))
        - landscape.truth.best,
    }


def _estimators(
    contenders: Sequence[Contender], landscape: Landscape, settings: LabSettings, progress: Progress
) -> list[dict[str, Any]]:
    where = points(landscape, settings.seed)
    rows: list[dict[str, Any]] = []
    with Shown(progress, "estimators", len(where) * len(contenders)):
        for point, logits in where.items():
            for contender in contenders:
                found = estimate(
                    contender,
                    landscape,
                    logits,
                    point=point,
                    tau=contender.config.temperature.start,
                    draws=settings.draws,
                    seed=settings.seed,
                    observe=settings.observe,
                )
                rows.append(asdict(found))
                progress.update(len(rows), f"{found.name} at {point}: bias {found.bias:.2f}")
    return rows


def _searches(
    contenders: Sequence[Contender],
    landscape: Landscape,
    settings: LabSettings,
    progress: Progress,
    title: str,
) -> dict[str, Any]:
    threshold = best_percent(landscape, settings.seed)
    courses: list[Course] = []
    outcomes = []
    with Shown(progress, title, len(contenders)):
        for contender in contenders:
            course = run(
                contender,
                landscape,
                searches=settings.seeds,
                seed=settings.seed,
                observe=settings.observe,
                step_noise=settings.step_noise,
            )
            courses.append(course)
            found = outcome(course, landscape, threshold)
            outcomes.append({**asdict(found), "settings": contender.config.document()})
            progress.update(len(courses), f"{found.name}: regret {found.regret:.4f}")
    comparisons = [asdict(c) for c in compare(courses, settings.seed)]
    return {
        "outcomes": outcomes,
        "curves": {course.name: _curves(course) for course in courses},
        "comparisons": comparisons,
        "pairs_tested": len(comparisons),
    }


def _curves(course: Course) -> dict[str, Any]:
    return {
        "steps": course.steps,
        "tau": course.tau,
        **{name: _band(getattr(course, name)) for name in ("regret", "entropy", "margin", "stability")},
        "found": [float((course.hit.ge(0) & (course.hit <= step)).double().mean()) for step in course.steps],
    }


def _band(values: Tensor) -> dict[str, list[float]]:
    """Mean over S seeds with its 95 % interval (normal), and the quartiles. [T, S] -> T numbers each."""
    mean = values.mean(dim=1)
    error = 1.96 * values.std(dim=1) / values.shape[1] ** 0.5 if values.shape[1] > 1 else 0 * mean
    lower, median, upper = torch.quantile(values, torch.tensor([0.25, 0.5, 0.75], dtype=values.dtype), dim=1)
    named = {
        "mean": mean,
        "low": mean - error,
        "high": mean + error,
        "lower_quartile": lower,
        "median": median,
        "upper_quartile": upper,
    }
    return {name: tensor.tolist() for name, tensor in named.items()}
