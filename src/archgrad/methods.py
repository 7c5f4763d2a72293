"""Methods as presets: each row names parts and settings, on top of the defaults in `config`.

Keys are those of the configuration. Sizes are the published ones; `config.resolve` scales them for
small data and says so. A new method made of known parts is another row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Method(NamedTuple):
    """One sentence, the paper, and the settings that differ from the defaults."""

    sentence: str
    source: str
    settings: Mapping[str, Mapping[str, Any]]


_DARTS = "Liu et al. 2019 (arXiv 1806.09055)"

METHODS: dict[str, Method] = {
    "darts": Method(
        "softmax mixture, first-order architecture gradient",
        _DARTS,
        {},
    ),
    "darts-2nd": Method(
        "softmax mixture, architecture gradient through one unrolled weight step",
        _DARTS,
        {"hypergradient": {"name": "unrolled"}},
    ),
    "snas": Method(
        "Gumbel-softmax with annealed temperature, one level, cost penalty (mild, moderate, aggressive)",
        "Xie et al. 2019 (arXiv 1812.09926)",
        {
            "data": {"validation": 0.1},  # no architecture split: this part only monitors the search
            "search": {"epochs": 150, "drop_path": 0.3},
            "sampler": {"name": "gumbel_softmax"},
            "temperature": {"schedule": "linear", "start": 1.0, "end": 0.03},
            "hypergradient": {"name": "single_level"},
            "architecture": {"initial_mean": 1.0, "initial_scale": 0.01, "clip": 10.0},
            "cost": {"name": "macs", "strength": "mild"},
            "derive": {"rule": "snas"},
        },
    ),
    "gdas": Method(
        "straight-through Gumbel: one candidate of each choice runs, drawn anew every step",
        "Dong & Yang 2019 (arXiv 1910.04465)",
        {
            "search": {"epochs": 250, "order": "weights_first"},
            "sampler": {"name": "straight_through"},
            "temperature": {"schedule": "linear", "start": 10.0, "end": 0.1},
            "weights": {"nesterov": True, "weight_decay": 5e-4},
        },
    ),
    "random": Method(
        "control: an architecture drawn uniformly; one random path a step is trained, for the curves",
        "Li & Talwalkar 2019 (arXiv 1902.07638)",
        {
            "data": {"validation": 0.1},
            "sampler": {"name": "uniform"},
            "hypergradient": {"name": "none"},
        },
    ),
}
