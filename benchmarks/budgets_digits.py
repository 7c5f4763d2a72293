"""Networks within budgets on the digits: three targets of multiply-adds, ±5 %, searched and derived.

Printed are the expected cost at the end of the search, what the rule alone would have derived, what was
derived, and how many choices the repair changed.

    python benchmarks/budgets_digits.py [--methods gdas darts] [search.epochs=12 …]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from record import record

from archgrad.config_layers import merge, overrides
from archgrad.verbs import derive_run, search_run

TARGETS = ("0.8M±5%", "1.4M±5%", "2.2M±5%")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--methods", nargs="+", default=["gdas", "darts"])
    parser.add_argument("--space", default="nasbench201")
    parser.add_argument("settings", nargs="*", default=["search.epochs=12", "search.warmup_epochs=3"])
    given = parser.parse_args()
    rows = []
    for method in given.methods:
        for target in TARGETS:
            began = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                settings = merge(
                    {
                        "method": method,
                        "space": {"name": given.space},
                        "data": {"name": "digits"},
                        "budget": {"macs": target},
                    },
                    overrides(given.settings),
                )
                run = search_run(settings, Path(folder) / "run")
                line = run.read_lines("metrics.jsonl")[-1]
                derivation = derive_run(run.folder)
            (check,) = derivation.budgets
            repair = derivation.repair
            rows.append(
                {
                    "method": method,
                    "target": target,
                    "expected": line["budgets"]["macs"]["expected"],
                    "by_the_rule": repair["costs_before"]["macs"] if repair else check["value"],
                    "derived": check["value"],
                    "met": check["met"],
                    "changed": len(repair["changed"]) if repair else 0,
                    "log_probability_lost": repair["log_probability_lost"] if repair else 0.0,
                    "valid_accuracy": line["valid_accuracy"],
                    "seconds": time.perf_counter() - began,
                }
            )
            print(rows[-1], flush=True)
    record("budgets_digits", {"space": given.space, "settings": given.settings, "rows": rows})


if __name__ == "__main__":
    main()
