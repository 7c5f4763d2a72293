"""A recurrent cell searched and trained on the beginning of WikiText-2, beside its controls.

The first lines of each part of WikiText-2, so that two cores are done in about ten minutes. The controls
have the same recipe: random cells of the same space, and an LSTM with as many parameters. Perplexities are
those of this excerpt and its own vocabulary: they are not to be compared with published ones.

Usage: python benchmarks/wikitext2.py [--lines 1000] [--method darts] [--controls 2] [--seeds 1] [KEY=VALUE]
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
import time
from pathlib import Path
from typing import Any

from archgrad.config_layers import merge
from archgrad.config_layers import overrides as parse
from archgrad.datasets.location import locate
from archgrad.datasets.text import TextData, numbered, part_files
from archgrad.errors import UserError
from archgrad.summary import compare
from archgrad.verbs import derive_run, search_run, train_run

if __package__:
    from benchmarks.record import record
else:
    from record import record

SETTINGS: dict[str, Any] = {
    "space": {"name": "darts_rnn", "hidden": 96},
    "search": {"batch_size": 32, "epochs": 4, "warmup_epochs": 1},
    "train": {"batch_size": 32, "epochs": 8, "space": {"hidden": 96}},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=1000, help="of the training part; a fifth of the others")
    parser.add_argument("--method", default="darts")
    parser.add_argument("--controls", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    data = excerpt(given.lines)
    settings = merge(SETTINGS, {"method": given.method}, parse(given.overrides))
    began = time.perf_counter()
    runs = [one(data, {**settings, "seed": seed}, given.controls) for seed in range(given.seeds)]
    record(
        "wikitext2",
        {
            "what": "perplexity of a searched recurrent cell and of its controls, beginning of WikiText-2",
            "lines": given.lines,
            "words": {part: len(getattr(data, part)) for part in ("train", "valid", "test")},
            "vocabulary": len(data.vocabulary),
            "seconds": time.perf_counter() - began,
            "runs": runs,
        },
    )
    for run in runs:
        for network in run["networks"]:
            print(
                f"seed {run['seed']}  {network['name']:<10} test perplexity {network['test_perplexity']:.2f}"
            )
        print(f"against random cells: {run['outcome']}")


def excerpt(lines: int) -> TextData:
    """The first lines of WikiText-2, numbered by the words of its own training part."""
    try:
        folder = locate("wikitext-2", None)
    except UserError:
        folder = locate("wikitext2", None)
    files = part_files(folder)

    def first(part: str, count: int) -> list[str]:
        opened = gzip.open if files[part].suffix == ".gz" else open
        with opened(files[part], "rt", encoding="utf-8") as file:
            return [line for line, _ in zip(file, range(count), strict=False)]

    fifth = max(1, lines // 5)
    return numbered("wikitext2", first("train", lines), first("valid", fifth), first("test", fifth))


def one(data: TextData, settings: dict[str, Any], controls: int) -> dict[str, Any]:
    """Search, derive and train, in a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        run = search_run(settings, Path(folder) / "run", data=data)
        lines = run.read_lines("metrics.jsonl")
        derivation = derive_run(run.folder)
        trained = train_run(run.folder, controls=controls, data=data)
        networks = [trained.derived, *trained.controls]
        random = [-n["test_loss"] for n in trained.controls if n["kind"] == "random"]
        others = [-n["test_loss"] for n in trained.controls if n["kind"] != "random"]
        outcome = compare(-trained.derived["test_loss"], random, others)._asdict() if random else None
        return {
            "seed": settings["seed"],
            "settings": run.read_config(),
            "search_seconds": sum(line["seconds"] for line in lines),
            "search": [
                {k: line[k] for k in ("epoch", "train_loss", "valid_loss", "valid_accuracy", "entropy_mean")}
                for line in lines
            ],
            "architecture": {k: v for k, v in derivation.architecture.items() if v != "none"},
            "networks": [
                {
                    k: n[k]
                    for k in (
                        "name",
                        "kind",
                        "parameters",
                        "macs",
                        "seconds",
                        "valid_perplexity",
                        "test_perplexity",
                        "test_accuracy",
                    )
                }
                for n in networks
            ],
            "outcome": outcome,
        }


if __name__ == "__main__":
    main()
