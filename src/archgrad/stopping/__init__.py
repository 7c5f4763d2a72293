"""Rules that watch a search and end it, or act on it, when it has converged or begins to fail.

A rule is a frozen dataclass of its settings; called with the lines of ``metrics.jsonl`` up to now it says
why the search should not go on like this, and which epoch it goes back to (`rule.Reason`), or None. It is
a pure function of the lines, so it can be asked of any run afterwards. What is done then is an action.
"""

from __future__ import annotations

from archgrad.table import Entry, Table

STOPPING_RULES = Table(
    "stopping rule",
    {
        "entropy": Entry(
            "archgrad.stopping.entropy:Entropy",
            "the choices are decided: their mean entropy is below a share of its maximum",
        ),
        "stability": Entry(
            "archgrad.stopping.stability:Stability",
            "what would be derived has not changed for some epochs",
            "Liang et al. 2019, DARTS+ (arXiv 1909.06035), criterion 1*",
        ),
        "lambda_max": Entry(
            "archgrad.stopping.lambda_max:LambdaMax",
            "the largest eigenvalue of the validation loss in the logits rises; goes back to before it did",
            "Zela et al. 2020, RobustDARTS (arXiv 1909.09656), section 4.3",
        ),
        "skip_count": Entry(
            "archgrad.stopping.skip_count:SkipCount",
            "a cell that would be derived has two skip connections or more",
            "Liang et al. 2019, DARTS+ (arXiv 1909.06035), criterion 1",
        ),
        "plateau": Entry(
            "archgrad.stopping.plateau:Plateau",
            "the validation loss has had no better epoch for some epochs; goes back to the best",
        ),
        "time": Entry(
            "archgrad.stopping.time_budget:TimeBudget",
            "another epoch would go beyond so many seconds of search",
        ),
    },
)
"""``STOPPING_RULES[name](**settings)(lines) -> Reason | None``, see `stopping.rule`."""

ACTIONS = Table(
    "action",
    {
        "stop": Entry(
            "archgrad.stopping.actions:Stop",
            "end the search with the logits of the epoch that the rule goes back to",
        ),
        "raise_weight_decay": Entry(
            "archgrad.stopping.actions:RaiseWeightDecay",
            "go on from the end of that epoch with a stronger weight decay on the operation weights",
            "Zela et al. 2020, RobustDARTS-ADA (arXiv 1909.09656), section 5",
        ),
        "raise_tau": Entry(
            "archgrad.stopping.actions:RaiseTau",
            "go on at a higher temperature",
        ),
        "freeze_alpha": Entry(
            "archgrad.stopping.actions:FreezeAlpha",
            "take the logits of that epoch, leave them, and go on with the weights alone",
        ),
    },
)
"""``ACTIONS[name](**settings)(levers) -> Levers | None``, see `stopping.actions`."""
