"""Measure the derived network of a run whole, beside its budget and what the table predicted."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
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
    in the same way. The piece that the table has as its reference is timed in between, so that the document
    says whether the machine is as fast now as it was then.

    Args:
        folder: a run that has derived.
        given: fields of `How`; the others are those of the first such table, and without one the defaults.
        progress: where to show it.

    Returns:
        Plain values: `measured_ms` with its quartiles, `rounds`, `comparisons` (of each budget
        `predicted_ms`, `off_prediction`, `off_target` as shares, `met`, and `reference_change`, how much
        slower the machine is than it was), and `not_compared`, sentences.

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
    whole: dict[str, Any] = {"architecture": dict(architecture)}
    if file is not None and how.backend == "onnxruntime":
        whole["file"] = str(file.resolve())
    manifest = {
        **found.manifest,
        "groups": [],
        "nested": [],
        "fixed": {},
        "pieces": {key: piece for key, piece in pieces.items() if key == reference},
        "whole": [whole],
    }
    with tempfile.TemporaryDirectory() as name:
        partial = Path(name) / "partial"
        document = measured(target, found._replace(manifest=manifest), how, before, partial, progress)
    (network,), rounds = document["whole"]["networks"], document["whole"]["rounds"]
    change = document["whole"]["reference_change"] if before is not None else None
    milliseconds = network["median"]
    result = {
        "run": str(run.folder),
        "architecture": architecture.digest,
        "file": _EXPORTED if "file" in whole else None,
        **{key: document[key] for key in ("device", "backend", "clock", "batch", "precision")},
        "measured_ms": milliseconds,
        **{key: network[key] for key in ("lower_quartile", "upper_quartile", "n", "outliers")},
        "rounds": rounds,
        "comparisons": [_compared(b, t, architecture, milliseconds, change) for b, t in compared],
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


def _compared(
    budget: Budget, table: LatencyTable, architecture: Architecture, milliseconds: float, change: float | None
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
        "reference_change": change,
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
        end, slower = ("limit" if one["least_ms"] is None else "middle"), one["reference_change"] > 0
        now = f"{abs(one['reference_change']):.1%} {'slower' if slower else 'faster'}"
        lines += [
            f"budget {one['budget']}: {_off(one['off_target'])} its {end}, {'' if one['met'] else 'not '}met",
            f"{one['table']} predicted {one['predicted_ms']:.4f} ms: it is {off} that",
            f"the machine is {now} now than when that table was measured, by a piece that both have timed",
        ]
    lines += [f"not compared: {text}" for text in document["not_compared"]]
    return "\n".join([*lines, *(f"warning: {warning}" for warning in document["rounds"]["warnings"])])


def _off(share: float) -> str:
    return f"{abs(share):.1%} {'above' if share > 0 else 'below'}"
