"""Latency budgets on NAS-Bench-201: 5 devices × 5 targets × 20 seeds.

Searched on validation accuracy after 12 epochs, with the true latency of every cell as its cost; scored on
test accuracy after 200 epochs, against the best of all cells within the target. The targets are quantiles of
the latencies of all cells. `known` is what a search that saw every cell's 12-epoch accuracy would lose.

    python benchmarks/budgets_landscape.py [--method snas] [--steps 300] [--candidates 32]
"""

from __future__ import annotations

import argparse
import time

from record import record

from archgrad.budgets.budget import Budget
from archgrad.budgets.on_landscape import search_within
from archgrad.lab.contenders import line_up
from archgrad.landscapes.cost import all_indices, nasbench201_cost
from archgrad.landscapes.nasbench201 import landscape

DEVICES = ("1080ti_1", "gold_6226", "pixel3", "raspi4", "fpga")
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", default="snas")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--candidates", type=int, default=32)
    given = parser.parse_args()
    searched, index = landscape(), all_indices(6, 5)
    truth, signal = searched.truth.values(index), searched.values(index)
    (contender,) = line_up(methods=[given.method], steps=given.steps).contenders
    rows = []
    print("device       target ms  expected  argmax in  derived in  one candidate  several  known")
    for device in DEVICES:
        cost = nasbench201_cost(f"latency_ms_{device}")
        latency = cost.values(index)
        for quantile in QUANTILES:
            budget = Budget(cost.name, float(latency.quantile(quantile)))
            within = latency <= budget.most
            best = float(truth[within].min())
            known = int(signal.masked_fill(~within, float("inf")).argmin())
            row: dict[str, float | str] = {
                "device": device,
                "quantile": quantile,
                "target_ms": budget.most,
                "known_gap": 100 * (float(truth[known]) - best),
            }
            began = time.perf_counter()
            for key, candidates in (("one_gap", 1), ("gap", given.candidates)):
                found = search_within(
                    contender, searched, [budget], [cost], searches=given.seeds, candidates=candidates
                )
                row[key] = 100 * (float(searched.truth.values(found.derived).mean()) - best)
            row |= {
                "expected_ms": float(found.expected.mean()),
                "argmax_within": float(found.met.double().mean()),
                "derived_within": float((found.costs[:, 0] <= budget.most).double().mean()),
                "derived_ms": float(found.costs.mean()),
                "seconds": time.perf_counter() - began,
            }
            rows.append(row)
            print(
                f"{device:<12} {budget.most:9.2f} {row['expected_ms']:9.2f} {row['argmax_within']:10.0%} "
                f"{row['derived_within']:11.0%} {row['one_gap']:14.2f} {row['gap']:8.2f} "
                f"{row['known_gap']:6.2f}",
                flush=True,
            )
    means = {
        key: sum(float(row[key]) for row in rows) / len(rows)
        for key in ("argmax_within", "derived_within", "one_gap", "gap", "known_gap")
    }
    print("mean: " + ", ".join(f"{key} {value:.3f}" for key, value in means.items()))
    record("budgets_landscape", {**vars(given), "means": means, "rows": rows})


if __name__ == "__main__":
    main()
