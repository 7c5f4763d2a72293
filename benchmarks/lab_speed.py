"""How long the laboratory takes: 1,000 searches of 400 steps per contender, 20,000 draws per estimate.

On NAS-Bench-201, with as many threads as PyTorch takes; one run after another in one process.
"""

from __future__ import annotations

import torch
from record import record

from archgrad.lab.studies import LabSettings, study
from archgrad.progress import for_this_terminal


def main() -> None:
    settings = LabSettings(seeds=1000, steps=400, draws=20_000)
    document = study(settings, for_this_terminal())
    searches = {o["name"]: o["seconds"] for o in document["searches"]["outcomes"]}
    estimates: dict[str, list[float]] = {}
    for row in document["estimators"]:
        estimates.setdefault(row["name"], []).append(row["seconds"])
    print(f"slowest search: {max(searches, key=searches.__getitem__)}, {max(searches.values()):.1f} s")
    print(f"all estimates at one point: {sum(s[0] for s in estimates.values()):.1f} s")
    record(
        "lab_speed",
        {
            "seeds": 1000,
            "steps": 400,
            "draws": 20_000,
            "threads": torch.get_num_threads(),
            "search_seconds": searches,
            "estimate_seconds": estimates,
        },
    )


if __name__ == "__main__":
    main()
