"""The numbers of a sweep over trained networks: fronts, hyper-volumes, table, CSV and figure."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from archgrad.budgets.budget import Budget, Kind, quantity
from archgrad.budgets.front import Point, Series, drawing, front, hyper_volume

COLOURS = {"searched": "#0b6fb8", "random": "#c0504d", "scaled": "#6b8e23"}
"""The series, in the order in which they are shown."""

_COLUMNS = (
    *("limit", "least", "most", "run", "series", "name", "cost", "met", "channels", "repaired"),
    *("parameters", "macs", "valid_accuracy", "test_accuracy", "seconds"),
)


def summarised(
    rows: Sequence[Mapping[str, Any]],
    document: Mapping[str, Any],
    first: Budget,
    last: Budget,
    finished: bool,
) -> dict[str, Any]:
    """The content of ``sweep.json``: what was given, the rows, and what they come to.

    Of each series (`searched`, `random`, `scaled`) the hyper-volume is of the logarithm of the cost and of
    the accuracy in percent, with a reference that all series share: the accuracy of the worst network, and
    the cost a step beyond the last limit. It is given as the share of the box that reaches from there to
    the least cost and the best accuracy of any network. Of R random architectures a limit it is the mean of
    R fronts of one each.

    Args:
        rows: of the limits that are done.
        document: what is known of the sweep.
        first, last: limits.
        finished: whether all limits are done.
    """
    result = {**document, "finished": finished, "limits": [dict(row) for row in rows]}
    if not rows:
        return result
    points = document["plan"]["points"]
    beyond = last.most * (last.target / first.target) ** (1 / (points - 1))
    for part in ("valid", "test"):
        result[part] = _volumes(rows, f"{part}_accuracy", beyond)
    return result


def _volumes(rows: Sequence[Mapping[str, Any]], key: str, beyond: float) -> dict[str, Any]:
    """Reference, fronts, and hyper-volumes by one of the two accuracies."""
    every = [_point(n, key) for row in rows for n in row["networks"]]
    reference = Point(beyond, min(p.accuracy for p in every))
    cheapest = min(p.cost for p in every)
    box = math.log(beyond / cheapest) * (max(p.accuracy for p in every) - reference.accuracy)
    logarithmic = Point(math.log(beyond), reference.accuracy)
    fronts, shares = {}, {}
    for series in COLOURS:
        lines = _lines(rows, series)
        if not lines:
            continue
        volumes = [
            hyper_volume((Point(math.log(n["cost"]), 100 * n[key]) for n in line), logarithmic)
            for line in lines
        ]
        fronts[series] = [p._asdict() for p in front(_point(n, key) for line in lines for n in line)]
        shares[series] = statistics.mean(volumes) / box if box else 0.0
    return {"reference": reference._asdict(), "fronts": fronts, "hyper_volume": shares}


def _lines(rows: Sequence[Mapping[str, Any]], series: str) -> list[list[Mapping[str, Any]]]:
    """The networks of a series, one a limit: of random ones the first of each limit, the second, …"""
    names = dict.fromkeys(n["name"] for row in rows for n in row["networks"] if n["series"] == series)
    return [[n for row in rows for n in row["networks"] if n["name"] == name] for name in names]


def _point(network: Mapping[str, Any], key: str) -> Point:
    return Point(network["cost"], 100 * network[key])


def text(document: Mapping[str, Any]) -> str:
    """The sweep as a table for a person; accuracies in percent, of random and scaled ones in the test."""
    kind, rows = _kind(document), document["limits"]
    wide = max((len(row["limit"]) for row in rows), default=5)
    head = f"{'cost':>9} {'repaired':>8} {'valid':>6} {'test':>6} {'random':>13} {'scaled':>15}"
    lines = [f"{'limit':<{wide}} {head}"]
    for row in rows:
        by_series = {s: [n for n in row["networks"] if n["series"] == s] for s in COLOURS}
        (searched,) = by_series["searched"]
        random = [100 * n["test_accuracy"] for n in by_series["random"]]
        spread = f" ± {statistics.stdev(random):.2f}" if len(random) > 1 else ""
        scaled = "".join(f"{100 * n['test_accuracy']:.2f} ({n['channels']} ch)" for n in by_series["scaled"])
        lines.append(
            f"{row['limit']:<{wide}} {quantity(searched['cost'], kind):>9} {row['changed']:>8} "
            f"{100 * searched['valid_accuracy']:>6.2f} {100 * searched['test_accuracy']:>6.2f} "
            f"{f'{statistics.mean(random):.2f}{spread}' if random else '-':>13} {scaled or '-':>15}"
        )
    if "test" in document:
        shares = document["test"]["hyper_volume"]
        shown = ", ".join(f"{series} {share:.1%}" for series, share in shares.items())
        lines.append(f"hyper-volume (share of the box of all networks, test): {shown}")
    if document["scaled_left_out"]:
        lines.append(f"no scaled networks: {document['scaled_left_out']}")
    if not document["finished"]:
        lines.append(f"{len(document['limits'])} of {document['plan']['points']} limits are done")
    return "\n".join(lines)


def csv_table(document: Mapping[str, Any]) -> str:
    """A line a network, as CSV."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=_COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in document["limits"]:
        writer.writerows({**row, **network} for network in row["networks"])
    return stream.getvalue()


def figure(document: Mapping[str, Any]) -> str:
    """Cost against test accuracy, as SVG: every network, the front of each series, the limits."""
    rows, kind = document["limits"], _kind(document)
    series = {}
    for name, colour in COLOURS.items():
        found = [_point(n, "test_accuracy") for row in rows for n in row["networks"] if n["series"] == name]
        if found:
            series[name] = Series(found, colour, line=True)
    return drawing(
        series,
        f"{document['cost']} of the network that was trained",
        "test accuracy (%)",
        show=lambda value: quantity(value, kind),
        logarithmic=True,
        limits=[row["most"] for row in rows],
    )


def _kind(document: Mapping[str, Any]) -> Kind:
    return Budget(document["cost"], 1.0).kind
