"""A sweep over networks on the digits: four limits of multiply-adds, searched, random and scaled networks.

With --run a sweep that is there goes on, and one that is finished is only recorded.

    python benchmarks/sweep_digits.py [--run runs/front]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from record import record

from archgrad.verbs.sweep_networks import sweep_networks
from archgrad.verbs.sweep_results import text

RANGE = "macs=0.5M..3M"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = given.run or Path(folder) / "front"
        settings = {"data": {"name": "digits"}, "device": {"threads": 1}}
        document = sweep_networks([RANGE], place, settings, points=4, controls=2, resume=place.exists())
    print(text(document))
    record("sweep_digits", document)


if __name__ == "__main__":
    main()
