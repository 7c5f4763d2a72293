"""From a table of pieces to the latency of a whole network: the sum, and what corrects it.

An additive model is fixed + Σ over choices of the chosen candidate's number, so it is a `CostTable`. With
networks measured whole, the sum can be corrected: by a line (a network costs something by itself, and pieces
are slower or faster in company), by a number for each choice (what it costs to go into a candidate and out
again), or by a number for each candidate, shrunk towards zero (ridge). Boosted trees are not additive. No
number of an additive model is negative, as costs are not.
Times in milliseconds; N networks, E choices, K candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archgrad.architecture import Architecture
from archgrad.architecture_warnings import NONE
from archgrad.choice import Group
from archgrad.errors import UserError
from archgrad.table import nearest

Floats = NDArray[np.float64]
FOLDS = 5
WORTH, WORTH_LEAST = 0.95, 1e-3
"""Where the error is below this share of a simpler model's, and less by this, more numbers are worth it."""


POOR_TAU, POOR_ERROR = 0.8, 0.15
"""Below this Kendall τ, or above this median relative error, a table is called poor."""


class Joint(NamedTuple):
    """What some choices take together, as a block and its width: Σ numbers[k1, …, kn] · z1[k1] ⋯ zn[kn].

    places: of each choice its group and its row there, outer ones first. numbers: [K1, …, Kn].
    """

    places: tuple[tuple[int, int], ...]
    numbers: Floats

    def at(self, chosen: Sequence[Floats]) -> Floats:
        """Milliseconds [N] for one [N, E, K] a group."""
        total = np.broadcast_to(self.numbers, (len(chosen[0]), *self.numbers.shape))
        for group, row in reversed(self.places):
            z = chosen[group][:, row]
            total = (total * z.reshape(len(z), *(1,) * (total.ndim - 2), -1)).sum(axis=-1)
        return total


class Additive(NamedTuple):
    """fixed + Σ over choices + Σ over `joint`; `numbers` has one [E, K] a group.

    factor, steps: how a line came to them: factor · (what the pieces say), and of each choice, one [E, 2] a
    group, what is added where its candidate does anything and where it does nothing; () for none.
    """

    fixed: float
    numbers: tuple[Floats, ...]
    factor: float = 1.0
    steps: tuple[Floats, ...] = ()
    joint: tuple[Joint, ...] = ()

    def times(self, factor: float) -> tuple[Joint, ...]:
        """`joint` with all its numbers multiplied."""
        return tuple(one._replace(numbers=factor * one.numbers) for one in self.joint)


class Pieces(NamedTuple):
    """What a table says of a space.

    groups: its choices. sum: the additive model that the pieces are.
    works: of each group [E, K], whether the candidate does anything.
    """

    groups: tuple[Group, ...]
    sum: Additive
    works: tuple[NDArray[np.bool_], ...]

    def joint_names(self) -> list[tuple[str, ...]]:
        """The choices of each of `sum.joint`."""
        return [tuple(self.groups[g].names[e] for g, e in one.places) for one in self.sum.joint]

    def outer(self) -> tuple[Floats, ...]:
        """Of each group [E, 1]: 1 for a choice by itself, 0 for one that stands in a candidate of another."""
        inner = {name for names in self.joint_names() for name in names[1:]}
        return tuple(np.array([[float(name not in inner)] for name in group.names]) for group in self.groups)


Model = Callable[[Sequence[Architecture]], Floats]
"""Architectures -> predicted milliseconds [N]."""


def one_hot(pieces: Pieces, architectures: Sequence[Architecture]) -> list[Floats]:
    """Which candidates are chosen: one [N, E, K] a group; a dropped choice is a row of zeros."""
    found = []
    for group in pieces.groups:
        z = np.zeros((len(architectures), len(group.names), len(group.candidates)))
        for n, architecture in enumerate(architectures):
            for e, name in enumerate(group.names):
                candidate = architecture.get(name)
                if candidate in group.candidates:
                    z[n, e, group.candidates.index(candidate)] = 1
                elif not (group.kind == "droppable" and candidate == NONE):
                    raise UserError(
                        f"the architecture has {candidate!r} at choice {name!r}; the table has "
                        f"{', '.join(group.candidates)} there"
                    )
        found.append(z)
    return found


