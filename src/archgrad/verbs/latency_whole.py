"""Measure the derived network of a run whole, beside its budget and what the table predicted."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from archgrad.architecture import Architecture
from archgrad.budgets.budget import Budget, parse_all
from archgrad.errors import UserError
from archgrad.latency.candidates import Target, find
from archgrad.latency.published import PREFIX
from archgrad.latency.table import LatencyTable
from archgrad.progress import Progress, Silent
from archgrad.runs import Run
from archgrad.verbs.contents import read_architecture, read_config
from archgrad.verbs.latency import How, measured, target_of_run

_EXPORTED, _RESULT = "export/model.onnx", "train/derived/result.json"
REFERENCES = 3
_COMPARED = ("backend", "threads", "batch", "precision", "device", "clock")  # of `How`


def how_of(table: LatencyTable) -> How:
    """How a table was measured."""
    document = table.document
    return How(
        backend=document["backend"]["name"],
        threads=str(document["device"]["threads"]),
        batch=document["batch"],
        precision=document["precision"],
        device="cuda" if document["device"]["accelerator"] is not None else "cpu",
        clock=document["clock"],
        rounds=document["plan"]["rounds"],
        drift=document["plan"]["drift"],
    )


def measure_derived(
    folder: Path | str, given: Mapping[str, Any] | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Measure the derived network of a run on this machine; written to ``latency.json`` in the run, too.

    With ONNX Runtime that is the exported file, where there is one; else the network is built as ``archgrad
    train`` builds it. It is compared with each budget of the run whose table was measured on this machine and
    in the same way. Up to `REFERENCES` networks that the table measured whole are timed in between (without
    such the piece that it has as its reference), so that it is known whether the machine is as fast as then.
    Networks are the better reference, as they need as much of what other programs take, caches and memory.

    Args:
        folder: a run that has derived.
        given: fields of `How`; the others are those of the first such table, and without one the defaults.
        progress: where to show it.

    Returns:
        Plain values: `measured_ms` with its quartiles, `rounds`, `comparisons` (of each budget
        `predicted_ms`, `off_prediction`, `off_target` as shares, `met`), and `not_compared`, sentences. The
        first comparison also has `reference_change`, how much slower the machine is than it was,
        `references`, by so many networks (0: by a piece), and `then_ms`, the network's time at that speed.

    Raises:
        UserError: the run has not derived, or wrong settings.
        WorkError: the machine cannot be measured on now.
    """
    run, progress = Run.open(folder), progress or Silent()
    architecture = read_architecture(run)
    target, file = _network(run, architecture)
    budgets = [b for b in parse_all(read_config(run).budget) if b.table is not None and b.kind == "time"]
    fitting, others = _tables(target, budgets)
    how = replace(how_of(fitting[0][1]) if fitting else How(), **(given or {}))
    how = replace(how, threads=str(how.check()[0]))  # "all" is a number
    compared: list[tuple[Budget, LatencyTable]] = []
    for budget, table in fitting:
        was = how_of(table)
        differing = [
            f"{name} {getattr(was, name)}, not {getattr(how, name)}"
            for name in _COMPARED
            if getattr(was, name) != getattr(how, name)
        ]
        if differing:
            others.append(f"{budget}: its table was measured with {', '.join(differing)}")
        else:
            compared.append((budget, table))
    before = compared[0][1] if compared else None
    found = find(target, how.batch, how.precision)
    pieces = found.manifest["pieces"]
    if before is not None:
        reference = before.document["reference"]
    else:  # any, to be timed beside the network
        reference = next(key for key in found.manifest["fixed"] if len(pieces[key]["inputs"][0]) == 3)
    known = _references(before)
    whole: dict[str, Any] = {"architecture": dict(architecture)}
    if file is not None and how.backend == "onnxruntime":
        whole["file"] = str(file.resolve())
    manifest = {
        **found.manifest,
        "groups": [],
        "nested": [],
        "fixed": {},
        "pieces": {key: piece for key, piece in pieces.items() if key == reference},
        "whole": [whole, *({"architecture": dict(one)} for one, _ in known)],
    }
    with tempfile.TemporaryDirectory() as name:
        partial = Path(name) / "partial"
        document = measured(target, found._replace(manifest=manifest), how, before, partial, progress)
    (network, *others_now), rounds = document["whole"]["networks"], document["whole"]["rounds"]
    changes = [now["median"] / then - 1 for now, (_, then) in zip(others_now, known, strict=True)]
    change = median(changes) if changes else document["whole"]["reference_change"]
    milliseconds = network["median"]
    comparisons = [_compared(b, t, architecture, milliseconds) for b, t in compared]
    if comparisons:
        then = milliseconds / (1 + change)
        comparisons[0] |= {
            "reference_change": change,
            "references": len(changes),
            "then_ms": then,
            "then_off_target": then / compared[0][0].target - 1,
        }
    result = {
        "run": str(run.folder),
        "architecture": architecture.digest,
        "file": _EXPORTED if "file" in whole else None,
        **{key: document[key] for key in ("device", "backend", "clock", "batch", "precision")},
        "measured_ms": milliseconds,
        **{key: network[key] for key in ("lower_quartile", "upper_quartile", "n", "outliers")},
        "rounds": rounds,
        "comparisons": comparisons,
        "not_compared": others,
    }
    run.write_json("latency.json", result)
    run.log(f"measured {milliseconds:.4g} ms")
    return result


