"""A sweep over budgets on NAS-Bench-201: the front that searches find, beside the true one and a control."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from archgrad.atomic import write_text
from archgrad.budgets.budget import Kind, Range, quantity
from archgrad.budgets.front import Point, Series, drawing, front, hyper_volume
from archgrad.budgets.on_landscape import meeting, search_within
from archgrad.errors import UserError
from archgrad.lab.contenders import line_up
from archgrad.landscapes.cost import all_indices, nasbench201_cost
from archgrad.landscapes.nasbench201 import landscape as nasbench201
from archgrad.progress import Progress, Silent
from archgrad.randomness import Streams

LANDSCAPES = ("nasbench201",)
_COLUMNS = {"macs": "flops_cifar10", "parameters": "params_cifar10"}


def sweep_landscape(
    budget: str,
    out: Path | str,
    *,
    landscape: str = "nasbench201",
    points: int = 8,
    method: str = "snas",
    seeds: int = 20,
    steps: int = 300,
    candidates: int = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Search under every limit of a range, and compare with the true front.

    Searched is accuracy after 12 epochs; every number below is test accuracy after 200, in percent. The
    control is random search with as many evaluations: of so many random cells within the limit the one with
    the best accuracy after 12 epochs.

    Args:
        budget: a range, e.g. ``latency_ms_raspi4=10ms..60ms`` or ``macs=20M..200M``.
        out: folder for ``sweep.json``, ``sweep.csv`` and ``sweep.svg``.
        landscape: a table of results; ``nasbench201``.
        points: limits, each the same factor above the one before.
        method: a preset.
        seeds: searches a limit. steps: of each.
        candidates: evaluations at the end of a search (see `on_landscape.pick_within`).
        seed: root of all random streams.
        progress: where to show it.

    Returns:
        the content of ``sweep.json``.

    Raises:
        UserError: a range that is none, a limit that no cell meets, another landscape.
    """
    if landscape not in LANDSCAPES:
        raise UserError(f"a sweep needs true costs, which {landscape!r} has not; known: {LANDSCAPES[0]}")
    progress = progress or Silent()
    given = Range.parse(budget)
    if given.table is not None:
        raise UserError(f"budget {budget!r}: the landscape has costs of its own; leave the table out")
    if given.tolerance is not None:
        raise UserError(
            f"budget {budget!r}: on a landscape the limits are from above, as the true front is; leave the "
            "tolerance out"
        )
    cost = nasbench201_cost(_COLUMNS.get(given.cost, given.cost))
    searched, index = nasbench201(), all_indices(6, 5)
    (contender,) = line_up(methods=[method], steps=steps).contenders
    costs, accuracy = cost.values(index), 100 * (1 - searched.truth.values(index))
    limits = given.limits(points)
    for limit in limits:
        meeting(index, [limit], [cost])
    rows: list[dict[str, Any]] = []
    best_cells: list[int] = []
    found_points: list[list[Point]] = [[] for _ in range(seeds)]
    random_points: list[list[Point]] = [[] for _ in range(seeds)]
    for number, limit in enumerate(limits):
        progress.say(f"{limit} ({number + 1} of {points})")
        found = search_within(
            contender, searched, [limit], [cost], searches=seeds, seed=seed, candidates=candidates
        )
        reached = 100 * (1 - searched.truth.values(found.derived))
        control = _random_search(costs <= limit.most, searched.values(index), seeds, candidates, seed, number)
        best_cells.append(int(accuracy.masked_fill(costs > limit.most, -1.0).argmax()))
        best = float(accuracy[best_cells[-1]])
        for s in range(seeds):
            found_points[s].append(Point(float(found.costs[s, 0]), float(reached[s])))
            random_points[s].append(Point(float(costs[control[s]]), float(accuracy[control[s]])))
        rows.append(
            {
                "limit": limit.most,
                "cost": float(found.costs.mean()),
                "within": float((found.costs[:, 0] <= limit.most).double().mean()),
                "accuracy": float(reached.mean()),
                "accuracy_deviation": float(reached.std()) if seeds > 1 else None,
                "best": best,
                "distance": best - float(reached.mean()),
                "random": float(accuracy[control].mean()),
                "random_distance": best - float(accuracy[control].mean()),
            }
        )
    inside = costs <= given.most
    true = front(Point(c, a) for c, a in zip(costs[inside].tolist(), accuracy[inside].tolist(), strict=True))
    reference = Point(given.most, float(accuracy.median()))
    # what so few limits leave within reach: the best cell under each
    attainable = [Point(float(costs[k]), float(accuracy[k])) for k in best_cells]
    area = hyper_volume(attainable, reference)

    def share(fronts: list[list[Point]]) -> float:
        return sum(hyper_volume(one, reference) for one in fronts) / len(fronts) / area

    document = {
        "landscape": landscape,
        "cost": cost.name,
        "unit": cost.unit,
        "method": method,
        "settings": {"seeds": seeds, "steps": steps, "candidates": candidates, "seed": seed},
        "limits": rows,
        "true_front": [point._asdict() for point in true],
        "reference": reference._asdict(),
        "true_hyper_volume": hyper_volume(true, reference),
        "attainable_hyper_volume": area,
        "hyper_volume_share": share(found_points),
        "random_hyper_volume_share": share(random_points),
        "distance": sum(row["distance"] for row in rows) / points,
        "random_distance": sum(row["random_distance"] for row in rows) / points,
    }
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "sweep.json", json.dumps(document, indent=2) + "\n")
    write_text(folder / "sweep.csv", _table(rows))
    shown = min(p.accuracy for one in (*found_points, *random_points) for p in one)
    series = {
        "true front": Series([p for p in true if p.accuracy >= shown], "#333333", line=True, dots=False),
        f"{method}, {seeds} searches a limit": Series([p for one in found_points for p in one], "#0b6fb8"),
        "random search": Series([p for one in random_points for p in one], "#c0504d"),
    }
    write_text(
        folder / "sweep.svg",
        drawing(series, f"{cost.name} ({cost.unit})", "test accuracy (%)"),
    )
    return document


def text(document: dict[str, Any]) -> str:
    """The sweep as a table for a person."""
    kind: Kind = "time" if document["unit"] == "ms" else "count"
    lines = ["limit       cost        within  accuracy  best   distance  random search"]
    for row in document["limits"]:
        lines.append(
            f"{quantity(row['limit'], kind):<11} {quantity(row['cost'], kind):<11} {row['within']:>6.0%}"
            f"{row['accuracy']:>10.2f}{row['best']:>7.2f}{row['distance']:>9.2f}{row['random']:>13.2f}"
        )
    mean = (
        f"mean distance to the true front {document['distance']:.2f} points, of random search "
        f"{document['random_distance']:.2f}"
    )
    share = (
        f"share of the hyper-volume that these limits can cover {document['hyper_volume_share']:.1%}, of "
        f"random search {document['random_hyper_volume_share']:.1%}"
    )
    return "\n".join([*lines, mean, share])


def _random_search(
    allowed: Tensor, losses: Tensor, seeds: int, evaluations: int, seed: int, number: int
) -> Tensor:
    """Of some random allowed architectures the one with the least loss, for every seed: positions [S]."""
    position = allowed.nonzero().flatten()
    generator = Streams(seed).generator("sweep/random search", number)
    drawn = position[torch.randint(len(position), (seeds, evaluations), generator=generator)]
    return drawn.gather(1, losses[drawn].argmin(dim=1, keepdim=True)).squeeze(1)


def _table(rows: list[dict[str, Any]]) -> str:
    """As CSV."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