def predict(model: Additive, chosen: Sequence[Floats]) -> Floats:
    """Milliseconds [N] for one [N, E, K] a group."""
    total = np.full(len(chosen[0]), model.fixed)
    for z, numbers in zip(chosen, model.numbers, strict=True):
        total += (z * numbers).sum(axis=(1, 2))
    for joint in model.joint:
        total += joint.at(chosen)
    return total


def fit_sum(pieces: Pieces, chosen: Sequence[Floats], measured: Floats) -> Additive:
    """The sum of the pieces as it is."""
    return pieces.sum


def fit_scaled(pieces: Pieces, chosen: Sequence[Floats], measured: Floats) -> Additive:
    """fixed + b · (sum over choices), fixed and b of least absolute relative error, neither negative."""
    varying = _varying(pieces, chosen)
    fixed, b = _relative_fit(np.stack([np.ones_like(varying), varying], axis=1), measured)
    numbers = tuple(b * n for n in pieces.sum.numbers)
    return Additive(float(fixed), numbers, float(b), joint=pieces.sum.times(b))


def fit_boundary(pieces: Pieces, chosen: Sequence[Floats], measured: Floats) -> Additive:
    """`fit_scaled` and a number for each choice, where its candidate does anything; likewise.

    Where going through a candidate is faster than the pieces say, the number stands at those that do nothing.
    """
    varying = _varying(pieces, chosen)
    columns = [np.ones_like(varying), varying]
    for z, works in zip(_by_themselves(pieces, chosen), pieces.works, strict=True):
        columns += [*(z * works).sum(axis=2).T, *(z * ~works).sum(axis=2).T]
    fixed, b, *rest = _relative_fit(np.stack(columns, axis=1), measured)
    numbers, steps, left = [], [], np.asarray(rest)
    for entries, works in zip(pieces.sum.numbers, pieces.works, strict=True):
        (busy, idle), left = left[: 2 * len(entries)].reshape(2, -1, 1), left[2 * len(entries) :]
        numbers.append(b * entries + np.where(works, busy, idle))
        steps.append(np.concatenate([busy, idle], axis=1))
    return Additive(float(fixed), tuple(numbers), float(b), tuple(steps), pieces.sum.times(b))


def fit_ridge(pieces: Pieces, chosen: Sequence[Floats], measured: Floats) -> Additive:
    """`fit_scaled`, and a number for each candidate by ridge regression of what is left (scikit-learn).

    How much the numbers are shrunk is chosen by leaving out one network at a time. Times that would come out
    negative are 0.
    """
    from sklearn.linear_model import RidgeCV

    line = fit_scaled(pieces, chosen, measured)
    ridge = RidgeCV(alphas=np.logspace(-2, 3, 11))
    ridge.fit(_features(_by_themselves(pieces, chosen)), measured - predict(line, chosen))
    numbers, rest = [], np.asarray(ridge.coef_)
    for entries, outer in zip(line.numbers, pieces.outer(), strict=True):
        here, rest = rest[: entries.size], rest[entries.size :]
        numbers.append(entries + outer * here.reshape(entries.shape))
    found = line._replace(fixed=line.fixed + float(ridge.intercept_), numbers=tuple(numbers))
    return _not_negative(pieces.groups, found)


def _not_negative(groups: Sequence[Group], model: Additive) -> Additive:
    """The same sums without negative numbers, as far as there are such; what is left of them is 0."""
    fixed, numbers = model.fixed, []
    for group, rows in zip(groups, model.numbers, strict=True):
        if (
            group.kind == "choice"
        ):  # exactly one of a row is chosen, so the least can be moved to the fixed part
            least = rows.min(axis=1, keepdims=True)
            fixed, rows = fixed + float(least.sum()), rows - least
        numbers.append(rows.clip(min=0.0))
    return model._replace(fixed=max(fixed, 0.0), numbers=tuple(numbers))


