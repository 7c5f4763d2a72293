"""docs/genotypes.md shows every published cell and the counts that were kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from archgrad.genotypes import published
from archgrad.verbs.count import count_genotype

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "genotypes.md"


def test_the_table_is_the_kept_result() -> None:
    script = ROOT / "benchmarks" / "genotype_counts.py"
    shown = subprocess.run(
        [sys.executable, script, "--show"], capture_output=True, text=True, check=True
    ).stdout
    text = DOCUMENT.read_text(encoding="utf-8")
    block = text.split("<!-- results: begin", 1)[1].split("-->", 1)[1].split("<!-- results: end -->", 1)[0]
    assert block.strip() == shown.strip(), "run: python benchmarks/genotype_counts.py --write"
    assert block.count("| `") == 16


def test_the_kept_counts_are_those_of_today() -> None:
    kept = json.loads((ROOT / "benchmarks" / "results" / "genotype_counts.json").read_text("utf-8"))["counts"]
    assert list(kept) == list(published())
    for name in ("NASNet", "AmoebaNet", "PDARTS", "DrNAS_imagenet", "RNN_DARTS_V1"):
        for network, row in kept[name].items():
            counted = count_genotype(name, network)
            assert {key: counted[key] for key in row} == row


def test_every_cell_is_shown() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, cell in published().items():
        assert f"### {name}\n" in text
        assert cell.source in text
        assert f"](images/cells/{name}.svg)" in text
