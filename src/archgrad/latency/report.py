"""What there is to say of a latency table: numbers as plain values, then text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archgrad.architecture import Architecture
from archgrad.latency.models import POOR_ERROR, POOR_TAU, Additive
from archgrad.latency.published import PREFIX, published
from archgrad.latency.table import LatencyTable


def validation(table: LatencyTable) -> dict[str, Any] | None:
    """How the models of a table do on networks measured whole; None where none were.

    Each is judged by networks that it was not fitted to (the sum is fitted to none).
    """
    qualities = table.qualities
    if not qualities:
        return None
    name = table.model_name()
    chosen, whole = qualities[name], table.document["whole"]
    warnings = list(whole["rounds"]["warnings"])
    if chosen.tau < POOR_TAU or chosen.error > POOR_ERROR:
        warnings.append(
            f"the table tells networks poorly apart: Kendall τ {chosen.tau:.2f} (wanted {POOR_TAU}), "
            f"median error {chosen.error:.1%} (wanted {POOR_ERROR:.0%}); measure on a quieter machine, or "
            "give --predictor ridge or --predictor boosting"
        )
    change = whole["reference_change"]
    if abs(change) > table.document["plan"]["drift"]:
        warnings.append(
            f"between the pieces and the whole networks the machine became {abs(change):.0%} "
            f"{'slower' if change > 0 else 'faster'}, by the reference that both have; measure anew: --again"
        )
    additive = table.additive(name)
    sums = table.pieces.sum
    return {
        "networks": len(table.measured),
        "model": name,
        "models": {key: {k: round(v, 4) for k, v in q._asdict().items()} for key, q in qualities.items()},
        "fixed_ms": [round(sums.fixed, 6), round(additive.fixed, 6)],
        "correction": correction(table, additive),
        "warnings": warnings,
    }


def correction(table: LatencyTable, additive: Additive) -> dict[str, Any]:
    """What was fitted: the table is overhead + factor · pieces, and a step for each choice.

    overhead_ms is beside the factor times what the pieces outside the choices take. steps_ms: of each choice
    what is added where its candidate does anything, and where it does nothing; {} for a model without.
    """
    steps = zip(table.pieces.groups, additive.steps, strict=False)
    inner = {name for names in table.pieces.joint_names() for name in names[1:]}
    return {
        "overhead_ms": round(additive.fixed - additive.factor * table.pieces.sum.fixed, 6),
        "factor": round(additive.factor, 6),
        "steps_ms": {
            name: [round(float(n), 6) for n in row]
            for group, rows in steps
            for name, row in zip(group.names, rows, strict=True)
            if name not in inner
        },
    }


def latency_document(table: LatencyTable, architecture: Architecture | None = None) -> dict[str, Any]:
    """What there is to say of a table, and the latency of an architecture by it."""
    document = table.document
    cheapest, dearest = table.cost_table().bounds()
    found = {
        "table": table.source,
        **{
            key: document[key]
            for key in ("space", "device", "backend", "clock", "batch", "precision", "date")
        },
        "pieces": len(document["entries"]),
        "model": table.model_name(),
        "predictor": document.get("predictor"),
        "bounds_ms": [cheapest, dearest],
        "rounds": document["rounds"],
        "call": document["call"],
        "entries": document["entries"],
        "uncounted": document["uncounted"],
        "validation": validation(table),
    }
    if architecture is not None:
        found["predicted_ms"] = table.predict([architecture])[0]
    return found


def latency_text(document: Mapping[str, Any]) -> str:
    """The document of `latency_document` for a person."""
    device, backend, rounds = document["device"], document["backend"], document["rounds"]
    versions = ", ".join(f"{name} {version}" for name, version in backend["versions"].items())
    images = "image" if document["batch"] == 1 else "images"
    lines = [
        (
            f"{document['space']['name']} {'×'.join(map(str, document['space']['shape']))}, batch of "
            f"{document['batch']} {images}, {document['precision']}, {document['date']}"
        ),
        (
            f"{device['accelerator'] or device['processor']}, threads {device['threads']} of "
            f"{device['cores']} cores, time of the {document['clock']}; {versions}"
        ),
        "",
        f"{'piece':<44} {'median':>10} {'quartiles':>19} {'outliers':>9}",
    ]
    for entry in sorted(document["entries"].values(), key=lambda e: -e["median"]):
        quartiles = f"{entry['lower_quartile']:.4f}-{entry['upper_quartile']:.4f}"
        lines.append(
            f"{entry['what'][:44]:<44} {entry['median']:>7.4f} ms {quartiles:>19} "
            f"{entry['outliers']:>5}/{entry['n']}"
        )
    if (call := document["call"]) is not None:
        lines.append(f"of each of them a call by itself takes {call['median']:.4f} ms, which is taken off")
    low, high = document["bounds_ms"]
    lines += [
        "",
        (
            f"{rounds['counted']} rounds count, {rounds['dropped']} were dropped; the reference moved by "
            f"{rounds['drift']:.0%}, readings spread by {rounds['noise']:.0%}"
        ),
        f"networks of this space: {low:.3f} to {high:.3f} ms by the model {document['model']!r}",
    ]
    if (found := document["validation"]) is not None:
        lines += ["", f"against {found['networks']} random networks measured whole:"]
        lines.append(f"{'model':<10} {'Kendall τ':>10} {'median error':>13} {'worst':>7}")
        for name, quality in found["models"].items():
            mark = "  <- the table" if name == found["model"] else ""
            mark += "  <- the check" if name == document["predictor"] != found["model"] else ""
            lines.append(
                f"{name:<10} {quality['tau']:>10.3f} {quality['error']:>13.1%} {quality['worst']:>7.0%}{mark}"
            )
        before, after = found["fixed_ms"]
        lines.append(f"outside the choices: {before:.4f} ms by the pieces, {after:.4f} ms fitted")
        if found["model"] != "sum":
            lines.append(_correction_text(found["correction"]))
    else:
        lines.append("not compared with whole networks yet: add --validate 50")
    if "predicted_ms" in document:
        lines.append(f"the derived network: {document['predicted_ms']:.3f} ms")
    lines += [f"not measured: {what}" for what in document["uncounted"]]
    warnings = [*rounds["warnings"], *((found or {}).get("warnings", []))]
    return "\n".join([*lines, *(f"warning: {warning}" for warning in warnings)])


def _correction_text(fitted: Mapping[str, Any]) -> str:
    """One line for what `correction` says."""
    sign, overhead = ("+" if fitted["overhead_ms"] >= 0 else "-"), abs(fitted["overhead_ms"])
    text = f"the table is corrected: {fitted['factor']:.3f} · pieces {sign} {overhead:.4f} ms"
    if steps := fitted["steps_ms"].values():
        busy, idle = (sum(row[i] for row in steps) / len(steps) for i in (0, 1))
        text += (
            f", and for each choice {busy:.4f} ms on average where its candidate does anything, {idle:.4f} "
            "ms where it does nothing"
        )
    return text


def published_document(name: str) -> dict[str, Any]:
    """What there is to say of a device of NAS-Bench-201 (see `latency.published`)."""
    found = published(name.removeprefix(PREFIX))
    group, rows = found.table.choices[0], found.table.groups[0].tolist()
    return {
        "table": name,
        "fixed_ms": found.table.fixed,
        "bounds_ms": list(found.table.bounds()),
        "entries_ms": {
            edge: dict(zip(group.candidates, row, strict=True))
            for edge, row in zip(group.names, rows, strict=True)
        },
        "networks": 15_625,
        **found.quality._asdict(),
        "explained": found.explained,
    }


def published_text(document: Mapping[str, Any]) -> str:
    """The document of `published_document` for a person."""
    candidates = list(next(iter(document["entries_ms"].values())))
    low, high = document["bounds_ms"]
    lines = [
        f"{document['table']}: {low:.2f} to {high:.2f} ms, {document['fixed_ms']:.2f} outside the choices",
        f"{'ms':<12}" + "".join(f"{name:>14}" for name in candidates),
        *(
            f"{edge:<12}" + "".join(f"{row[name]:>14.3f}" for name in candidates)
            for edge, row in document["entries_ms"].items()
        ),
        (
            f"fitted to {document['networks']:,} measured networks: Kendall τ {document['tau']:.3f}, median "
            f"error {document['error']:.1%}, worst {document['worst']:.0%}, R² {document['explained']:.3f}"
        ),
    ]
    return "\n".join(lines)
