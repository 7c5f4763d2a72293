"""Documents of the laboratory with made-up numbers, of any size, to test how they are shown."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest

QUANTITIES = ("regret", "entropy", "margin", "stability")


def make_study(names: list[str], steps: int = 6, seeds: int = 8, settings: Any = None) -> dict[str, Any]:
    """Contender i has a final regret of i / 100 and an error of 0.002; neighbours cannot be told apart."""
    outcomes, curves = [], {}
    for i, name in enumerate(names):
        outcomes.append(
            {
                "name": name,
                "searches": seeds,
                "regret": i / 100,
                "regret_error": 0.002,
                "regret_median": i / 100,
                "regret_quartiles": (i / 200, i / 50),
                "optimum": 1.0 if i == 0 else 0.5 / i,
                "top": 1 / (1 + i),
                "skips": 0.0,
                "reached": 1 / (1 + i),
                "steps_to_optimum": 3.0 + i if i < 3 else None,
                "entropy": 0.1 * i,
                "margin": 1 / (1 + i),
                "stability": 0.9,
                "seconds": 0.5,
                "settings": {
                    "sampler": {"name": name},
                    "temperature": {"schedule": "constant", "start": 1.0},
                    "architecture": {"learning_rate": 0.05},
                    "train": {"epochs": 3},
                    **(settings or {}),
                },
            }
        )
        fall = np.linspace(0.5, i / 100, steps)
        band = {"mean": fall, "low": fall - 0.004, "high": fall + 0.004, "median": fall}
        band |= {"lower_quartile": fall, "upper_quartile": fall}
        values = {k: v.tolist() for k, v in band.items()}
        curves[name] = {
            "steps": list(range(steps)),
            "tau": np.linspace(10, 1, steps).tolist(),
            "found": np.linspace(0, 0.9, steps).tolist(),
            **{quantity: copy.deepcopy(values) for quantity in QUANTITIES},
        }
    comparisons = []
    for (i, first), (j, second) in itertools.combinations(enumerate(names), 2):
        value, half = (i - j) / 100, 0.015
        verdict = "better" if value + half < 0 else "worse" if value - half > 0 else "undecided"
        comparisons.append(
            {"first": first, "second": second, "difference": value, "low": value - half,
             "high": value + half, "wins": 0.75, "verdict": verdict, "verdict_holm": verdict,
             "p": 0.5 if verdict == "undecided" else 0.001,
             "p_holm": 1.0 if verdict == "undecided" else 0.01}
        )  # fmt: skip
    return {
        "outcomes": outcomes,
        "curves": curves,
        "comparisons": comparisons,
        "pairs_tested": len(comparisons),
    }


def make_estimators(names: list[str]) -> list[dict[str, Any]]:
    """The first estimator is exact; the others have a variance of ten to their place, every second a bias."""
    return [
        {
            "name": name,
            "point": point,
            "tau": None if i % 2 else 1.0,
            "draws": 100,
            "bias": 0.0 if i == 0 else 0.3 * (i % 2),
            "bias_error": 0.0 if i == 0 else 0.05,
            "bias_p": 1e-6 if i % 2 else 0.5,
            "variance": 1e-28 if i == 0 else 10.0 ** (i - 2),
            "mse": 1e-28 if i == 0 else 10.0 ** (i - 2) + (0.3 * (i % 2)) ** 2,
            "cosine": 1 / (1 + i),
            "mean_cosine": 0.9,
            "seconds": 0.1,
        }
        for point in ("undecided", "leaning", "nearly decided")
        for i, name in enumerate(names)
    ]


def make_document(
    names: list[str] | None = None, studies: str = "estimators searches schedules", **sizes: int
) -> dict[str, Any]:
    """A document with the studies named."""
    names = ["softmax", "reinmax", "gumbel_rao", "score_gate"] if names is None else names
    document: dict[str, Any] = {
        "landscape": {
            "name": "nasbench201",
            "choices": 6,
            "candidates": ["none", "skip_connect", "conv"],
            "architectures": 729,
            "best": 0.05,
            "worst": 0.9,
            "best_percent": 0.06,
            "optimum": ["conv"] * 6,
            "regret_of_optimum": 0.0,
        },
        "settings": {
            "methods": (), "samplers": tuple(names), "hypergradients": (), "schedules": (),
            "landscape": "nasbench201", "landscape_settings": {}, "noise": None, "seeds": 8, "steps": 5,
            "draws": 100, "seed": 3, "studies": tuple(studies.split()), "observe": "all", "step_noise": 0.0,
            "overrides": {},
        },
        "left_out": [],
        "environment": {"archgrad": "0.1.0", "torch": "2.0", "processor": "a processor", "gpu": None,
                        "started": "2026-03-14T09:26:53+00:00"},
    }  # fmt: skip
    if "estimators" in studies:
        document["estimators"] = make_estimators(names)
    if "searches" in studies:
        document["searches"] = make_study(names, **sizes)
    if "schedules" in studies:
        grid = ("constant:1", "linear:10:0.1", "exponential:10:1")
        document["schedules"] = make_study(
            [f"{n} · {tau}" for n in names[1:3] or names for tau in grid], **sizes
        )
    return document


@pytest.fixture
def document():
    """``document(names, studies, steps=…, seeds=…) -> document``."""
    return make_document
