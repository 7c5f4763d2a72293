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
    settings: Mapping[str, Any]


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
    "darts-es": Method(
        "DARTS that ends when the validation loss becomes sharp in the logits, and goes back to before",
        "Zela et al. 2020, RobustDARTS (arXiv 1909.09656), section 4.3",
        {"diagnostics": {"sharpness": 1}, "stopping": {"rules": {"lambda_max": {}}}},
    ),
    "darts-ada": Method(
        "DARTS that begins again with a stronger weight decay whenever the loss becomes sharp",
        "Zela et al. 2020, RobustDARTS-ADA (arXiv 1909.09656), section 5",
        {
            "diagnostics": {"sharpness": 1},
            "stopping": {"rules": {"lambda_max": {"action": "raise_weight_decay"}}},
        },
    ),
    "darts-plus": Method(
        "DARTS that ends when the normal cell has two skip connections",
        "Liang et al. 2019, DARTS+ (arXiv 1909.06035)",
        {"stopping": {"rules": {"skip_count": {}}}},
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
    "enas": Method(
        "an LSTM emits the choices one after another; score function with a moving baseline",
        "Pham et al. 2018 (arXiv 1802.03268); Dong & Yang 2020 (arXiv 2001.00326)",
        {
            "search": {"epochs": 250, "order": "weights_first"},
            "sampler": {"name": "gumbel_max"},
            "controller": {"name": "lstm"},
            "hypergradient": {
                "name": "score_function",
                "baseline": "moving_average",
                "decay": 0.99,
                "entropy_bonus": 1e-4,
            },
            "architecture": {
                "learning_rate": 1e-3,
                "betas": (0.0, 0.999),
                "weight_decay": 0.0,
                "clip": 5.0,
                "initial_scale": 0.1,
            },
        },
    ),
    "dsnas": Method(
        "one candidate runs, one level; the gradient of its gate is the reward of the draw",
        "Hu et al. 2020 (arXiv 2002.09128)",
        {
            "data": {"validation": 0.1},  # no architecture split: this part only monitors the search
            "search": {"epochs": 240},
            "sampler": {"name": "score_gate"},
            "hypergradient": {"name": "single_level"},
            "derive": {"rule": "argmax"},
        },
    ),
    "proxyless": Method(
        "binary gates: of two drawn candidates one runs; a step on the logits every five on the weights",
        "Cai et al. 2019 (arXiv 1812.00332)",
        {
            "search": {"epochs": 160, "warmup_epochs": 40, "architecture_every": 5, "order": "weights_first"},
            "sampler": {"name": "two_path"},
            "architecture": {"learning_rate": 1e-3, "betas": (0.0, 0.999), "weight_decay": 0.0},
        },
    ),
    "darts-pt": Method(
        "DARTS, decided by what the supernet can spare least, with tuning after each decision",
        "Wang et al. 2021 (arXiv 2108.04392)",
        {"selection": {"name": "perturbation"}},
    ),
    "pdarts": Method(
        "DARTS in three stages: deeper networks, fewer candidates, dropout on skip connections, two at most",
        "Chen et al. 2019 (arXiv 1904.12760)",
        {
            "search": {"epochs": 25, "warmup_epochs": 10, "batch_size": 96},
            "architecture": {"learning_rate": 6e-4, "clip": 5.0},
            "stages": [
                {"keep": 5, "settings": {"space": {"cells": 5}, "search": {"skip_dropout": 0.1}}},
                {"keep": 3, "settings": {"space": {"cells": 11}, "search": {"skip_dropout": 0.4}}},
                {"settings": {"space": {"cells": 17}, "search": {"skip_dropout": 0.7}}},
            ],
            "derive": {"rule": "pdarts"},
        },
    ),
    "drnas": Method(
        "mixtures drawn from a Dirichlet distribution whose concentration is learned; one stage",
        "Chen et al. 2021 (arXiv 2006.10355)",
        {
            "search": {"epochs": 100, "warmup_epochs": 10},
            "sampler": {"name": "dirichlet"},
            "architecture": {"learning_rate": 6e-4},
        },
    ),
    "drnas-2stage": Method(
        "DrNAS on a quarter of the channels, then on half of them with the stronger half of the candidates",
        "Chen et al. 2021 (arXiv 2006.10355), section 4",
        {
            "search": {"epochs": 50, "warmup_epochs": 10},
            "sampler": {"name": "dirichlet"},
            "architecture": {"learning_rate": 6e-4},
            "stages": [
                {"keep": 0.6, "settings": {"space": {"partial_channels": 4}}},
                {"settings": {"space": {"partial_channels": 2}}},
            ],
        },
    ),
    "fairdarts": Method(
        "independent sigmoid gates, driven to 0 or 1 by the 0-1 loss",
        "Chu et al. 2020 (arXiv 1911.12126)",
        {
            "sampler": {"name": "sigmoid"},
            "regularizer": {"name": "zero_one", "strength": 10.0},
        },
    ),
    "reinmax": Method(
        "GDAS with a straight-through gradient of second order",
        "Liu et al. 2023 (arXiv 2304.08612)",
        {
            "search": {"epochs": 250, "order": "weights_first"},
            "sampler": {"name": "reinmax"},
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
