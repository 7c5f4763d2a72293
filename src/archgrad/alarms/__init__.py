"""Alarms: what goes wrong in a search while there is time, each with what to type against it.

An alarm is a frozen dataclass of its thresholds; called with the lines of ``metrics.jsonl`` up to now and
what the run is about (`alarm.About`), it says what is wrong (`alarm.Found`), or None. It is a pure function
of these, so it can be asked of any run afterwards. It changes nothing.
"""

from __future__ import annotations

from archgrad.table import Entry, Table

ALARMS = Table(
    "alarm",
    {
        "skip_collapse": Entry(
            "archgrad.alarms.skip_collapse:SkipCollapse",
            "most of what would be derived are skip connections",
            "Zela et al. 2020 (arXiv 1909.09656), section 3; Liang et al. 2019 (arXiv 1909.06035)",
        ),
        "lambda_rising": Entry(
            "archgrad.alarms.lambda_rising:LambdaRising",
            "the validation loss becomes sharp in the logits (where it is measured)",
            "Zela et al. 2020, RobustDARTS (arXiv 1909.09656), section 4.3",
        ),
        "vanishing_gradient": Entry(
            "archgrad.alarms.vanishing_gradient:VanishingGradient",
            "the logits' gradient all but vanished before the choices were decided",
        ),
        "low_tau": Entry(
            "archgrad.alarms.low_tau:LowTau",
            "the temperature is low in the first half of the search, the choices still open",
        ),
        "untrained_weights": Entry(
            "archgrad.alarms.untrained_weights:UntrainedWeights",
            "the logits move while the network guesses",
        ),
        "unsettled": Entry(
            "archgrad.alarms.unsettled:Unsettled",
            "the winners still change in the last epochs of the search",
        ),
        "undecided": Entry(
            "archgrad.alarms.undecided:Undecided",
            "the search ends with near ties",
        ),
        "discretisation_gap": Entry(
            "archgrad.alarms.discretisation_gap:DiscretisationGap",
            "what would be derived is far worse than the mixture that is optimised (where it is measured)",
            "Wang et al. 2021, DARTS-PT (arXiv 2108.04392), section 4",
        ),
    },
)
"""``ALARMS[name](**settings)(lines, about) -> Found | None``, see `alarms.alarm`."""