def _varying(pieces: Pieces, chosen: Sequence[Floats]) -> Floats:
    """The sum of the pieces without the fixed part [N]."""
    return predict(pieces.sum._replace(fixed=0.0), chosen)


def _relative_fit(features: Floats, measured: Floats) -> Floats:
    """Numbers, none negative, of least Σ |prediction − measured| / measured; a linear program.

    Absolute errors and not squares, as some networks are measured while the machine does something else. What
    is far below the others (timers of phones say 0.003 ms at times) is divided by a quarter of their median.
    """
    from scipy.optimize import linprog

    scale = np.maximum(measured, np.median(measured) / 4)
    rows, columns = features / scale[:, None], features.shape[1]
    wanted, errors = measured / scale, np.eye(len(measured))
    solved = linprog(  # each error is at least the difference in either direction
        np.concatenate([np.zeros(columns), np.ones(len(measured))]),
        A_ub=np.block([[rows, -errors], [-rows, -errors]]),
        b_ub=np.concatenate([wanted, -wanted]),
        method="highs",
    )
    return np.asarray(solved.x[:columns])


def _by_themselves(pieces: Pieces, chosen: Sequence[Floats]) -> list[Floats]:
    """Zeros for choices inside candidates of others: their time is in that of the candidate."""
    return [z * outer for z, outer in zip(chosen, pieces.outer(), strict=True)]


def _features(chosen: Sequence[Floats]) -> Floats:
    """[N, Σ E·K]"""
    return np.concatenate([z.reshape(len(z), -1) for z in chosen], axis=1)


FITS: dict[str, Callable[[Pieces, Sequence[Floats], Floats], Additive]] = {
    "sum": fit_sum,
    "scaled": fit_scaled,
    "boundary": fit_boundary,
    "ridge": fit_ridge,
}
"""The additive models by name, from the simplest on."""

MODELS = (*FITS, "boosting")
PREDICTORS = ("ridge", "boosting")


def needed(name: str, pieces: Pieces) -> int:
    """Networks that must have been measured whole before a model can be fitted."""
    choices = int(sum(outer.sum() for outer in pieces.outer()))
    return {"sum": 0, "scaled": 5, "boundary": 2 * (choices + 2)}.get(name, 20)


def check(name: str, pieces: Pieces, networks: int) -> None:
    """Refuse an unknown model, or one for which too few networks were measured.

    Raises:
        UserError: says how many are wanted.
    """
    if name not in MODELS:
        raise UserError(f"unknown model {name!r}{nearest(name, MODELS)}; known: {', '.join(MODELS)}")
    if networks < needed(name, pieces):
        raise UserError(
            f"the model {name!r} of this space needs {needed(name, pieces)} networks measured whole, the "
            f"table has {networks}: measure them with  archgrad latency … --validate {needed(name, pieces)}"
        )


def fit(
    name: str, pieces: Pieces, chosen: Sequence[Floats], measured: Floats
) -> Callable[[Sequence[Floats]], Floats]:
    """A model fitted to networks measured whole: one [N, E, K] a group -> milliseconds [N].

    "boosting": gradient-boosted trees (scikit-learn) on what is chosen, for the logarithm of the ratio to
    "scaled".
    """
    if name in FITS:
        additive = FITS[name](pieces, chosen, measured)
        return lambda given: predict(additive, given)
    from sklearn.ensemble import GradientBoostingRegressor

    line = fit_scaled(pieces, chosen, measured)
    least = measured.min() / 2  # a line can say 0 of a network
    trees = GradientBoostingRegressor(
        n_estimators=300, max_depth=4, min_samples_leaf=3, learning_rate=0.05, subsample=0.7, random_state=0
    )

    def start(given: Sequence[Floats]) -> Floats:
        return predict(line, given).clip(min=least)

    def inputs(given: Sequence[Floats]) -> Floats:
        return np.column_stack([_features(given), start(given)])

    trees.fit(inputs(chosen), np.log(measured / start(chosen)))
    return lambda given: np.asarray(np.exp(trees.predict(inputs(given))) * start(given))


