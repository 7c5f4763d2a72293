"""How well a table of measured candidates predicts whole networks on this machine.

For each space and backend every distinct candidate is measured, then random networks whole, which are
compared with the sum of the table and with what corrects it (see docs/latency.md). One thread, batches of
one image. Wants a quiet machine; about a quarter of an hour on two cores, most of it exporting to ONNX.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from record import record

from archgrad.latency.candidates import Target
from archgrad.latency.report import latency_document, latency_text
from archgrad.progress import for_this_terminal
from archgrad.verbs.latency import How, measure_latency

SHAPE = (3, 32, 32)
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "nasbench201 C=16 N=5, torch": ("nasbench201", {}, "torch"),
    "nasbench201 C=16 N=1, torch": ("nasbench201", {"cells": 1}, "torch"),
    "nasbench201 C=16 N=1, onnxruntime": ("nasbench201", {"cells": 1}, "onnxruntime"),
    "darts C=16, 8 cells, torch": ("darts", {"channels": 16, "cells": 8, "auxiliary": False}, "torch"),
    "mobile C=16, torch": ("mobile", {}, "torch"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--clock", default="wall", help="wall, or processor on a busy machine")
    parser.add_argument("--case", help="the cases whose name has this in it, without a record")
    given = parser.parse_args()
    found = {}
    for name, (space, settings, backend) in CASES.items():
        if (given.case or "") not in name:
            continue
        target = Target.of(space, SHAPE, 10, settings)
        with tempfile.TemporaryDirectory() as folder:
            table = measure_latency(
                target,
                Path(folder) / "table.json",
                How(backend, clock=given.clock, rounds=given.rounds),
                validate=given.networks,
                progress=for_this_terminal(),
            )
        document = latency_document(table)
        print(f"== {name}\n{latency_text(document)}\n", flush=True)
        kept = ("pieces", "model", "bounds_ms", "rounds", "validation", "backend")
        found[name] = {key: document[key] for key in kept}
    if not given.case:
        record("latency_validation", {"clock": given.clock, "rounds": given.rounds, "cases": found})


if __name__ == "__main__":
    main()
