"""The numbers behind the pictures of an experiment. T recorded epochs, S runs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from archgrad.experiment.measures import RunCurves

Curves = dict[str, Any]
"""``{"at": [T], "entropy": band, "stability": band, "accuracy": band}``.

A band is None or ``{"mean", "lower", "upper"}`` of T numbers each, the quartiles over the runs; None where no
run has a number.
"""


def curves_of(
    at: Sequence[int],
    entropy: npt.ArrayLike | None,
    stability: npt.ArrayLike | None,
    accuracy: npt.ArrayLike | None,
) -> Curves:
    """Curves of quantities [T, S], NaN where a run has none."""
    return {
        "at": list(at),
        "entropy": band(entropy),
        "stability": band(stability),
        "accuracy": band(accuracy),
    }


def curves_of_runs(runs: Sequence[RunCurves]) -> Curves | None:
    """The curves of runs that may be of different length: at every epoch of those that came so far."""
    at = sorted({epoch for run in runs for epoch in run.at})
    if not at:
        return None

    def table(name: str) -> npt.NDArray[np.float64]:
        found = np.full((len(at), len(runs)), np.nan)
        place = {epoch: t for t, epoch in enumerate(at)}
        for s, run in enumerate(runs):
            for epoch, value in zip(run.at, getattr(run, name), strict=True):
                found[place[epoch], s] = np.nan if value is None else value
        return found

    return curves_of(at, table("entropy"), table("stability"), table("accuracy"))


def band(values: npt.ArrayLike | None) -> dict[str, list[float | None]] | None:
    """Mean and quartiles over the runs, of numbers [T, S]; None where there are none."""
    if values is None:
        return None
    table = np.asarray(values, dtype=float)
    if not np.isfinite(table).any():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of an epoch that no run has a number for
        mean = np.nanmean(table, axis=1)
        lower, upper = np.nanquantile(table, [0.25, 0.75], axis=1)
    return {"mean": _numbers(mean), "lower": _numbers(lower), "upper": _numbers(upper)}


def _numbers(values: npt.NDArray[np.float64]) -> list[float | None]:
    """With six significant digits; a page needs no more."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in values]