def held_out(name: str, pieces: Pieces, chosen: Sequence[Floats], measured: Floats) -> Floats:
    """Predictions [N] for each network by a model that was fitted without it, and without a fifth of all."""
    order = np.random.default_rng(0).permutation(len(measured))
    found = np.empty(len(measured))
    for fold in range(FOLDS):
        out = order[fold::FOLDS]
        rest = np.setdiff1d(order, out)
        model = fit(name, pieces, [z[rest] for z in chosen], measured[rest])
        found[out] = model([z[out] for z in chosen])
    return found


class Quality(NamedTuple):
    """How near predictions are to measured networks.

    tau: Kendall's τ. error: median of |prediction − measured| / measured. worst: the largest of these.
    """

    tau: float
    error: float
    worst: float

    @classmethod
    def of(cls, predicted: Floats, measured: Floats) -> Quality:
        """Compare [N] with [N]."""
        from scipy.stats import kendalltau

        off = np.abs(predicted - measured) / measured
        tau = float(kendalltau(predicted, measured).statistic)
        return cls(tau if np.isfinite(tau) else 0.0, float(np.median(off)), float(off.max()))


def compare(
    pieces: Pieces,
    architectures: Sequence[Architecture],
    measured: Sequence[float],
    names: Sequence[str] = MODELS,
) -> dict[str, Quality]:
    """The models for which enough networks were measured, on networks they were not fitted to."""
    chosen, times = one_hot(pieces, architectures), np.asarray(measured, dtype=np.float64)
    fitting = [name for name in names if needed(name, pieces) <= len(times)]
    return {name: Quality.of(held_out(name, pieces, chosen, times), times) for name in fitting}


def choose(qualities: Mapping[str, Quality], names: Sequence[str] = ("sum", "scaled", "boundary")) -> str:
    """The model of the least error; one with more numbers has to be clearly better.

    >>> choose({"sum": Quality(0.9, 0.10, 0.2), "scaled": Quality(0.9, 0.099, 0.2)})
    'sum'
    """
    best = "sum"
    for name in names:
        if name in qualities:
            error, simpler = qualities[name].error, qualities[best].error
            best = name if error < min(WORTH * simpler, simpler - WORTH_LEAST) else best
    return best


def pieces_of(document: Mapping[str, Any]) -> Pieces:
    """Groups and net milliseconds of a table's document, whose entries are all there."""
    call = document["call"]["median"] if document["call"] else 0.0
    entries = document["entries"]

    def net(cell: Mapping[str, int]) -> float:
        return float(sum(n * max(entries[key]["median"] - call, 0.0) for key, n in cell.items()))

    groups = tuple(Group(tuple(g["candidates"]), tuple(g["names"]), g["kind"]) for g in document["groups"])
    numbers = tuple(
        np.array([[net(cell) for cell in row] for row in g["entries"]], dtype=np.float64)
        for g in document["groups"]
    )
    works = tuple(
        np.array([[any(not entries[key]["idle"] for key in cell) for cell in row] for row in g["entries"]])
        for g in document["groups"]
    )
    places = {name: (g, e) for g, group in enumerate(groups) for e, name in enumerate(group.names)}
    joint = []
    for one in document.get("nested", ()):
        at = tuple(places[name] for name in one["names"])
        together = np.zeros([len(groups[g].candidates) for g, _ in at])
        for cell in one["cells"]:
            index = tuple(groups[g].candidates.index(c) for (g, _), c in zip(at, cell["at"], strict=True))
            together[index] = net(cell["pieces"])
            (g, e), k = at[0], index[0]
            works[g][e, k] |= any(not entries[key]["idle"] for key in cell["pieces"])
        joint.append(Joint(at, together))
    return Pieces(groups, Additive(net(document["fixed"]) + call, numbers, joint=tuple(joint)), works)
