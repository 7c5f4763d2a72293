"""Smaller spaces of DARTS cells, on which plain DARTS fails or that leave `none` out.

S1 to S4: Zela et al. 2020, RobustDARTS (arXiv 1909.09656), section 3; candidates as in the authors' code.
In S1 every edge has two candidates of its own, the two that a search of the whole space ranked first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from archgrad.spaces.cell import DARTS, DARTS_CANDIDATES, DartsNetwork
from archgrad.spaces.space import Space

_SKIP, _MAX, _AVG = "skip_connect", "max_pool_3x3", "avg_pool_3x3"
_SEP, _DIL3, _DIL5 = "sep_conv_3x3", "dil_conv_3x3", "dil_conv_5x5"

_S1_PAIRS = {  # edges in order 2<-0, 2<-1, 3<-0, … 5<-4
    "normal": [
        (_SKIP, _DIL3),
        (_SKIP, _DIL5),
        (_SKIP, _DIL5),
        (_SKIP, _SEP),
        (_SKIP, _DIL3),
        (_MAX, _SKIP),
        (_SKIP, _SEP),
        (_SKIP, _SEP),
        (_SKIP, _DIL3),
        (_SKIP, _SEP),
        (_MAX, _SKIP),
        (_SKIP, _DIL3),
        (_DIL3, _DIL5),
        (_DIL3, _DIL5),
    ],
    "reduce": [
        (_MAX, _AVG),
        (_MAX, _DIL3),
        (_MAX, _AVG),
        (_MAX, _AVG),
        (_SKIP, _DIL5),
        (_MAX, _AVG),
        (_MAX, _SEP),
        (_SKIP, _DIL3),
        (_SKIP, _DIL5),
        (_MAX, _AVG),
        (_MAX, _AVG),
        (_SKIP, _DIL5),
        (_SKIP, _DIL5),
        (_SKIP, _DIL5),
    ],
}
_EDGES = [f"{node}<-{source}" for node in range(2, 6) for source in range(node)]

S1_CANDIDATES: Mapping[str, Sequence[str]] = {
    f"{kind}/{edge}": pair
    for kind, pairs in _S1_PAIRS.items()
    for edge, pair in zip(_EDGES, pairs, strict=True)
}
"""Candidates of S1 by the edge's choice."""


def _space(candidates: Sequence[str] | Mapping[str, Sequence[str]]) -> Space:
    """The DARTS space with other candidates."""
    return replace(DARTS, builder=partial(DartsNetwork, candidates=candidates))


S1 = _space(S1_CANDIDATES)
S2 = _space((_SKIP, _SEP))
S3 = _space(("none", _SKIP, _SEP))
S4 = _space(("noise", _SEP))
REDUCED_DARTS = _space(DARTS_CANDIDATES[1:])
PC_DARTS = replace(
    DARTS,
    search={**DARTS.search, "partial_channels": 4, "edge_normalisation": True},
    searching={
        "search": {"batch_size": 256, "warmup_epochs": 15},
        "weights": {"learning_rate": 0.1, "final_learning_rate": 0.0},
        "architecture": {"learning_rate": 6e-4},
    },
)
