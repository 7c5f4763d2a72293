"""Diagnostics: what a search is doing, in numbers, beside every line of ``metrics.jsonl``.

Two kinds. *Records* are functions of a line and of those before it, cost next to nothing, are always on and
can be computed of any run afterwards (`record_diagnostics`). *Probes* ask the network itself, cost forward
and backward passes, and run on a schedule (the section ``diagnostics`` of the configuration).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archgrad.table import Entry, Table

RECORDS = Table(
    "record diagnostic",
    {
        "entropy": Entry(
            "archgrad.diagnostics.entropy:entropy",
            "how undecided the choices are: nats, share of uniform, effective number of candidates",
        ),
        "margin": Entry(
            "archgrad.diagnostics.margin:margin",
            "the winner's probability minus the runner-up's",
        ),
        "motion": Entry(
            "archgrad.diagnostics.motion:motion",
            "gradient norms, and how far a step moves the logits relative to their norm",
        ),
        "stability": Entry(
            "archgrad.diagnostics.stability:stability",
            "how many argmaxes are as some epochs ago, for how long, and Kendall's tau of the rankings",
            "Liang et al. 2019, DARTS+ (arXiv 1909.06035): stop when the ranking is stable",
        ),
        "operations": Entry(
            "archgrad.diagnostics.operations:operations",
            "shares of skip connections, poolings and none in the architecture derived now",
            "Liang et al. 2019, DARTS+ (arXiv 1909.06035): stop at two skip connections in a cell",
        ),
        "cell": Entry(
            "archgrad.diagnostics.cell:cell",
            "depth and width of the cells of the architecture derived now",
            "Shu et al. 2020 (arXiv 1909.09569), section 3.1",
        ),
        "generalisation": Entry(
            "archgrad.diagnostics.generalisation:generalisation",
            "validation loss minus training loss, training accuracy minus validation accuracy",
        ),
    },
)
"""``RECORDS[name](line, before) -> Reading``, see `diagnostics.line`."""

PROBES = Table(
    "probe",
    {
        "gap": Entry(
            "archgrad.diagnostics.gap:Gap",
            "validation accuracy of the mixture, the derived architecture and random ones, on shared weights",
        ),
        "sharpness": Entry(
            "archgrad.diagnostics.sharpness:Sharpness",
            "largest eigenvalue and trace of the validation loss's second derivatives in the logits",
            "Zela et al. 2020, RobustDARTS (arXiv 1909.09656), section 3",
        ),
        "signal": Entry(
            "archgrad.diagnostics.signal:Signal",
            "signal-to-noise ratio of the method's architecture gradient over batches and draws",
        ),
        "agreement": Entry(
            "archgrad.diagnostics.agreement:Agreement",
            "cosine between the first-order and the unrolled architecture gradient",
            "Liu et al. 2019, DARTS (arXiv 1806.09055), eq. 6-7",
        ),
        "ranking": Entry(
            "archgrad.diagnostics.ranking:Ranking",
            "Kendall's tau of shared-weight accuracy against true accuracy (NAS-Bench-201 on CIFAR-10)",
            "Yu et al. 2020 (arXiv 1902.08142): weight sharing may rank architectures wrongly",
        ),
    },
)
"""``PROBES[name](**settings)(subject) -> Reading``, see `diagnostics.subject`."""

DIAGNOSTICS = Table("diagnostic", {**RECORDS.entries, **PROBES.entries})
"""All of them, for listing."""


def record_diagnostics(line: Mapping[str, Any], before: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Every record diagnostic of a line of ``metrics.jsonl``: name -> field -> number or {choice: number}.

    Pure: of the same lines the same numbers, while a search runs or years later. A field that cannot be known
    (an older run without some key, the first epoch without one before it) is left out, and so is a diagnostic
    without any field.

    >>> line = {"epoch": 0, "probabilities": {"a": [0.5, 0.5]}, "architecture": {"a": "x"}}
    >>> found = record_diagnostics(line)
    >>> found["entropy"]["effective"], found["margin"]["mean"]
    (2.0, 0.0)

    Args:
        line: of this epoch, as written or as read.
        before: the lines of the epochs before it, in their order; later ones are passed over.
    """
    earlier = [other for other in before if other["epoch"] < line["epoch"]]
    found = {name: RECORDS[name](line, earlier) for name in RECORDS}
    return {name: reading for name, reading in found.items() if reading}