def _network(run: Run, architecture: Architecture) -> tuple[Target, Path | None]:
    """The networks of a run as they are trained, with the exported file of this one where there is one."""
    target = target_of_run(run.folder)
    if not run.exists(_RESULT):
        return target, None
    result = run.read_json(_RESULT)
    with run.reading(_RESULT):
        if result["architecture"] != dict(architecture):  # derived anew since
            return target, None
        target = Target.of(target.space, target.shape, target.classes, result["settings"])
    return target, run.path(_EXPORTED) if run.exists(_EXPORTED) else None


def _tables(target: Target, budgets: Sequence[Budget]) -> tuple[list[tuple[Budget, LatencyTable]], list[str]]:
    """(budgets with tables of this machine and of these networks, why others are not compared)."""
    found, others = [], []
    for budget in budgets:
        name = str(budget.table)
        if name.startswith(PREFIX):
            others.append(f"{budget}: {name} is another device")
            continue
        try:
            table = LatencyTable.read(name)
            table.check_target(target)
            table.check_device()
        except UserError as error:
            others.append(f"{budget}: {error}")
        else:
            found.append((budget, table))
    return found, others


def _references(table: LatencyTable | None) -> list[tuple[Architecture, float]]:
    """Networks that a table measured whole, spread over their latencies, with their milliseconds."""
    if table is None or not table.measured:
        return []
    ordered = sorted(zip(table.architectures, table.measured, strict=True), key=lambda pair: pair[1])
    return [ordered[(2 * i + 1) * len(ordered) // (2 * REFERENCES)] for i in range(REFERENCES)]


def _compared(
    budget: Budget, table: LatencyTable, architecture: Architecture, milliseconds: float
) -> dict[str, Any]:
    predicted = table.cost_table().of(architecture)
    return {
        "budget": str(budget),
        "table": table.source,
        "model": table.model_name(),
        "least_ms": budget.least,
        "most_ms": budget.most,
        "target_ms": budget.target,
        "predicted_ms": predicted,
        "off_prediction": milliseconds / predicted - 1,
        "off_target": milliseconds / budget.target - 1,
        "met": budget.met(milliseconds),
    }


def derived_text(document: Mapping[str, Any]) -> str:
    """The document of `measure_derived` for a person."""
    device, versions = document["device"], document["backend"]["versions"]
    lines = [
        (
            f"{document['file'] or 'the derived network'}: {document['measured_ms']:.4f} ms (quartiles "
            f"{document['lower_quartile']:.4f}-{document['upper_quartile']:.4f}, {document['n']} readings)"
        ),
        (
            f"{device['accelerator'] or device['processor']}, threads {device['threads']}, batch of "
            f"{document['batch']}, {document['precision']}, time of the {document['clock']}; "
            + ", ".join(f"{name} {version}" for name, version in versions.items())
        ),
    ]
    for one in document["comparisons"]:
        off = _off(one["off_prediction"])
        end = "limit" if one["least_ms"] is None else "middle"
        lines += [
            f"budget {one['budget']}: {_off(one['off_target'])} its {end}, {'' if one['met'] else 'not '}met",
            f"{one['table']} predicted {one['predicted_ms']:.4f} ms: it is {off} that",
        ]
        if "then_ms" in one:
            change, count = one["reference_change"], one["references"]
            now = f"{abs(change):.1%} {'slower' if change > 0 else 'faster'}"
            lines += [
                f"the machine is {now} now than when that table was measured, by "
                + (f"{count} networks that both have timed" if count else "a piece that both have timed"),
                f"at its speed then: {one['then_ms']:.4f} ms, {_off(one['then_off_target'])} that {end}",
            ]
    lines += [f"not compared: {text}" for text in document["not_compared"]]
    return "\n".join([*lines, *(f"warning: {warning}" for warning in document["rounds"]["warnings"])])


def _off(share: float) -> str:
    return f"{abs(share):.1%} {'above' if share > 0 else 'below'}"
